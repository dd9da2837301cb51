"""`{k:03d}.jpg`: the frames of the profile, 4:2:0 JPEG."""

import simplejpeg

from schemas.feature import Profile
from schemas.shard import frame_suffix
from tasks.media.decode import Decoded

VERSION = 2


def unmet(profile: Profile) -> str:
    """A profile stores its pictures only once: as JPEGs or as a video."""
    return "" if profile.picture == "jpeg" else "pictures as JPEGs"


def settings(profile: Profile) -> object:
    """Frames have a size and a quality."""
    return [profile.length_ms, profile.frame_rate_hz, profile.frame_short_side_px, profile.jpeg_quality]


def suffixes(profile: Profile) -> list[str]:
    """One per frame."""
    return [frame_suffix(k) for k in range(profile.num_frames)]


def members(decoded: Decoded, profile: Profile) -> dict[str, bytes]:
    """One member per frame, encoded from the planes: nothing is converted to RGB and back."""
    return {
        frame_suffix(k): simplejpeg.encode_jpeg_yuv_planes(
            picture.luma, picture.blue, picture.red, quality=profile.jpeg_quality, fastdct=False
        )
        for k, picture in enumerate(decoded.pictures)
    }
