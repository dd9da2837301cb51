"""The sound of a segment on its own clock: pieces placed by their presentation time, resampled once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import av
import numpy as np
import soxr
from av.audio.frame import format_dtypes

from schemas.feature import Profile
from tasks.media import AUDIO_LEAD_S, JITTER_S, in_seconds

SETTLE_S = 1.0  # sound this long before a segment says nothing about it: codecs look back 0.1 s at most
INT16 = 32768.0


@dataclass
class Sound:
    """Decoded frames of one stream on the segment's clock; gaps become silence, overlaps are dropped."""

    rate_hz: int
    channels: int  # to make of however many there are: 1 or 2
    pieces: list[tuple[float, np.ndarray]] = field(default_factory=list)  # (channels, samples) as decoded

    def hear(self, samples: np.ndarray, time_s: float, length_s: float) -> None:
        """(channels, samples) of any type that start at `time_s` after the segment's start."""
        # What ends before the lead is decoded for the codec's sake only, and must not move the anchor below.
        if -AUDIO_LEAD_S < time_s < length_s and samples.size:
            self.pieces.append((time_s, samples))

    def first_s(self) -> float:
        """When the sound starts, 0 if it does before the segment."""
        return max(self.pieces[0][0], 0.0) if self.pieces else 0.0

    def wave(self, length_s: float) -> np.ndarray:
        """float32 (samples, channels) from the segment's start to the end of its sound."""
        begins, ends = self._placed()
        num_samples = min(max(ends, default=0), round(length_s * self.rate_hz))
        wave = np.zeros((max(num_samples, 0), self.channels), np.float32)
        for begin, samples in self._runs(begins):
            here = wave[max(begin, 0) : begin + len(samples)] if begin + len(samples) > 0 else wave[:0]
            here[:] = samples[max(-begin, 0) :][: len(here)]
        return wave

    def _runs(self, begins: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
        """(first sample, float32 (samples, channels)) of pieces that follow each other without a gap."""
        ends = [begin + piece.shape[1] for begin, (_, piece) in zip(begins, self.pieces, strict=True)]
        kinds = [(piece.dtype, len(piece)) for _, piece in self.pieces]
        number, numbers = 0, []
        for n in range(len(begins)):
            number += n > 0 and (begins[n] != ends[n - 1] or kinds[n] != kinds[n - 1])
            numbers.append(number)
        for _, of_run in groupby(range(len(begins)), numbers.__getitem__):
            run = list(of_run)
            yield begins[run[0]], _mixed(np.concatenate([self.pieces[n][1] for n in run], 1), self.channels)

    def _placed(self) -> tuple[list[int], list[int]]:
        """Where each piece begins and ends, in samples: pieces without a gap between them are one run.

        A run is anchored at the median over its pieces, because containers round single time stamps.
        """
        sizes = np.array([samples.shape[1] for _, samples in self.pieces], np.int64)
        before = np.cumsum(sizes) - sizes
        anchors = np.array([time_s for time_s, _ in self.pieces]) - before / self.rate_hz
        gaps = np.flatnonzero(np.abs(np.diff(anchors)) > JITTER_S) + 1
        runs = [np.full(len(run), np.median(run)) for run in np.split(anchors, gaps) if len(run)]
        starts = np.round(np.concatenate([np.zeros(0), *runs]) * self.rate_hz).astype(np.int64) + before
        return starts.tolist(), (starts + sizes).tolist()


def heard(packets: Sequence[av.Packet], begins_s: float, length_s: float, profile: Profile) -> Sound:
    """The sound of the segment that begins at `begins_s`, by one stream's packets in order."""
    sound: Sound | None = None
    seconds = in_seconds(packets[0].time_base if packets else None)
    for packet in packets:
        if packet.pts is not None and seconds(packet.pts) < begins_s - SETTLE_S:
            continue
        for frame in packet.decode():
            if isinstance(frame, av.AudioFrame) and frame.time is not None:
                sound = sound or Sound(frame.sample_rate, profile.channels)
                sound.hear(_samples(frame), frame.time - begins_s, length_s)
    return sound or Sound(profile.sample_rate_hz, profile.channels)


def resampled(wave: np.ndarray, rate_hz: int, profile: Profile) -> np.ndarray:
    """`wave` at the profile's rate as int16 (samples, channels), zero-padded to its exact length."""
    out = np.zeros((profile.num_samples, profile.channels), np.int16)
    same = soxr.resample(wave, rate_hz, profile.sample_rate_hz, quality="HQ")[: len(out)]
    out[: len(same)] = np.round(np.clip(same, -1.0, (INT16 - 1) / INT16) * INT16).astype(np.int16)
    return out


def _samples(frame: av.AudioFrame) -> np.ndarray:
    """(channels, samples) as decoded."""
    kind, size = format_dtypes[frame.format.name], frame.samples
    planes: list[Any] = list(frame.planes)  # buffers, which their stubs do not say
    if not frame.format.is_planar:
        return np.frombuffer(planes[0], kind, size * frame.layout.nb_channels).reshape(size, -1).T
    # `to_ndarray` stacks the planes, which takes four times as long.
    samples = np.empty((len(planes), size), kind)
    for channel, plane in zip(samples, planes, strict=True):
        channel[:] = np.frombuffer(plane, kind, size)
    return samples


def _mixed(samples: np.ndarray, channels: int) -> np.ndarray:
    """float32 (samples, channels) in [-1, 1]: the mean of all for mono, the first two (or one twice) else."""
    if samples.dtype == np.uint8:
        samples = samples.astype(np.float32) / 128.0 - 1.0
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / 2.0 ** (8 * samples.dtype.itemsize - 1)
    if channels == 1:
        return samples.mean(axis=0, dtype=np.float64).astype(np.float32)[:, None]
    return np.stack([samples[0], samples[min(1, len(samples) - 1)]], axis=1).astype(np.float32)
