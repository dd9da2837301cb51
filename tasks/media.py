"""Probe and cut (`decode.py` decodes): the only modules that touch a media library or start a media process.

Times are seconds on the presentation clock of the file. Everywhere the first video stream that is not an
attached picture and the first audio stream are taken.
"""

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, TypeVar

import av
import av.container
import av.error
import av.stream
import ffmpeg
import imageio_ffmpeg
import numpy as np

from schemas.outcome import ItemError, Outcome
from tasks.processes import end_with_parent, limit

# What AudioSet's source and people's folders hold. Playlists, concat scripts and network protocols are not
# media: a hostile file must not make the decoder open another one.
FORMATS = "mov,mp4,m4a,3gp,matroska,webm,mpeg,mpegts,mpegvideo,avi,flv,ogg,asf,wav,mp3,aac,flac,h264"
OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
MP4_VIDEO = {"h264", "hevc", "mpeg4", "av1"}
MP4_AUDIO = {"aac", "mp3"}
AUDIO_LEAD_S = 0.1  # lets the overlapping windows and bit reservoirs of lossy audio settle
MARGIN_S = 0.5  # packets are stored up to about this far from their presentation time
FFMPEG_TIMEOUT_S = 120
SEEK_FROM_S = 10.0  # key frames lie up to about this far apart; an earlier start only costs reading
MEMORY_BYTES = 4 << 30  # address space of a media process
Stream = TypeVar("Stream", bound=av.stream.Stream | None)
TAIL_BYTES = 32  # repackaging rewrites the head of a packet (start codes, ADTS), never its end
COMPARED_PACKETS = 128  # of both streams: about 2 s
ROUNDING_S = 0.002  # between the shifts of two packets: Matroska stores milliseconds
JITTER_S = 0.03  # containers round time stamps, some encoders are off by a packet


@dataclass(frozen=True)
class Probe:
    """What the header of a media file states; times are None where it states none."""

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

    @property
    def has_video(self) -> bool:
        """Whether there is a moving picture, not only cover art."""
        return self.video_codec is not None

    @property
    def has_audio(self) -> bool:
        """Whether there is a sound track."""
        return self.audio_codec is not None


@contextmanager
def open_media(path: Path) -> Iterator[av.container.InputContainer]:
    """A media file opened for reading, local files of known formats only.

    Raises ItemError (quarantined, `decodable`) where it is none of them or is damaged, OSError where it is not
    there to be read.
    """
    with path.open("rb"):  # a lost file says nothing about its content, and libav's own errors look alike
        pass
    try:
        with av.open(str(path), options=OPEN_OPTIONS, metadata_errors="replace") as container:
            yield container
    except MemoryError:
        raise  # no damage that ffmpeg could mend
    except (av.error.FFmpegError, ValueError, OverflowError) as error:
        raise ItemError(
            Outcome.QUARANTINED, "decodable", f"{type(error).__name__}: {str(error)[:200]}"
        ) from error


def in_seconds(time_base: Fraction | None) -> Callable[[int | None], float]:
    """Exactly `float(ticks * time_base)`, without the Fractions: a seventh of a clip's time went into them."""
    numerator, denominator = (time_base.numerator, time_base.denominator) if time_base else (0, 1)
    return lambda ticks: (ticks or 0) * numerator / denominator


