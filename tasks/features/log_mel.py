"""`log_mel.npy`: float16 (mels, frames), see `schemas.signal.log_mel`."""

import io

import numpy as np

from schemas.feature import Profile
from schemas.shard import LOG_MEL_SUFFIX
from schemas.signal import SAMPLE_RATE_HZ, log_mel
from tasks.decode import Decoded

VERSION = 1


def members(decoded: Decoded, profile: Profile) -> dict[str, bytes]:
    """One member: the log-mel of the whole sound."""
    if profile.sample_rate_hz != SAMPLE_RATE_HZ:
        raise ValueError(
            f"log_mel is defined at {SAMPLE_RATE_HZ} Hz, the profile says {profile.sample_rate_hz}"
        )
    buffer = io.BytesIO()
    np.save(buffer, log_mel(decoded.wave), allow_pickle=False)
    return {LOG_MEL_SUFFIX: buffer.getvalue()}
