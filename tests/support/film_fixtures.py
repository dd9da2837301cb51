"""Clips of the profile `video`: a disc that jumps at moments, and a click at each of them."""

from dataclasses import replace

import numpy as np

from schemas.feature import PROFILES, Profile
from tasks.media.colour import Picture
from tasks.media.encode import encoded_video

FILM = replace(PROFILES["video"], frame_short_side_px=64)  # smaller than stock: tests have no time
STEREO = replace(PROFILES["multisensory"], frame_short_side_px=64)
RATE_HZ = int(FILM.frame_rate_hz)


def moments(seed: int) -> np.ndarray:
    """Frames in which something happens, some 0.3 to 0.9 s apart."""
    gaps = np.random.default_rng(seed).integers(8, 23, 60)
    at = 3 + np.cumsum(gaps)
    return at[at < FILM.num_frames]


def jumps(seed: int, at: np.ndarray) -> list[Picture]:
    """250 pictures of 96 x 64: a bright square stands elsewhere from each moment on, and drifts between."""
    rng = np.random.default_rng(seed)
    places = []
    place = rng.integers(8, 40, 2)
    for frame in range(FILM.num_frames):
        place = rng.integers(8, 40, 2) if frame in at else place
        places.append(place)
    pictures = []
    chroma = np.full((32, 48), 128, np.uint8)
    for y, x in places:
        luma = np.full((64, 96), 60, np.uint8)
        luma[y : y + 14, x : x + 14] = 220
        pictures.append(Picture(luma, chroma, chroma))
    return pictures


def clicks(seed: int, at: np.ndarray) -> np.ndarray:
    """int16 (160000,): a decaying burst at each moment, in faint noise."""
    rng = np.random.default_rng(seed + 1)
    rate_hz = FILM.sample_rate_hz
    sound = 0.003 * rng.standard_normal(FILM.num_samples)
    burst = rng.standard_normal(rate_hz // 10) * np.exp(-np.arange(rate_hz // 10) / 300)
    for frame in at:
        start = round((frame + 0.5) / RATE_HZ * rate_hz)
        part = sound[start : start + len(burst)]
        part += 0.3 * burst[: len(part)]
    return (np.clip(sound, -1, 1) * 32767).astype(np.int16)


def stereo(seed: int) -> np.ndarray:
    """int16 (210000, 2): noise, louder on the right, at 21 kHz."""
    noise = np.random.default_rng(seed).standard_normal((STEREO.num_samples, 1))
    return (np.clip(0.1 * noise * [[1.0, 2.0]], -1, 1) * 32767).astype(np.int16)


def film(seed: int, at: np.ndarray, profile: Profile = FILM) -> bytes:
    """The pictures of `jumps` as the member `mp4`; where there are too few, from the beginning again."""
    pictures = jumps(seed, at)
    return encoded_video((pictures * 2)[: profile.num_frames], profile.frame_rate_hz)
