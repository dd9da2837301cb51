"""Frames out of the video file of a sample: from the key frame before them on, and no further.

The files are our own (`tasks/encode.py`): a key frame a second, no B-frames, frame k of the file is frame k of
the profile.
"""

import io
from collections.abc import Iterator

import av
import numpy as np

from schemas.feature import Profile


def decoded(content: memoryview, indices: range, profile: Profile) -> Iterator[np.ndarray]:
    """The frames `indices`, in their order: uint8 RGB (height, width, 3). Raises ValueError if it ends before."""
    wanted = indices.start
    with av.open(io.BytesIO(content), "r", format="mp4") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # threads would decode ahead what is not wanted
        ticks_per_frame = 1 / (profile.frame_rate_hz * float(stream.time_base or 1))
        container.seek(round(wanted * ticks_per_frame), stream=stream)
        for frame in container.decode(stream):
            if frame.pts is not None and round(frame.pts / ticks_per_frame) == wanted:
                yield frame.to_ndarray(format="rgb24")
                wanted += indices.step
                if wanted not in indices:
                    return
    raise ValueError(f"a video file of {profile.name} has no frame {wanted}")
