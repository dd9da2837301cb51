"""`mp4`: the frames of the profile as one H.264 file with a key frame every second, without sound."""

from schemas.feature import Profile
from schemas.shard import VIDEO_SUFFIX
from tasks.media.decode import Decoded
from tasks.media.encode import encoded_video

VERSION = 1


def unmet(profile: Profile) -> str:
    """A profile stores its pictures only once: as JPEGs or as a video."""
    return "" if profile.picture == "h264" else "pictures as H.264"


def settings(profile: Profile) -> object:
    """Frames have a size and a rate."""
    return [profile.length_ms, profile.frame_rate_hz, profile.frame_short_side_px]


def suffixes(profile: Profile) -> list[str]:
    """One."""
    del profile
    return [VIDEO_SUFFIX]


def members(decoded: Decoded, profile: Profile) -> dict[str, bytes]:
    """One member: frame k of the file is frame k of the profile."""
    return {VIDEO_SUFFIX: encoded_video(decoded.pictures, profile.frame_rate_hz)}
