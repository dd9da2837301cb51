"""Films as strangers have them, generated: short and small, with their clock in the picture and in the sound.

Each picture's bars say its own time in ms, in binary; the sound is noise from a fixed seed, so that the place of any
piece of it is found by correlation to a fraction of a millisecond.
"""

import struct
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
from ffmpeg_runs import run_ffmpeg
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from tasks.media.pictures import TIE_S
from tasks.media.streams import ffmpeg_path

WIDTH = 128
HEIGHT = 96
BITS = 13
SECONDS = 7.0
NOISE_HZ = 48_000
RATE = 16_000  # at which sounds are compared
REACH_S = 0.05  # within which one is looked for
LOUD = 0.01
ROUNDING_S = 0.001  # a time on either side, each rounded to a millisecond

# What each container is met with: picture codecs, sound codecs.
CONTAINERS = {
    "mp4": ("libx264 libx265 mpeg4 libsvtav1 libvpx-vp9", "aac libmp3lame ac3 alac libopus flac"),
    "mov": ("libx264 mjpeg prores_ks mpeg4", "aac pcm_s16le alac pcm_s24le adpcm_ima_qt"),
    "mkv": (
        "libx264 libx265 libvpx libvpx-vp9 mpeg2video mpeg4 libtheora mjpeg ffv1",
        "aac libmp3lame mp2 libopus libvorbis flac ac3 pcm_s16le pcm_f32le",
    ),
    "webm": ("libvpx libvpx-vp9 libsvtav1", "libopus libvorbis"),
    "ts": ("libx264 libx265 mpeg2video", "aac libmp3lame mp2 ac3"),
    "avi": ("mpeg4 mjpeg libxvid rawvideo", "libmp3lame pcm_s16le ac3 adpcm_ms"),
    "flv": ("libx264 flv", "aac libmp3lame"),
    "mpg": ("mpeg1video mpeg2video", "mp2"),
    "3gp": ("h263 mpeg4 libx264", "aac"),
    "wmv": ("wmv2 msmpeg4", "wmav2"),
    "ogv": ("libtheora", "libvorbis flac libopus"),
}
RATES = ("10", "15", "24000/1001", "24", "24.3", "25", "30000/1001", "30", "50", "60")
MPEG_RATES = ("24000/1001", "24", "25", "30000/1001", "30", "50", "60")
SAMPLE_RATES = (48_000, 44_100, 32_000, 22_050, 16_000)
ONLY_RATES = {"libopus": (48_000,), "ac3": (48_000, 44_100, 32_000), "mp2": (48_000, 44_100, 32_000)}
FLV_RATES = (44_100, 22_050)
QUALITY = {
    "libx264": "-preset veryfast -crf 16",
    "libx265": "-preset ultrafast -crf 16 -x265-params log-level=none",
    "libvpx": "-b:v 1500k -deadline realtime -cpu-used 8 -auto-alt-ref 1 -lag-in-frames 12",
    "libvpx-vp9": "-b:v 1500k -deadline realtime -cpu-used 8",
    "libsvtav1": "-preset 12 -crf 20 -svtav1-params log-level=0",
    "libtheora": "-q:v 8",
    "ffv1": "",
    "rawvideo": "",
    "prores_ks": "-profile:v 0",
}
HAS_B_PICTURES = {"libx264", "libx265", "mpeg1video", "mpeg2video", "mpeg4", "libxvid"}
LATE_CLOCKS = {"mkv", "ts", "mp4"}
EDITED = {"mp4", "mov"}
# Delayed, because AC-3 is described by its first packet.
FRAGMENTS = ["-movflags", "+frag_keyframe+empty_moov+delay_moov"]
STREAMED = {"mp4": FRAGMENTS, "mov": FRAGMENTS, "webm": ["-live", "1"]}


@dataclass(frozen=True)
class Film:
    """One generated file."""

    container: str
    video: str
    audio: str
    frame_rate: str
    sample_rate: int
    key_every: int
    b_pictures: int
    varies: bool  # every third picture only, from the middle on
    clock_s: float  # by which the file's clock is late
    late_sound_s: float
    late_picture_s: float
    hidden_s: float  # of the beginning, by an edit list
    is_streamed: bool  # without an index, or in fragments
    is_refreshed: bool = False  # piece by piece, without key pictures

    def write(self, folder: Path) -> Path:
        """The file, under `folder`. Raises CalledProcessError where ffmpeg can't make it."""
        path = folder / f"film.{self.container}"
        target = folder / f"whole.{self.container}" if self.hidden_s else path
        _write(self, folder, target)
        if self.hidden_s:
            run_ffmpeg("-ss", self.hidden_s, "-i", target, "-c", "copy", path)
            target.unlink()
        return path


