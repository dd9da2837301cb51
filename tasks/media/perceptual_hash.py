"""Prints: a few hundred bytes that identify a clip's sound and pictures even after re-encoding.

Sound: Haitsma & Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002), section 4.2: the sign of the
change, in time, of the difference between neighbouring bands. Log power is used, so that gain and tone control cancel.
Searching starts from the clearest frames, with their weakest bits left open (section 5.3). Pictures: the signs of the
lowest 8 x 8 DCT coefficients (the "pHash" of Zauner, 2010).
"""

from collections.abc import Sequence

import numpy as np
import scipy.fft
import soxr

from schemas.feature import NUM_KEYS, NUM_PICTURES, PICTURE_PRINT, Profile, num_words, sound_print
from schemas.manifest import Row
from schemas.waveforms import INT16_SCALE, SAMPLE_RATE_HZ
from tasks.media.colour import Picture
from tasks.media.decode import Decoded

# 64 ms every 20 ms
WINDOW = 1024
HOP = SAMPLE_RATE_HZ // 50
# What survives telephone quality and 32 kbit/s AAC; 16 differences
LOW_HZ = 200.0
HIGH_HZ = 4000.0
NUM_BANDS = 17
SMOOTH = 20  # frames: power over 0.4 s, so that half a word's misalignment costs few bits
WORD_HOP = 8  # frames: a word every 160 ms
FLOOR = 1e-5  # of the clip's power: below it is codec noise
CLEAR = 0.02  # the least change (log10 of power) that a key's third weakest bit must represent
APART = 2  # frames between keys: closer ones see nearly the same, and only one of them is kept
STILL_SHARE = 0.95  # pictures that hardly change are cover art and slides, which many clips share
SIDE = 32  # px of the thumbnail, and its 8 lowest frequencies each way
LOWEST = 8
FLAT_LUMA = 4.0  # a picture with less deviation shows nothing


def prints_of(decoded: Decoded, facts: Row, profile: Profile) -> Row:
    """`sound_print` and `picture_print` of a clip, as bytes; all zero if nothing identifies it."""
    valid_s = decoded.valid_ms / 1000
    pictures = decoded.pictures if facts["frozen_share"] < STILL_SHARE else []
    at = [int((n + 0.5) / NUM_PICTURES * profile.num_frames) for n in range(NUM_PICTURES)]
    seen = [n if n / profile.frame_rate_hz < valid_s else len(pictures) for n in at]
    return {
        "sound_print": _sound(decoded.wave[: round(valid_s * profile.sample_rate_hz)], profile).tobytes(),
        "picture_print": _pictures(pictures, seen).tobytes(),
    }


def _sound(wave: np.ndarray, profile: Profile) -> np.ndarray:
    """`sound_print(profile)`, one item, of an int16 wave (samples, channels)."""
    made = np.zeros((), sound_print(profile))
    changes = band_changes(_mono(wave, profile.sample_rate_hz))
    words = _packed(changes[::WORD_HOP] > 0)[: num_words(profile)]
    made["num_words"] = len(words)
    made["words"][: len(words)] = words
    # A key is two words, the second from where the later half of the first one ends: no power counts twice.
    pairs = np.hstack([changes[:-SMOOTH], changes[SMOOTH:]])
    margins = np.abs(pairs)
    weakest = np.argsort(margins, axis=1, kind="stable")[:, :3]
    at = _clearest(np.take_along_axis(margins, weakest[:, 2:], 1)[:, 0])
    made["keys"][: len(at)] = _packed(pairs[at] > 0)
    made["open_bits"][: len(at)] = weakest[at, :2]
    made["frames"][: len(at)] = at
    made["num_keys"] = len(at)
    return made


def _mono(wave: np.ndarray, rate_hz: int) -> np.ndarray:
    mono = wave.astype(np.float32).mean(axis=1) / INT16_SCALE
    return mono if rate_hz == SAMPLE_RATE_HZ else soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ, quality="LQ")


def band_changes(wave: np.ndarray) -> np.ndarray:
    """float32 (frames, 16): change over SMOOTH frames of the differences between bands' log10 power."""
    num_frames = (len(wave) - WINDOW) // HOP + 1
    if num_frames < 2 * SMOOTH:
        return np.zeros((0, NUM_BANDS - 1), np.float32)
    framed = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    spectrum = np.asarray(scipy.fft.rfft(framed * np.hanning(WINDOW).astype(np.float32), axis=1))
    edges = np.round(np.geomspace(LOW_HZ, HIGH_HZ, NUM_BANDS + 1) * WINDOW / SAMPLE_RATE_HZ).astype(int)
    inside = spectrum[:, edges[0] : edges[-1]]
    power = np.add.reduceat(
        np.real(inside) ** 2 + np.imag(inside) ** 2, edges[:-1] - edges[0], axis=1
    ).astype(np.float64)
    total = np.cumsum(np.vstack([np.zeros(NUM_BANDS), power + FLOOR * power.mean() + FLOOR**2]), axis=0)
    differences = np.diff(np.log10(total[SMOOTH:] - total[:-SMOOTH]), axis=1)
    return (differences[SMOOTH:] - differences[:-SMOOTH]).astype(np.float32)


def _clearest(clarity: np.ndarray) -> np.ndarray:
    """The frames of up to NUM_KEYS highest values that are CLEAR, APART from each other."""
    left = clarity.copy()
    found = []
    while len(found) < NUM_KEYS and len(left) and left.max() > CLEAR:
        best = int(left.argmax())
        found.append(best)
        left[max(best - APART, 0) : best + APART + 1] = 0.0
    return np.array(found, np.int64)


def _packed(bits: np.ndarray) -> np.ndarray:
    """The rows of `bits` as integers, the first column lowest."""
    return bits @ (np.uint32(1) << np.arange(bits.shape[1], dtype=np.uint32))


def _pictures(pictures: Sequence[Picture], at: Sequence[int]) -> np.ndarray:
    hashes = [picture_hash(pictures[n].luma) if n < len(pictures) else 0 for n in at]
    return np.array(hashes, PICTURE_PRINT.base)


def picture_hash(luma: np.ndarray) -> int:
    """A 64-bit hash of a picture; 0 if it shows nothing, or is smaller than the thumbnail."""
    if min(luma.shape) < SIDE:
        return 0
    rows, columns = (np.linspace(0, size, SIDE + 1).astype(int) for size in luma.shape)
    sums = np.add.reduceat(np.add.reduceat(luma.astype(np.float32), rows[:-1]), columns[:-1], axis=1)
    thumbnail = sums / np.outer(np.diff(rows), np.diff(columns))
    if thumbnail.std() < FLAT_LUMA:
        return 0
    lowest = np.asarray(scipy.fft.dctn(thumbnail, norm="ortho"))[:LOWEST, :LOWEST].ravel()
    bits = lowest > np.median(lowest[1:])
    bits[0] = True  # the mean carries no information; set, so that no picture's hash is 0
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
