"""Decode a clip once: its frames and its sound on the segment's own clock, and what they show.

Everything goes by presentation time, so nothing outside the segment enters a feature: frame k is the picture
on display (k + 0.5) / rate seconds after the segment's start, and the sound is cut at the sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import av.error
import ffmpeg
import numpy as np
import soxr

from schemas.feature import Profile
from schemas.outcome import ItemError, Outcome
from tasks.media import AUDIO_LEAD_S, JITTER_S, media_streams, open_media, run_ffmpeg

EVEN = 2  # swscale's chroma wants even sizes


@dataclass
class Decoded:
    """A segment as arrays: exactly `profile.num_frames` frames and `profile.num_samples` samples."""

    frames: list[np.ndarray]  # uint8 (height, width, 3)
    wave: np.ndarray  # int16 (samples,), mono
    valid_ms: int
    start_skew_ms: float
    audio_short_ms: float
    decoder: str = "pyav"


@dataclass
class _Pictures:
    """Takes the pictures on display at `wanted_s`, in order, from frames in presentation order."""

    wanted_s: list[float]
    short_side_px: int
    aspect: float = 1.0  # of a pixel
    taken: list[np.ndarray] = field(default_factory=list)
    shown: av.VideoFrame | None = None
    first_s: float | None = None
    ends_s: float = 0.0

    def see(self, frame: av.VideoFrame, time_s: float, length_s: float) -> None:
        """One frame on, shown from `time_s` after the segment's start."""
        if time_s < length_s:
            self.first_s = time_s if self.first_s is None else self.first_s
            self.ends_s = time_s + float((frame.duration or 0) * (frame.time_base or 0))
        self._take(time_s)
        # A first picture that comes late is shown from the start: nothing else was on display.
        if self.shown is None or time_s < length_s:
            self.shown = frame

    def _take(self, before_s: float) -> None:
        while self.shown is not None and self._next_s() < before_s:
            self.taken.append(_scaled(self.shown, self.short_side_px, self.aspect))

    def _next_s(self) -> float:
        return self.wanted_s[len(self.taken)] if len(self.taken) < len(self.wanted_s) else np.inf

    def all(self) -> list[np.ndarray]:
        """Every wanted picture; what lies behind the last frame repeats it."""
        self._take(np.inf)
        return self.taken


@dataclass
class _Sound:
    """Collects mono float samples on the segment's clock; gaps become silence, overlaps are dropped."""

    rate_hz: int
    pieces: list[tuple[float, np.ndarray]] = field(default_factory=list)

    def hear(self, samples: np.ndarray, time_s: float, length_s: float) -> None:
        """float32 (samples,) that start at `time_s` after the segment's start."""
        # What ends before the lead is decoded for the codec's sake only, and must not move the anchor below.
        if -AUDIO_LEAD_S < time_s < length_s:
            self.pieces.append((time_s, samples))

    def first_s(self) -> float:
        """When the sound starts, 0 if it does before the segment."""
        return max(self.pieces[0][0], 0.0) if self.pieces else 0.0

    def wave(self, length_s: float) -> np.ndarray:
        """float32 (samples,) from the segment's start to the end of its sound."""
        begins, ends = self._placed()
        wave = np.zeros(min(max(ends, default=0), round(length_s * self.rate_hz)), np.float32)
        for (_, samples), begin in zip(self.pieces, begins, strict=True):
            here = wave[max(begin, 0) : begin + len(samples)] if begin + len(samples) > 0 else wave[:0]
            here[:] = samples[max(-begin, 0) :][: len(here)]
        return wave

    def _placed(self) -> tuple[list[int], list[int]]:
        """Where each piece begins and ends, in samples: pieces without a gap between them are one run.

        A run is anchored at the median over its pieces, because containers round single time stamps.
        """
        sizes = np.array([len(samples) for _, samples in self.pieces], np.int64)
        before = np.cumsum(sizes) - sizes
        anchors = np.array([time_s for time_s, _ in self.pieces]) - before / self.rate_hz
        gaps = np.flatnonzero(np.abs(np.diff(anchors)) > JITTER_S) + 1
        runs = [np.full(len(run), np.median(run)) for run in np.split(anchors, gaps) if len(run)]
        starts = np.round(np.concatenate([np.zeros(0), *runs]) * self.rate_hz).astype(np.int64) + before
        return starts.tolist(), (starts + sizes).tolist()


