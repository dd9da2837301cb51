"""The sound of a segment on its own clock: pieces are placed by presentation time and resampled once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import av
import numpy as np
import soxr
from av.audio.frame import format_dtypes
from av.codec.context import Flags2

from schemas.feature import Profile
from tasks.media.downmix import as_floats, mixed, names_of, products_of, weights
from tasks.media.packets import is_hidden, span_of
from tasks.media.streams import UNDECODABLE, Clock

AUDIO_LEAD_S = 0.1  # lets the overlapping windows and bit reservoirs of lossy audio settle
ROUNDING_S = 0.0006  # of a time to a millisecond
JITTER_S = 0.03  # containers round time stamps, and some encoders are off by a packet
# Decoding starts this long before a segment, with the same packet in a file and in its cut: codecs look back 0.1 s at
# most, but some of them synthesise noise.
SETTLE_S = 0.5
INT16 = 32768.0


@dataclass(frozen=True)
class Piece:
    """One decoded frame: (channels, samples) as decoded, and when it starts on the segment's clock."""

    time_s: float
    samples: np.ndarray
    rate_hz: int
    layout: str  # of its channels, as libav names it
    part: tuple[int, int] | None = None  # of an edit list

    @property
    def kind(self) -> tuple:
        """What changes if a stream's parameters change."""
        return self.rate_hz, self.samples.dtype, self.layout

    @property
    def ends_s(self) -> float:
        """When the next piece is due."""
        return self.time_s + self.samples.shape[1] / self.rate_hz


