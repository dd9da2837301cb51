"""`wav` or `flac`: the sound, s16; the wav with the plain 44-byte header, so that it can be memory-mapped."""

import io
import wave

import numpy as np

from schemas.feature import Profile
from tasks.media.decode import Decoded
from tasks.media.encode import encoded_flac

VERSION = 2


def settings(profile: Profile) -> object:
    """Every profile has sound."""
    return [profile.length_ms, profile.sound, profile.sample_rate_hz, profile.channels]


def suffixes(profile: Profile) -> list[str]:
    """One, depending on the format."""
    return [profile.sound]


def members(decoded: Decoded, profile: Profile) -> dict[str, bytes]:
    """One member: the whole sound of the segment."""
    encode = {"wav": _wav, "flac": encoded_flac}[profile.sound]
    return {profile.sound: encode(decoded.wave, profile.sample_rate_hz)}


def _wav(samples: np.ndarray, rate_hz: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(samples.itemsize)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()
