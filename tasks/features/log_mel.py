"""`log_mel.npy`: float16 (mels, frames), see `schemas.signal.log_mel`."""

import io

import numpy as np

from schemas.feature import Profile
from schemas.shard import LOG_MEL_SUFFIX
from schemas.signal import log_mel
from tasks.media.decode import Decoded

VERSION = 1


def settings(profile: Profile) -> object:
    """None for profiles whose sound is not mono at the log-mel's rate."""
    return [profile.length_ms] if profile.has_log_mel else None


def members(decoded: Decoded, profile: Profile) -> dict[str, bytes]:
    """One member: the log-mel of the whole sound."""
    del profile
    buffer = io.BytesIO()
    np.save(buffer, log_mel(decoded.wave[:, 0]), allow_pickle=False)
    return {LOG_MEL_SUFFIX: buffer.getvalue()}
