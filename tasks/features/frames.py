"""`{k:03d}.jpg`: the frames of the profile, 4:2:0 JPEG."""

import simplejpeg

from schemas.feature import Profile
from schemas.shard import frame_suffix
from tasks.decode import Decoded

VERSION = 1


def members(decoded: Decoded, profile: Profile) -> dict[str, bytes]:
    """One member a frame."""
    return {
        frame_suffix(k): simplejpeg.encode_jpeg(
            frame, quality=profile.jpeg_quality, colorspace="RGB", colorsubsampling="420", fastdct=False
        )
        for k, frame in enumerate(decoded.frames)
    }
