"""`log_mel.npy`: float16 (mels, frames), see `schemas.waveforms.log_mel`."""

import io

import numpy as np

from schemas.feature import Profile
from schemas.shard import LOG_MEL_SUFFIX
from schemas.waveforms import SAMPLE_RATE_HZ, log_mel
from tasks.media.decode import Decoded

VERSION = 1


def unmet(profile: Profile) -> str:
    """It is defined only for mono sound at its own rate."""
    return "" if profile.has_log_mel else f"mono sound at {SAMPLE_RATE_HZ:,} Hz"


def settings(profile: Profile) -> object:
    """Everything but the length is fixed by `schemas.waveforms`."""
    return [profile.length_ms]


def suffixes(profile: Profile) -> list[str]:
    """One."""
    del profile
    return [LOG_MEL_SUFFIX]


def members(decoded: Decoded, profile: Profile) -> dict[str, bytes]:
    """One member: the log-mel of the whole sound."""
    del profile
    buffer = io.BytesIO()
    np.save(buffer, log_mel(decoded.wave[:, 0]), allow_pickle=False)
    return {LOG_MEL_SUFFIX: buffer.getvalue()}