@st.composite
def films(draw: st.DrawFn, containers: Collection[str] = tuple(CONTAINERS)) -> Film:
    """Any of them in these containers."""
    container = draw(st.sampled_from(sorted(containers)))
    videos, audios = (names.split() for names in CONTAINERS[container])
    video = draw(st.sampled_from(videos))
    audio = draw(st.sampled_from(audios))
    rates = MPEG_RATES if video.startswith(("mpeg1", "mpeg2")) else RATES
    sounds = FLV_RATES if container == "flv" else ONLY_RATES.get(audio, SAMPLE_RATES)
    can_vary = container in {"mp4", "mkv", "webm", "mov", "flv"} and video not in {"mpeg1video", "mpeg2video"}
    is_late = (
        draw(st.sampled_from(("", "", "sound", "picture")))
        if container in {"mp4", "mov", "mkv", "ts"}
        else ""
    )
    late_s = draw(st.sampled_from((0.037, 0.3, 0.7)))
    return Film(
        container,
        video,
        audio,
        draw(st.sampled_from(rates)),
        draw(st.sampled_from(sounds)),
        key_every=draw(st.sampled_from((1, 12, 50, 250))),
        b_pictures=draw(st.integers(0, 3)) if video in HAS_B_PICTURES else 0,
        varies=can_vary and draw(st.sampled_from((False, False, True))),
        clock_s=draw(
            st.sampled_from((0.0, 0.0, 1.234, 120.0, 95_440.0)) if container in LATE_CLOCKS else st.just(0.0)
        ),
        late_sound_s=late_s if is_late == "sound" else 0.0,
        late_picture_s=late_s if is_late == "picture" else 0.0,
        hidden_s=draw(st.sampled_from((0.0, 0.0, 0.731, 1.517))) if container in EDITED else 0.0,
        is_streamed=draw(st.sampled_from((False, False, True))),
        is_refreshed=video == "libx264" and draw(st.sampled_from((False, False, True))),
    )


def _write(film: Film, folder: Path, target: Path) -> None:
    sound = folder / "sound.wav"
    soundfile.write(sound, _noise(), NOISE_HZ, subtype="PCM_16")
    picture, audio = _inputs(film, sound)
    encoded = (
        f"-c:v {film.video} {QUALITY.get(film.video, '-q:v 3')} -g {film.key_every} -bf {film.b_pictures}"
    )
    if film.is_refreshed:
        encoded += " -x264-params intra-refresh=1:keyint=30:bframes=0"
    if film.video not in HAS_B_PICTURES:
        encoded = encoded.rpartition(" -bf")[0]
    pixels = (
        "yuv422p10le" if film.video == "prores_ks" else "yuvj420p" if film.video == "mjpeg" else "yuv420p"
    )
    chosen = "select='lt(t,3)+not(mod(n,3))'," if film.varies else ""
    passing = "-fps_mode passthrough" if film.varies else ""
    arguments = [
        *picture, *audio, "-map", "0:v", "-map", "1:a", "-vf", f"{chosen}format={pixels}", *passing.split(),
        *encoded.split(), "-strict", "-2", "-c:a", film.audio, "-ar", film.sample_rate, "-ac", 1,
    ]  # fmt: skip
    if film.clock_s:
        arguments += ["-output_ts_offset", film.clock_s]
    if film.is_streamed:
        arguments += STREAMED.get(film.container, [])
    _piped([*arguments, target], _pictures(film.frame_rate))


def _inputs(film: Film, sound: Path) -> tuple[list, list]:
    """Options of both inputs: what is late begins later in the master, too."""
    picture = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{WIDTH}x{HEIGHT}", "-r", film.frame_rate]
    if film.late_picture_s:
        picture = ["-itsoffset", film.late_picture_s, *picture]
    audio = ["-itsoffset", film.late_sound_s] if film.late_sound_s else []
    return [*picture, "-i", "-"], [*audio, "-i", sound]