def decode(path: Path, begins_s: float, length_s: float, profile: Profile) -> Decoded:
    """Decodes the segment that begins at `begins_s` in `path` by PyAV, or by ffmpeg where PyAV can't.

    Raises ItemError (quarantined, `decodable`) where neither can.
    """
    try:
        return _decode(path, begins_s, length_s, profile)
    except ItemError:
        with TemporaryDirectory(prefix="mcgurk-") as folder:
            mended = Path(folder) / "mended.mkv"
            _mend(path, mended)
            decoded = _decode(mended, begins_s, length_s, profile)
        decoded.decoder = "ffmpeg"
        return decoded


def _mend(path: Path, target: Path) -> None:
    """ffmpeg reads on where PyAV stops at a damaged packet; its times stay the file's."""
    stream = ffmpeg.input(f"file:{path}", protocol_whitelist="file", copyts=None)
    options = {"c:v": "mjpeg", "q:v": 2, "pix_fmt": "yuvj420p", "c:a": "pcm_s16le", "fps_mode": "passthrough"}
    run_ffmpeg(ffmpeg.output(stream["V:0"], stream["a:0?"], f"file:{target}", **options))


def _decode(path: Path, begins_s: float, length_s: float, profile: Profile) -> Decoded:
    wanted = [(k + 0.5) / profile.frame_rate_hz for k in range(profile.num_frames)]
    pictures = _Pictures(wanted, profile.frame_short_side_px)
    sound: _Sound | None = None
    for stream, frame in _frames(path, begins_s + length_s):
        if isinstance(frame, av.VideoFrame):
            pictures.aspect = float(stream.sample_aspect_ratio or 1)
            pictures.see(frame, frame.time - begins_s, length_s)
        else:
            sound = sound or _Sound(frame.sample_rate)
            sound.hear(_mono(frame), frame.time - begins_s, length_s)
    if pictures.shown is None or pictures.first_s is None:
        raise ItemError(Outcome.QUARANTINED, "decodable", "no picture inside the segment")
    return _decoded(pictures, sound or _Sound(profile.sample_rate_hz), length_s, profile)


def _decoded(pictures: _Pictures, sound: _Sound, length_s: float, profile: Profile) -> Decoded:
    heard = sound.wave(length_s)
    sound_s = len(heard) / sound.rate_hz
    ends_s = min(length_s, pictures.ends_s, sound_s, profile.length_ms / 1000)
    wave = np.zeros(profile.num_samples, np.int16)
    resampled = soxr.resample(heard, sound.rate_hz, profile.sample_rate_hz, quality="HQ")[: len(wave)]
    wave[: len(resampled)] = np.round(np.clip(resampled, -1.0, 32767 / 32768) * 32768.0).astype(np.int16)
    skew_s = sound.first_s() - max(pictures.first_s or 0.0, 0.0)
    short_s = max(0.0, length_s - sound_s)
    return Decoded(pictures.all(), wave, int(ends_s * 1000), skew_s * 1000, short_s * 1000)


def _frames(path: Path, ends_s: float) -> Iterator[tuple[Any, Any]]:
    """(stream, frame) of both streams up to `ends_s`, each stream's in presentation order."""
    with open_media(path) as container:
        streams = media_streams(container)
        for stream in streams:
            stream.codec_context.thread_count = 1  # workers x threads = cores
        ended: set[int] = set()
        for packet in container.demux(streams):
            for frame in packet.decode():
                time_s = getattr(frame, "time", None)
                if time_s is None:
                    continue
                if time_s >= ends_s:
                    ended.add(packet.stream.index)
                yield packet.stream, frame
            if len(ended) == len(streams):
                return


def _mono(frame: av.AudioFrame) -> np.ndarray:
    """float32 (samples,): the mean of all channels, in [-1, 1]."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        samples = samples.astype(np.float32) / 128.0 - 1.0
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / 2.0 ** (8 * samples.dtype.itemsize - 1)
    return samples.mean(axis=0, dtype=np.float64).astype(np.float32)


def _scaled(frame: av.VideoFrame, short_side_px: int, aspect: float) -> np.ndarray:
    """uint8 (height, width, 3): upright, with square pixels, the short side as asked."""
    width = frame.width * aspect
    scale = short_side_px / min(width, frame.height)
    size = [max(EVEN, round(side * scale / EVEN) * EVEN) for side in (width, frame.height)]
    picture = frame.to_ndarray(width=size[0], height=size[1], format="rgb24", interpolation="AREA")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, turns))
