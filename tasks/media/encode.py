"""Encoders of members, in memory. The same input gives the same bytes with the same build of the codecs."""

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.codec.context import Flags

from tasks.media.colour import Picture

# One thread and no macroblock tree, so that bytes do not depend on the machine or on memory that x264 has not
# initialised; no B-frames, so that frame k of the file is frame k of the profile for every reader.
X264 = {"preset": "veryfast", "crf": "23"}
X264_PARAMS = (
    "scenecut=0:open-gop=0:bframes=0:threads=1:mbtree=0:rc-lookahead=0:fullrange=on:colormatrix=smpte170m"
)
BITEXACT = {"fflags": "+bitexact"}  # no encoder name, no date
MAX_DENOMINATOR = 1001  # of frame rates, as 30000/1001
FLAC_BLOCK = 4096


def encoded_flac(samples: np.ndarray, rate_hz: int) -> bytes:
    """int16 (samples, channels) as FLAC of 16 bit."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac", options=BITEXACT) as output:
        layout = "mono" if samples.shape[1] == 1 else "stereo"
        stream = output.add_stream("flac", rate=rate_hz, layout=layout)
        stream.codec_context.format = "s16"
        stream.codec_context.flags |= Flags.bitexact
        for start in range(0, len(samples), FLAC_BLOCK):
            piece = np.ascontiguousarray(samples[start : start + FLAC_BLOCK]).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(piece, format="s16", layout=layout)
            frame.sample_rate = rate_hz
            frame.pts = start
            frame.time_base = Fraction(1, rate_hz)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def encoded_video(pictures: Sequence[Picture], rate_hz: float) -> bytes:
    """Pictures of one size as H.264 in mp4, with a key frame every second, in full-range BT.601 as they are."""
    buffer = io.BytesIO()
    rate = Fraction(rate_hz).limit_denominator(MAX_DENOMINATOR)
    key = f"keyint={round(rate_hz)}:min-keyint={round(rate_hz)}"
    with av.open(buffer, "w", format="mp4", options=BITEXACT) as output:
        stream = output.add_stream(
            "libx264", rate=rate, options={**X264, "x264-params": f"{key}:{X264_PARAMS}"}
        )
        stream.height, stream.width = pictures[0].luma.shape
        stream.pix_fmt = "yuv420p"
        stream.codec_context.flags |= Flags.bitexact
        for number, picture in enumerate(pictures):
            planes = [plane.reshape(-1, stream.width) for plane in (picture.luma, picture.blue, picture.red)]
            frame = av.VideoFrame.from_ndarray(np.concatenate(planes), format="yuv420p")
            frame.pts = number
            frame.time_base = 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()
