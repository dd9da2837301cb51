"""Media files: opening and probing them, and their clock. `cut.py` cuts, `decode.py` decodes.

The same two streams are used everywhere: the first with a moving picture, and the sound track that players choose.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from statistics import median_low
from typing import Any, TypeVar

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
RAW_CLOCK = {"advanced_editlist": "0"}  # MP4 without libav's interpretation of its edit lists
MOST_HIDDEN = 1 << 14  # packets that are searched for the first ones that an edit list shows
COMPARED = 8  # of each stream
MOST_MOVED_S = 1  # if it is more, the edit list has several parts, which libav's simple reading mistakes
FFMPEG_TIMEOUT_S = 120
MEMORY_BYTES = 4 << 30  # address space of a media process
MS = 1000
US_PER_MS = av.time_base // MS
# Some headers count their duration from the clock's zero: for a clock that starts later, the duration is unknown.
LATE_S = 1.0
TAIL_S = 10.0  # before the end that a header states: key frames lie up to about this far apart
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
)
Stream = TypeVar("Stream", bound=av.stream.Stream | None)


@dataclass(frozen=True)
class Probe:
    """What a media file states about itself; unknown times are None."""

    container: str
    start_s: float
    duration_s: float | None
    video_codec: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    frame_rate_hz: float | None = None
    audio_codec: str | None = None
    sample_rate_hz: int | None = None
    channels: int | None = None
    start_gap_ms: float | None = None  # sound minus picture
    span_gap_ms: float | None = None

    @property
    def has_video(self) -> bool:
        """Whether there is a moving picture, not only cover art."""
        return self.video_codec is not None

    @property
    def has_audio(self) -> bool:
        """Whether there is a sound track."""
        return self.audio_codec is not None


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


def probe(path: Path) -> Probe:
    """What the header of `path` states, and its packets if the header can't be trusted.

    Raises ItemError (quarantined, `decodable`).
    """
    with open_media(path) as container:
        video = video_stream(container)
        audio = audio_stream(container)
        facts: dict = {}
        if video is not None:
            rate = video.average_rate or video.guessed_rate
            facts |= {"video_codec": video.codec_context.name, "frame_rate_hz": float(rate) if rate else None}
            facts |= {"width_px": video.codec_context.width, "height_px": video.codec_context.height}
        if audio is not None:
            context = audio.codec_context
            facts |= {"audio_codec": context.name, "sample_rate_hz": context.sample_rate}
            facts |= {"channels": context.layout.nb_channels}
        if video is not None and audio is not None:
            facts |= _gaps_ms(path, container)
        return Probe(container.format.name, *_span_s(path, container), **facts)


def _span_s(path: Path, container: av.container.InputContainer) -> tuple[float, float | None]:
    """When a file starts on its clock, and how long it is."""
    start_s = (container.start_time or 0) / av.time_base
    stated_s = container.duration / av.time_base if container.duration else None
    if stated_s is not None and start_s <= LATE_S:
        return start_s, stated_s
    ends_s = _ends_s(path, None if stated_s is None else start_s + stated_s - TAIL_S) or _ends_s(path, None)
    end_s = max(ends_s.values(), default=start_s)
    return start_s, end_s - start_s if end_s > start_s else stated_s


def _gaps_ms(path: Path, container: av.container.InputContainer) -> dict[str, float]:
    """How much later the sound starts than the picture, and how much longer it is; empty if unknown."""
    streams = media_streams(container)
    starts_s = {one.index: _at(one, one.start_time) for one in streams}
    ends_s = {one.index: _stated_end_s(one) for one in streams}
    if None in ends_s.values():
        ends_s = _ends_s(path, container.duration / av.time_base - TAIL_S if container.duration else None)
    picture, sound = (one.index for one in streams)
    gaps = {}
    if (begun := _difference(starts_s, sound, picture)) is not None:
        gaps["start_gap_ms"] = begun * MS
        if (ended := _difference(ends_s, sound, picture)) is not None:
            gaps["span_gap_ms"] = (ended - begun) * MS
    return gaps


def _difference(times_s: Mapping[int, float | None], one: int, other: int) -> float | None:
    """The time of one stream minus that of another, if both are known."""
    first = times_s.get(one)
    second = times_s.get(other)
    return None if first is None or second is None else first - second


def _at(stream: av.stream.Stream, ticks: int | None) -> float | None:
    return None if ticks is None or stream.time_base is None else float(ticks * stream.time_base)


def _stated_end_s(stream: av.stream.Stream) -> float | None:
    if stream.duration is None or stream.start_time is None:
        return None
    return _at(stream, stream.start_time + stream.duration)


def _ends_s(path: Path, from_s: float | None) -> dict[int, float]:
    """When the last packet of each stream ends, by its index, read from before `from_s` or the whole file."""
    ends_s: dict[int, float] = {}
    with open_media(path) as container:
        if from_s is not None:
            with suppress(
                av.error.FFmpegError
            ):  # a file that can't be sought in is read from the current position
                container.seek(max(0, int(from_s * av.time_base)))
        for packet in packets_of(container):
            if packet.pts is not None and not packet.is_discard:
                end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                ends_s[packet.stream_index] = max(end_s, ends_s.get(packet.stream_index, end_s))
    return ends_s


def answer_probe(path: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """`probe`, as `tasks.media.sandbox` calls it."""
    return asdict(probe(Path(path))), {}


def packets_of(container: av.container.InputContainer) -> Iterator[av.Packet]:
    """The packets of both streams in file order; if nothing more can be read, the file has ended.

    Packets of MP4 have the times that its edit lists give them.
    """
    moved = moves(container)
    for packet in packets_as_read(container):
        if packet.pts is not None and (by := moved.get(packet.stream_index)):
            packet.pts += by
            packet.dts = None if packet.dts is None else packet.dts + by
        yield packet


def packets_as_read(container: av.container.InputContainer) -> Iterator[av.Packet]:
    """The same with the times that libav gives them."""
    with suppress(av.error.InvalidDataError):
        for packet in container.demux(media_streams(container)):
            if packet.size:
                yield _unhidden(packet) if packet.is_discard else packet


def moves(container: av.container.InputContainer) -> Mapping[int, int]:
    """By how many ticks libav moved each stream of an MP4 away from the time that its edit list gives it.

    An edit list may begin between two pictures. libav then shows the later one at once: up to a frame too early.
    """
    if not container.format.name.startswith("mov") or RAW_CLOCK.items() <= container.options.items():
        return {}
    facts = Path(container.name).stat()
    return _moves(container.name, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=16)  # a file is read several times for one segment
def _moves(name: str, size_bytes: int, written_ns: int) -> Mapping[int, int]:
    del size_bytes, written_ns  # another file by the same name is another call
    path = Path(name)
    places = _first_shown(path)
    missing = sum(map(len, places.values()))
    moved: dict[int, list[int]] = {}
    with open_media(path, RAW_CLOCK) as container:
        bases = {stream.index: stream.time_base for stream in media_streams(container)}
        for packet in islice(packets_as_read(container), MOST_HIDDEN):
            before = places.get(packet.stream_index, {}).pop(packet.pos, None)
            if before is not None and packet.pts is not None:
                moved.setdefault(packet.stream_index, []).append(packet.pts - before)
                missing -= 1
            if not missing:
                break
    by = {index: median_low(found) for index, found in moved.items()}
    is_one = all(0 <= ticks * (bases[index] or 0) <= MOST_MOVED_S for index, ticks in by.items())
    return by if is_one else {}


def _first_shown(path: Path) -> dict[int, dict[int | None, int]]:
    """The times of the first packets of each stream that an edit list shows, by their position in the file."""
    shown: dict[int, dict[int | None, int]] = {}
    with open_media(path) as container:
        streams = media_streams(container)
        for packet in islice(packets_as_read(container), MOST_HIDDEN):
            begins = packet.stream.start_time or 0
            own = shown.setdefault(packet.stream_index, {})
            if packet.pts is not None and packet.pts >= begins and not packet.is_discard:
                own[packet.pos] = packet.pts
            if len(shown) == len(streams) and min(map(len, shown.values())) >= COMPARED:
                break
    return shown


def _unhidden(packet: av.Packet) -> av.Packet:
    """A packet that an edit list hides; if it lies before its stream's beginning, it is returned as not hidden.

    It is not visible there, and a cut has no edit lists: what a decoder shows must be the same.
    """
    starts = packet.stream.start_time
    if packet.pts is None or starts is None or packet.pts >= starts:
        return packet
    copy = av.Packet(bytes(packet))
    copy.stream = packet.stream
    copy.time_base = packet.time_base
    copy.is_keyframe = packet.is_keyframe
    copy.pts = packet.pts
    copy.dts = packet.dts
    copy.duration = packet.duration
    return copy


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
