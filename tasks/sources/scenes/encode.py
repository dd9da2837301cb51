"""Frames and a wave as one mp4, H.264 and AAC: the same settings for every scene, and no metadata.

The same frames and wave give the same bytes on one build of the codecs.
"""

from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer

from tasks.sources.scenes.laws import FRAME_RATE_HZ
from tasks.sources.scenes.synth import SAMPLE_RATE_HZ

PIXELS = "yuv420p"
GOP_S = 2  # a seek costs at most two seconds of decoding
# One thread, so that bytes do not depend on the machine; no B-frames, so that the picture starts at 0. No macroblock
# tree: x264's reads uninitialised memory, which occasionally changes the bytes.
X264 = {
    "preset": "veryfast",
    "crf": "26",
    "x264-params": f"keyint={GOP_S * FRAME_RATE_HZ}:scenecut=0:open-gop=0:bframes=0:threads=1:"
    "mbtree=0:rc-lookahead=0",
}
# 64 kbit/s are transparent to log-mels of a mono wave; the thorough coder costs a quarter of encoding.
AAC = {"b": "64000", "aac_coder": "fast"}
BITEXACT = {"fflags": "+bitexact"}  # no encoder name, no date


def write_media(path: Path, frames: np.ndarray, wave: np.ndarray, container: str = "mp4") -> Path:
    """Writes frames uint8 (T, H, W, 3) and a mono wave in [-1, 1] to `path`; the caller renames it."""
    with av.open(str(path), "w", format=container, options=BITEXACT) as output:
        video = _video_stream(output, *frames.shape[1:3])
        audio = output.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono", options=AAC)
        audio.codec_context.flags |= Flags.bitexact
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=PIXELS, threads=1)
            picture.pts = index
            output.mux(video.encode(picture))
        output.mux(video.encode(None))
        output.mux(audio.encode(_audio_frame(wave)))
        output.mux(audio.encode(None))
    return path


def _video_stream(output: OutputContainer, height_px: int, width_px: int) -> av.VideoStream:
    video = output.add_stream("libx264", rate=FRAME_RATE_HZ, options=X264)
    video.height = height_px
    video.width = width_px
    video.pix_fmt = PIXELS
    video.codec_context.flags |= Flags.bitexact
    return video


def _audio_frame(wave: np.ndarray) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
    frame.sample_rate = SAMPLE_RATE_HZ
    frame.pts = 0
    return frame
