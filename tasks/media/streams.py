"""Media files: opening them, their streams and their clock. `cut.py` cuts, `decode.py` decodes.

The same two streams are used everywhere: the first with a moving picture, and the sound track that players choose.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TypeVar

import av
import av.container
import av.error
import av.stream
import imageio_ffmpeg
from av.stream import Disposition

from schemas.errors import MissingError
from schemas.outcome import ItemError, Outcome

# What AudioSet's source and people's folders hold. Playlists, concat scripts and network protocols are not
# media: a hostile file must not make the decoder open another one.
FORMATS = (
    "mov,mp4,m4a,3gp,matroska,webm,mpeg,mpegts,mpegvideo,avi,flv,ogg,asf,wav,mp3,aac,flac,h264"
    ",dv,gxf,mxf,nut,rm,wtv,nsv,dhav,ty"  # of cameras and recorders
)
# AVI stores no presentation times: libav derives them from the decoding order.
OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "fflags": "+genpts"}
FFMPEG_TIMEOUT_S = 120
MEMORY_BYTES = 4 << 30  # address space of a media process
MS = 1000
US_PER_MS = av.time_base // MS
# Sound tracks other than the main one, by their flags or their titles.
ASIDE = (
    Disposition.comment
    | Disposition.visual_impaired
    | Disposition.hearing_impaired
    | Disposition.descriptions
    | Disposition.karaoke
    | Disposition.clean_effects
    | Disposition.non_diegetic
)
ASIDE_TITLE = re.compile(r"comment|descri(ption|bed|ptive)", re.IGNORECASE)
# What a decoder reports about a packet that it can't make sense of.
UNDECODABLE = (
    av.error.InvalidDataError,
    av.error.PatchWelcomeError,
    av.error.ExternalError,
    av.error.UnknownError,
    av.error.BlockingIOError,  # VP9's, after some that it could not decode
)
Stream = TypeVar("Stream", bound=av.stream.Stream | None)


@contextmanager
def open_media(path: Path, options: dict[str, str] | None = None) -> Iterator[av.container.InputContainer]:
    """A media file opened for reading, local files of known formats only.

    Raises ItemError (quarantined, `decodable`) if it has none of these formats or is damaged, OSError if it can't be
    read.
    """
    with path.open("rb"):  # a lost file says nothing about its content, and libav's own errors look alike
        pass
    try:
        settings = OPEN_OPTIONS | (options or {})
        with av.open(str(path), options=settings, metadata_errors="replace") as container:
            for stream in container.streams:
                if stream.codec_context is not None:
                    stream.codec_context.thread_count = 1  # workers x threads = cores
            yield container
    except MemoryError:
        raise  # not damage that ffmpeg could repair
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        raise ItemError(
            Outcome.QUARANTINED, "decodable", f"{type(error).__name__}: {str(error)[:200]}"
        ) from error


def in_ms(time_base: Fraction | None) -> Callable[[int], int]:
    """Ticks of a stream as milliseconds of its file's clock, the nearest.

    Everything that mcgurk does with a file uses these: Matroska counts the same way, so times stay the same in a cut.
    """
    per_second = (MS * time_base.numerator, time_base.denominator) if time_base else (0, 1)
    doubled = 2 * per_second[0]
    denominator = per_second[1]
    return lambda ticks: (doubled * ticks + denominator) // (2 * denominator)


@dataclass(frozen=True)
class Clock:
    """A segment's clock: seconds since it began, computed from the milliseconds of its file's clock."""

    begins_us: int  # the start of a file may lie between two milliseconds

    @classmethod
    def from_seconds(cls, begins_s: float) -> "Clock":
        """The clock of a segment that begins at `begins_s` on its file's clock."""
        return cls(round(begins_s * av.time_base))

    @property
    def begins_ms(self) -> int:
        """The last millisecond of the file's clock before the segment."""
        return self.begins_us // US_PER_MS

    def of(self, time_base: Fraction | None) -> Callable[[int], float]:
        """The time on this clock of a stream's ticks."""
        to_ms = in_ms(time_base)
        return lambda ticks: (to_ms(ticks) * US_PER_MS - self.begins_us) / av.time_base


def video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The video track that players choose, without attached pictures. Raises ItemError if no decoder supports it.

    A track flagged as default comes before others.
    """
    moving = (s for s in container.streams.video if not s.disposition & Disposition.attached_pic)
    return _decodable(min(moving, key=_reluctance, default=None))


def audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """The sound track that players play. Raises ItemError if no decoder supports any of them.

    Commentaries and descriptions come last, and tracks flagged as default before others.
    """
    return _decodable(min(container.streams.audio, key=_reluctance, default=None))


def _reluctance(stream: av.VideoStream | av.AudioStream) -> tuple[bool, bool, bool, int]:
    is_aside = bool(stream.disposition & ASIDE) or bool(ASIDE_TITLE.search(stream.metadata.get("title", "")))
    is_default = bool(stream.disposition & Disposition.default)
    return stream.codec_context is None, is_aside, not is_default, stream.index


def _decodable(stream: Stream) -> Stream:
    if stream is not None and stream.codec_context is None:
        detail = f"no decoder for stream {stream.index} ({stream.type})"
        raise ItemError(Outcome.QUARANTINED, "decodable", detail)
    return stream


def media_streams(container: av.container.InputContainer) -> list[av.stream.Stream]:
    """The two streams that count, or the only one."""
    return [stream for stream in (video_stream(container), audio_stream(container)) if stream is not None]


@cache
def ffmpeg_path() -> str:
    """The ffmpeg to run: imageio-ffmpeg's static one, which starts ten times faster, else the system's."""
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        found = shutil.which("ffmpeg")
        if found is None:
            raise MissingError(
                "no ffmpeg: `pip install imageio-ffmpeg` or `apt-get install ffmpeg`"
            ) from None
        return found
