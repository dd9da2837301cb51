"""Measures of a decoded clip, taken during the single pass of extraction. The suite `features` judges them."""

import numpy as np
import soxr
import webrtcvad

from schemas.feature import Profile
from schemas.manifest import Row
from schemas.waveforms import INT16_SCALE, SAMPLE_RATE_HZ
from tasks.media.decode import Decoded

BLOCK_PX = 8  # pictures are judged by block means, below compression noise
STILL_LUMA = 1.5  # block means of a still picture differ by less after lossy coding
SPEECH_MS = 30  # the longest window that WebRTC's detector takes
SPEECH_CAUTION = 2  # of 0 to 3: how certain it has to be


def measure_clip(decoded: Decoded, profile: Profile) -> Row:
    """The measures of a clip's pictures and sound up to `valid_ms`, without padding."""
    valid_s = decoded.valid_ms / 1000
    return {
        "valid_ms": decoded.valid_ms,
        "num_frames": len(decoded.pictures),
        "num_samples": len(decoded.wave),
        **_sound_facts(decoded.wave[: round(valid_s * profile.sample_rate_hz)], profile),
        **_picture_facts(decoded, profile, valid_s),
        "start_skew_ms": decoded.start_skew_ms,
        "audio_short_ms": decoded.audio_short_ms,
        "decoder": decoded.decoder,
        "is_tone_mapped": decoded.is_tone_mapped,
    }


def _sound_facts(wave: np.ndarray, profile: Profile) -> Row:
    level = np.abs(wave.astype(np.float32)) / np.float32(INT16_SCALE)
    power = float(np.mean(np.square(level, dtype=np.float64))) if level.size else 0.0
    return {
        "rms_db": 10 * np.log10(power + 1e-12),
        "peak": float(level.max(initial=0.0)),
        "clipped_share": float(np.mean(level >= 1 - 1 / INT16_SCALE)) if level.size else 0.0,
        "speech_share": speech_share(wave.mean(axis=1).astype(np.int16), profile.sample_rate_hz),
    }


def speech_share(wave: np.ndarray, rate_hz: int) -> float:
    """The share of a mono int16 wave in which WebRTC's detector (a small Gaussian model) hears speech."""
    if rate_hz != SAMPLE_RATE_HZ:
        wave = soxr.resample(wave, rate_hz, SAMPLE_RATE_HZ, quality="LQ")
    detector = webrtcvad.Vad(SPEECH_CAUTION)
    size = SAMPLE_RATE_HZ * SPEECH_MS // 1000
    windows = [wave[start : start + size] for start in range(0, len(wave) - size + 1, size)]
    heard = [detector.is_speech(window.tobytes(), SAMPLE_RATE_HZ) for window in windows]
    return float(np.mean(heard)) if heard else 0.0


def _picture_facts(decoded: Decoded, profile: Profile, valid_s: float) -> Row:
    # One picture a second, whatever the profile stores: neighbours at 25 frames/s hardly differ in any film.
    stride = max(1, round(profile.frame_rate_hz))
    valid = decoded.pictures[: max(1, round(valid_s * profile.frame_rate_hz)) : stride]
    blocks = np.stack([_block_means(picture.luma) for picture in valid])
    # A single frame cannot be frozen.
    change = np.abs(np.diff(blocks, axis=0)).max(axis=(1, 2)) if len(blocks) > 1 else np.full(1, np.inf)
    return {"luma_max": float(blocks.max()), "frozen_share": float(np.mean(change < STILL_LUMA))}


def _block_means(luma: np.ndarray) -> np.ndarray:
    """float64 (height / 8, width / 8): mean luma of 8 x 8 blocks."""
    height, width = (side // BLOCK_PX * BLOCK_PX for side in luma.shape)
    rows = luma[:height, :width].reshape(-1, BLOCK_PX, width).sum(axis=1, dtype=np.uint16)
    # Vertically first, then horizontally: for both at once, numpy loops over single pixels, five times as slow.
    return rows.reshape(height // BLOCK_PX, -1, BLOCK_PX).sum(axis=2, dtype=np.int64) / BLOCK_PX**2