@dataclass
class Sound:
    """Decoded frames of one stream on the segment's clock; gaps become silence, overlaps are dropped."""

    rate_hz: int  # the target rate, whatever the rates of the pieces
    channels: int  # the target number of channels: 1 or 2
    pieces: list[Piece] = field(default_factory=list)
    fault: str = ""  # what is wrong with a piece

    def hear(self, piece: Piece, length_s: float) -> None:
        """Adds a piece of a segment of that length."""
        # A piece that ends before the lead is decoded only for the codec, and must not move the anchor below.
        is_heard = piece.time_s > -AUDIO_LEAD_S or piece.ends_s > 0
        if is_heard and piece.time_s < length_s and piece.samples.size:
            self.pieces.append(piece)

    def first_s(self) -> float:
        """When the sound starts; 0 if it starts before the segment."""
        return max(self.pieces[0].time_s, 0.0) if self.pieces else 0.0

    def wave(self, length_s: float) -> np.ndarray:
        """float32 (samples, channels) from the segment's start to the end of its sound."""
        runs = list(self._runs())
        decoded = [as_floats(np.concatenate([piece.samples for piece in run], 1)) for run in runs]
        shares = self._shares(runs, decoded)
        placed = [
            (self._place(run), self._at_one_rate(mixed(samples, shares[run[0].layout]), run[0].rate_hz))
            for run, samples in zip(runs, decoded, strict=True)
        ]
        ends = max((begin + len(samples) for begin, samples in placed), default=0)
        wave = np.zeros((max(min(ends, round(length_s * self.rate_hz)), 0), self.channels), np.float32)
        for begin, samples in placed:
            here = wave[max(begin, 0) : begin + len(samples)] if begin + len(samples) > 0 else wave[:0]
            here[:] = samples[max(-begin, 0) :][: len(here)]
        return wave

    def _shares(self, runs: Sequence[list[Piece]], decoded: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """How much of each channel is heard, by layout: decided from all of the segment's sound in that layout."""
        products: dict[str, np.ndarray] = {}
        for run, samples in zip(runs, decoded, strict=True):
            layout = run[0].layout
            products[layout] = products.get(layout, 0.0) + products_of(samples)
        return {layout: weights(names_of(layout), found, self.channels) for layout, found in products.items()}

    def _runs(self) -> Iterator[list[Piece]]:
        """Sequences of pieces of the same kind that follow each other without a gap."""
        run: list[Piece] = []
        for piece in self.pieces:
            jitter_s = JITTER_S if not run or piece.part == run[-1].part else ROUNDING_S
            if run and (piece.kind != run[-1].kind or abs(piece.time_s - run[-1].ends_s) > jitter_s):
                yield run
                run = []
            run.append(piece)
        if run:
            yield run

    def _place(self, run: Sequence[Piece]) -> int:
        """The sample at which a run begins: the median over its pieces, because containers round time stamps."""
        before = np.cumsum([0, *(piece.samples.shape[1] for piece in run[:-1])])
        anchors = np.array([piece.time_s for piece in run]) - before / run[0].rate_hz
        return round(float(np.median(anchors)) * self.rate_hz)

    def _at_one_rate(self, samples: np.ndarray, rate_hz: int) -> np.ndarray:
        """float32 (samples, channels) at this sound's rate."""
        return (
            samples
            if rate_hz == self.rate_hz
            else soxr.resample(samples, rate_hz, self.rate_hz, quality="HQ")
        )


def heard(
    stream: av.AudioStream, packets: Sequence[av.Packet], clock: Clock, length_s: float, profile: Profile
) -> Sound:
    """The sound of a segment from its stream's packets in order.

    Nothing is trimmed: samples that an encoder put before the beginning have an earlier time, and in a cut they could
    not be recognised.
    """
    sound = Sound(profile.sample_rate_hz, profile.channels)
    time_s = clock.of(stream.time_base)
    stream.codec_context.flags2 |= Flags2.skip_manual
    times_s = [None if one.pts is None else time_s(one.pts) for one in packets]
    for packet, at_s in islice(zip(packets, times_s, strict=True), _first(times_s), None):
        try:
            frames = stream.codec_context.decode(packet)
        except UNDECODABLE:
            if at_s is not None and 0 <= at_s < length_s:
                sound.fault = sound.fault or f"its sound at {at_s:.3f} s does not decode"
            continue
        for frame in frames:
            if frame.pts is not None and not is_hidden(packet):
                sound.hear(_piece(frame, span_of(packet), clock), length_s)
    if sound.pieces:
        sound.rate_hz = sound.pieces[0].rate_hz
    return sound


def _piece(frame: av.AudioFrame, span: tuple[int, int] | None, clock: Clock) -> Piece:
    """What of a decoded frame lies in its part of an edit list, if there is one, to the sample."""
    samples = samples_of(frame)
    begins = frame.pts or 0
    if span and frame.time_base:
        per_tick = frame.time_base * frame.sample_rate
        first, end = (max(round((ticks - begins) * per_tick), 0) for ticks in span)
        samples = samples[:, first:end]
        begins = max(begins, span[0])
    return Piece(clock.of(frame.time_base)(begins), samples, frame.sample_rate, frame.layout.name, span)


def _first(times_s: Sequence[float | None]) -> int:
    """The number of the packet from which a segment's sound is decoded: SETTLE_S before it, or so long as one lasts."""
    early = [n for n, at_s in enumerate(times_s) if at_s is not None and at_s < -SETTLE_S]
    first = early[-1] + 1 if early else 0
    settles = any(at_s is not None and at_s <= -AUDIO_LEAD_S for at_s in times_s[first:])
    return first if settles or not early else early[-1]


def resampled(wave: np.ndarray, rate_hz: int, profile: Profile) -> np.ndarray:
    """`wave` at the profile's rate as int16 (samples, channels), zero-padded to its exact length."""
    out = np.zeros((profile.num_samples, profile.channels), np.int16)
    same = soxr.resample(wave, rate_hz, profile.sample_rate_hz, quality="HQ")[: len(out)]
    out[: len(same)] = np.round(np.clip(same, -1.0, (INT16 - 1) / INT16) * INT16).astype(np.int16)
    return out


def samples_of(frame: av.AudioFrame) -> np.ndarray:
    """(channels, samples) as decoded."""
    kind = format_dtypes[frame.format.name]
    size = frame.samples
    # Buffers, which their stubs don't declare. For eight channels, PyAV counts one plane too many, which has no memory.
    planes: list[Any] = list(frame.planes)[: frame.layout.nb_channels]
    if not frame.format.is_planar:
        return np.frombuffer(planes[0], kind, size * frame.layout.nb_channels).reshape(size, -1).T
    # `to_ndarray` stacks the planes, which takes four times as long.
    samples = np.empty((len(planes), size), kind)
    for channel, plane in zip(samples, planes, strict=True):
        channel[:] = np.frombuffer(plane, kind, size)
    return samples
