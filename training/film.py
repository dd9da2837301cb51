"""Frames out of the video file of a sample: from the key frame before them on, and no further.

The files are our own (`tasks/encode.py`): a key frame a second, no B-frames, frame k of the file is frame k of
the profile.
"""

import io
from collections.abc import Iterator

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from schemas.feature import Profile


def decoded(
    content: memoryview, indices: range, profile: Profile, min_side_px: int = 0
) -> Iterator[np.ndarray]:
    """The frames `indices`, in their order: uint8 RGB (height, width, 3), made smaller to a short side of so many px.

    Without `min_side_px`, and where they are no larger, in their own size. Raises ValueError if the file ends before.
    """
    wanted, scaler = indices.start, VideoReformatter()
    with av.open(io.BytesIO(content), "r", format="mp4") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # threads would decode ahead what is not wanted
        ticks_per_frame = 1 / (profile.frame_rate_hz * float(stream.time_base or 1))
        container.seek(round(wanted * ticks_per_frame), stream=stream)
        for frame in container.decode(stream):
            if frame.pts is not None and round(frame.pts / ticks_per_frame) == wanted:
                factor = min(1.0, min_side_px / min(frame.width, frame.height)) if min_side_px else 1.0
                width, height = round(frame.width * factor), round(frame.height * factor)
                # swscale's bilinear filter is as wide as what becomes one pixel.
                yield scaler.reformat(
                    frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR
                ).to_ndarray()
                wanted += indices.step
                if wanted not in indices:
                    return
    raise ValueError(f"a video file of {profile.name} has no frame {wanted}")
