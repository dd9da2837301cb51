"""`wav`: the sound, mono s16 with the plain 44-byte header, so that it can be memory-mapped."""

import io
import wave

from schemas.feature import Profile
from schemas.shard import AUDIO_SUFFIX
from tasks.decode import Decoded

VERSION = 1


def members(decoded: Decoded, profile: Profile) -> dict[str, bytes]:
    """One member: the whole sound of the segment."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(decoded.wave.itemsize)
        file.setframerate(profile.sample_rate_hz)
        file.writeframes(decoded.wave.astype("<i2").tobytes())
    return {AUDIO_SUFFIX: buffer.getvalue()}