def video_stream(container: av.container.InputContainer) -> av.VideoStream | None:
    """The first video stream that is not an attached picture. Raises ItemError where nothing decodes it."""
    moving = (s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
    return _decodable(next(moving, None))


def audio_stream(container: av.container.InputContainer) -> av.AudioStream | None:
    """The first audio stream. Raises ItemError where nothing decodes it."""
    return _decodable(next(iter(container.streams.audio), None))


def _decodable(stream: Stream) -> Stream:
    if stream is not None and stream.codec_context is None:
        detail = f"no decoder for stream {stream.index} ({stream.type})"
        raise ItemError(Outcome.QUARANTINED, "decodable", detail)
    return stream


def probe(path: Path) -> Probe:
    """What the header of `path` states. Raises ItemError (quarantined, `decodable`)."""
    with open_media(path) as container:
        video, audio = video_stream(container), audio_stream(container)
        duration = container.duration / av.time_base if container.duration else None
        facts: dict = {}
        if video is not None:
            rate = video.average_rate or video.guessed_rate
            facts |= {"video_codec": video.codec_context.name, "frame_rate_hz": float(rate) if rate else None}
            facts |= {"width_px": video.codec_context.width, "height_px": video.codec_context.height}
        if audio is not None:
            context = audio.codec_context
            facts |= {"audio_codec": context.name, "sample_rate_hz": context.sample_rate}
            facts |= {"channels": context.layout.nb_channels}
        return Probe(container.format.name, (container.start_time or 0) / av.time_base, duration, **facts)


def answer_probe(path: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """`probe`, as `tasks.isolation` calls it."""
    return asdict(probe(Path(path))), {}


@dataclass(frozen=True)
class Cut:
    """A cut file, and where the segment truly begins inside it (presentation clock of the cut)."""

    path: Path
    begins_s: float


def cut(source: Path, facts: Probe, segment_s: tuple[float, float], target: Path) -> Cut:
    """Copies the segment (start, end), counted from the presentation start of `source`, without re-encoding.

    The copy starts at the key frame before the start and at least AUDIO_LEAD_S of sound before it; `target`
    gets the suffix .mp4 where its codecs allow it, else .mkv. Raises ItemError, and leaves no file then.
    """
    fits_mp4 = facts.video_codec in MP4_VIDEO | {None} and facts.audio_codec in MP4_AUDIO | {None}
    target = target.with_suffix(".mp4" if fits_mp4 else ".mkv")
    try:
        return Cut(target, _cut(source, facts, segment_s, target))
    except (ItemError, OSError):
        target.unlink(missing_ok=True)
        raise


def answer_cut(
    source: str, facts: dict[str, Any], segment_s: tuple[float, float], target: str
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """`cut`, as `tasks.isolation` calls it."""
    made = cut(Path(source), Probe(**facts), segment_s, Path(target))
    return {"path": str(made.path), "begins_s": made.begins_s}, {}


def _cut(source: Path, facts: Probe, segment_s: tuple[float, float], target: Path) -> float:
    """Writes `target`; returns where the segment begins in it."""
    start_s, end_s = segment_s
    begins_s = facts.start_s + start_s
    for lead_s in (AUDIO_LEAD_S + MARGIN_S, 5.0, start_s):
        from_s = max(0.0, start_s - lead_s)
        _copy_streams(source, from_s, end_s + MARGIN_S - from_s, target)
        shift_s = _shift(source, target, facts.start_s + from_s)
        if from_s == 0.0 or _first_time(target) + shift_s <= begins_s - AUDIO_LEAD_S:
            break
    return begins_s - shift_s


def _copy_streams(source: Path, from_s: float, length_s: float, target: Path) -> None:
    seek = {"ss": from_s} if from_s else {}  # a seek to 0 would lose Vorbis's first packet
    stream = ffmpeg.input(f"file:{source}", **seek, t=length_s, fflags="+genpts", protocol_whitelist="file")
    options = {"c": "copy", "map_metadata": -1, "map_chapters": -1, "fflags": "+bitexact"}
    output = ffmpeg.output(stream["V:0?"], stream["a:0?"], f"file:{target}", **options)
    run_ffmpeg(output)


def _shift(source: Path, target: Path, sought_s: float) -> float:
    """Source time minus cut time, from packets of both streams that both files hold.

    Measured, not assumed: muxers move time stamps by edit lists, B frames and encoder delay. Still pictures
    and silence repeat packets, so the shift on which most packets agree wins, and among equals the one whose
    cut begins last at or before the time that was sought.
    """
    cut_packets = list(islice(_packets(target, 0.0), COMPARED_PACKETS))
    times: dict[bytes, list[float]] = {}
    for tail, time_s in cut_packets:
        times.setdefault(tail, []).append(time_s)
    read = takewhile(lambda packet: packet[1] <= sought_s + SEEK_FROM_S, _packets(source, sought_s))
    shifts = np.sort([time_s - cut_s for tail, time_s in read for cut_s in times.get(tail, ())])
    if not len(shifts):
        raise ItemError(Outcome.QUARANTINED, "decodable", "its cut holds none of its packets")
    agreeing = np.searchsorted(shifts, shifts + ROUNDING_S, "right") - np.arange(len(shifts))
    first_s = min(time_s for _, time_s in cut_packets)

    def preference(at: int) -> tuple[bool, float]:
        begins_s = first_s + shifts[at]
        return begins_s > sought_s + JITTER_S, abs(begins_s - sought_s)

    best = min(np.flatnonzero(agreeing == agreeing.max()).tolist(), key=preference)
    return float(np.median(shifts[best : best + agreeing[best]]))


def _packets(path: Path, time_s: float) -> Iterator[tuple[bytes, float]]:
    """(tail, presentation time) of both streams' packets, from a key frame before `time_s`."""
    with open_media(path) as container:
        if time_s > SEEK_FROM_S:
            container.seek(int((time_s - SEEK_FROM_S) * av.time_base))
        for packet in container.demux(media_streams(container)):
            if packet.pts is not None and packet.size:
                yield bytes(packet)[-TAIL_BYTES:], float(packet.pts * packet.time_base)


def media_streams(container: av.container.InputContainer) -> list[av.stream.Stream]:
    """The two streams that count, or the one there is."""
    return [stream for stream in (video_stream(container), audio_stream(container)) if stream is not None]


def _first_time(path: Path) -> float:
    """When the later of the two streams starts."""
    with open_media(path) as container:
        streams, starts = media_streams(container), {}
        for packet in container.demux(streams):
            if packet.pts is not None:
                starts.setdefault(packet.stream_index, float(packet.pts * packet.time_base))
            if len(starts) == len(streams):
                break
        return max(starts.values(), default=0.0)


@cache
def ffmpeg_path() -> str:
    """The ffmpeg to run: imageio-ffmpeg's static one, which starts ten times faster, else the system's."""
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        found = shutil.which("ffmpeg")
        if found is None:
            raise FileNotFoundError(
                "no ffmpeg: `pip install imageio-ffmpeg` or `apt-get install ffmpeg`"
            ) from None
        return found


def run_ffmpeg(output: Any) -> None:
    """Runs an ffmpeg-python output in a process without credentials, within limits of time and memory.

    Raises ItemError (quarantined, `decodable`) with the end of what it said, OSError where the disk is full.
    """
    quiet = output.global_args("-nostdin", "-loglevel", "error", "-threads", "1").overwrite_output()
    environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    command = quiet.compile(cmd=ffmpeg_path())
    with subprocess.Popen(  # noqa: S603  (a list of arguments, files named as file:...)
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=end_with_parent,  # one call of the kernel: safe beside other threads
    ) as process:
        _, most = resource.getrlimit(resource.RLIMIT_AS)  # a media process has one already, and hands it on
        if most == resource.RLIM_INFINITY:
            limit("AS", MEMORY_BYTES, process.pid)
        limit("CPU", FFMPEG_TIMEOUT_S, process.pid)  # where nobody is left who would end it
        try:
            _, said = process.communicate(timeout=FFMPEG_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise ItemError(
                Outcome.QUARANTINED, "decodable", f"ffmpeg took over {FFMPEG_TIMEOUT_S} s"
            ) from None
    if process.returncode != 0:
        message = said.decode(errors="replace").strip()[-500:]
        if os.strerror(errno.ENOSPC) in message:
            raise OSError(errno.ENOSPC, message)
        raise ItemError(Outcome.QUARANTINED, "decodable", f"ffmpeg failed: {message}")