def _piped(arguments: list, content: bytes) -> None:
    command = [ffmpeg_path(), "-nostdin", "-loglevel", "error", "-y", "-threads", "1", *map(str, arguments)]
    subprocess.run(command, input=content, check=True, capture_output=True)


@cache
def _pictures(frame_rate: str) -> bytes:
    rate = Fraction(frame_rate)
    times_ms = [round(1000 * n / rate) for n in range(int(SECONDS * rate))]
    rows = [
        np.repeat([40 + 180 * ((ms >> bit) & 1) for bit in reversed(range(BITS))], WIDTH // BITS)
        for ms in times_ms
    ]
    wide = np.pad(np.array(rows, np.uint8), ((0, 0), (0, WIDTH - WIDTH // BITS * BITS)))
    return np.repeat(wide[:, None, :], HEIGHT, axis=1).tobytes()


@cache
def _noise() -> np.ndarray:
    """Float64 of SECONDS between 200 and 3,200 Hz: what every rate above 8 kHz holds."""
    rng = np.random.default_rng(7)
    count = int(SECONDS * NOISE_HZ)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / NOISE_HZ)
    spectrum[(hertz < 200) | (hertz > 3200)] = 0
    wave = np.fft.irfft(spectrum, count)
    return (0.2 * wave / wave.std()).clip(-0.99, 0.99)


def shown_ms(luma: np.ndarray) -> int:
    """The time that a picture's luma says, at any size."""
    width = luma.shape[1] * (WIDTH // BITS * BITS) / WIDTH
    levels = [
        luma[
            luma.shape[0] // 4 : -luma.shape[0] // 4,
            round((n + 0.3) * width / BITS) : round((n + 0.7) * width / BITS) + 1,
        ].mean()
        for n in range(BITS)
    ]
    return sum(1 << bit for bit, level in zip(reversed(range(BITS)), levels, strict=True) if level > 130)


def lag_s(wave: np.ndarray, played: np.ndarray, start_s: float) -> float | None:
    """By how much `wave` is late against `played` from `start_s` on; None where there is too little of both."""
    reach = round(REACH_S * RATE)
    start = round(start_s * RATE)
    around = np.pad(played, reach)[max(start, 0) : start + len(wave) + 2 * reach]
    if len(around) < len(wave) + 2 * reach or wave.std() < LOUD or around[reach:-reach].std() < LOUD:
        return None
    found = fftconvolve(around, wave[::-1], "valid")
    energy = np.sqrt(np.maximum(fftconvolve(around**2, np.ones(len(wave)), "valid"), 1e-9))
    match = found / energy
    best = int(np.clip(np.argmax(match), 1, len(match) - 2))
    left, middle, right = match[best - 1 : best + 2]
    return -(best + (left - right) / (2 * (left - 2 * middle + right)) - reach) / RATE


@dataclass(frozen=True)
class Played:
    """A file as libav plays it from the beginning: all its pictures and its sound by their own times.

    In MP4 these are those of the packets less where its edit list begins: what libav makes of it itself is off by up
    to a picture.
    """

    starts_s: float
    sound_s: float  # when the sound begins, 0 if it does before
    times_s: np.ndarray
    shown: list[int]
    wave: np.ndarray  # mono at RATE, from `starts_s` on

    @classmethod
    def of(cls, path: Path) -> "Played":
        """Decodes everything."""
        pictures: list[tuple[float, int]] = []
        sounds: list[tuple[float, np.ndarray, int]] = []
        with av.open(str(path)) as container:
            starts_s = (container.start_time or 0) / av.time_base
        with av.open(str(path), options={"fflags": "+genpts", "advanced_editlist": "0"}) as container:
            streams = [container.streams.video[0], container.streams.audio[0]]
            for packet in container.demux(streams):
                for frame in packet.decode():
                    if frame.time is None:  # of a decoder's end
                        continue
                    if isinstance(frame, av.VideoFrame):
                        pictures.append((frame.time - starts_s, shown_ms(frame.to_ndarray(format="gray"))))
                    else:
                        sounds.append((frame.time - starts_s, _mono(frame), frame.sample_rate))
        times_s = np.sort([at for at, _ in pictures])  # they come as they are to be shown
        sound_s = max(min(at for at, _, _ in sounds), 0.0)
        return cls(starts_s, sound_s, times_s, [ms for _, ms in pictures], _placed(sounds))

    def in_parts(self, parts: Sequence[tuple[float, float]]) -> "Played":
        """What of it an edit list shows that has these parts: (when each begins in it, how long it lasts)."""
        times_s: list[float] = []
        shown: list[int] = []
        waves: list[np.ndarray] = []
        joint_s = 0.0
        for begins_s, length_s in parts:
            first = max(int(np.searchsorted(self.times_s, begins_s, "right")) - 1, 0)
            last = int(np.searchsorted(self.times_s, begins_s + length_s))
            times_s += [joint_s + max(at_s - begins_s, 0.0) for at_s in self.times_s[first:last]]
            shown += self.shown[first:last]
            waves.append(self.wave[round(begins_s * RATE) :][: round(length_s * RATE)])
            joint_s += length_s
        return Played(0.0, 0.0, np.array(times_s), shown, np.concatenate(waves))

    def may_show(self, at_s: float) -> set[int]:
        """What a picture at that moment may show, for all that containers and we round."""
        edges = (at_s - ROUNDING_S, at_s + ROUNDING_S, at_s + TIE_S + ROUNDING_S)
        places = [max(int(np.searchsorted(self.times_s, edge, "right")) - 1, 0) for edge in edges]
        return {self.shown[place] for place in places}


def _mono(frame: av.AudioFrame) -> np.ndarray:
    samples = frame.to_ndarray().astype(np.float64)
    if frame.format.is_packed:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    scale = {"u8": 128.0, "s16": 32768.0, "s32": 2147483648.0}.get(frame.format.name.rstrip("p"), 1.0)
    return samples.mean(axis=0) / scale - (frame.format.name.startswith("u8"))


def _placed(sounds: list[tuple[float, np.ndarray, int]]) -> np.ndarray:
    """Each piece where its time stamp says, to the sample; run on where stamps are only rounded."""
    rate = sounds[0][2]
    wave = np.zeros(round((sounds[-1][0] + 1) * rate) + len(sounds[-1][1]))
    due = round(sounds[0][0] * rate)
    for at_s, samples, _ in sounds:
        due = round(at_s * rate) if abs(at_s * rate - due) > 0.005 * rate else due
        wave[max(due, 0) : max(due + len(samples), 0)] = samples[max(-due, 0) :]
        due += len(samples)
    return soxr.resample(wave, rate, RATE)


def shown_in_parts(film: bytes, parts: Sequence[tuple[float, float]]) -> bytes:
    """An MP4 film that ends with its header, with an edit list that shows these parts of it: (begin, length) in s."""
    ((begin, end),) = _boxes(film, (0, len(film)), b"moov")
    (movie,) = _boxes(film, (begin, end), b"mvhd")
    header = film[begin:end]
    for track in reversed(list(_boxes(film, (begin, end), b"trak"))):
        (media,) = _boxes(film, track, b"mdia", b"mdhd")
        (old,) = _boxes(film, track, b"edts")
        (edits,) = _boxes(film, old, b"elst")
        (hidden,) = struct.unpack_from(">i", film, edits[0] + 12)  # encoders begin late
        rates = [struct.unpack_from(">I", film, box[0] + 12)[0] for box in (movie, media)]
        new = b"".join(
            struct.pack(">IiI", round(length_s * rates[0]), hidden + round(begins_s * rates[1]), 1 << 16)
            for begins_s, length_s in parts
        )
        new = _box(b"edts", _box(b"elst", struct.pack(">II", 0, len(parts)) + new))
        inside = film[track[0] : old[0] - 8] + new + film[old[1] : track[1]]
        header = header[: track[0] - 8 - begin] + _box(b"trak", inside) + header[track[1] - begin :]
    return film[: begin - 8] + _box(b"moov", header)


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def _boxes(film: bytes, within: tuple[int, int], name: bytes, *names: bytes) -> Iterator[tuple[int, int]]:
    """Where the content of boxes of a name, or of those inside it, begins and ends."""
    at, end = within
    while at < end:
        size, kind = struct.unpack_from(">I4s", film, at)
        if kind == name and names:
            yield from _boxes(film, (at + 8, at + size), *names)
        elif kind == name:
            yield at + 8, at + size
        at += size
