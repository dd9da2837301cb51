"""The laws by which a cause becomes a sound and a picture: in one place, used by every family.

size -> pitch      a body twice as large rings lower; three octaves from the smallest to the largest
material -> ring   its partials and how long each of them lasts
force -> level     a harder blow is louder, and is seen as a wider movement
count -> density   more things make more sounds at each beat
contact -> onset   things touch on a beat; the frame that is open at that moment shows them touching
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

LENGTH_S = 10.0  # AudioSet's segment length
FRAME_RATE_HZ = 12  # the cheapest rate at which the shortest beats still show three frames each
MARGIN_S = 2.0  # beats continue before and after, so that tails ring in and the sound can be shifted

OCTAVES = 3.0  # smallest to largest: two scenes of one family differ by an octave on average
# Of the frame's height: a fifth is still readable at 112 px
SMALLEST = 0.2
LARGEST = 0.66
QUIETEST_DB = -9.0  # the softest blow relative to the hardest: heard as an accent, never lost
# Things that sound at one beat
FEWEST = 2
MOST = 14
# Of the mean period: a lively rhythm. In an even one (0.94 to 1.06), sounds that are a beat late fit as well: a
# listener who perceives every beat, but not its force, gets 60 % of the offsets right there, and 99 % here
# (`benchmarks.oracle`).
SHORTEST_SHARE = 0.8
LONGEST_SHARE = 1.2
LOUDNESS_REFERENCE_HZ = 440.0  # decay times are given at concert pitch
VOLLEY_SHARE = 0.45  # the share of a period with the sounds of one beat: a gap remains before the next


@dataclass(frozen=True)
class Material:
    """Frequencies of the partials relative to the lowest, their gains, and the lowest one's decay time."""

    ratios: tuple[float, ...]
    gains: tuple[float, ...]
    decay_s: float


# Ratios: free bars and plates (Fletcher & Rossing, The Physics of Musical Instruments), a church bell's
# hum-prime-tierce-quint-nominal, a circular membrane, an ideal string. Decays were set by ear.
MATERIALS = {
    "wood": Material((1.0, 2.57, 4.95), (1.0, 0.45, 0.25), 0.09),
    "rubber": Material((1.0, 1.59), (1.0, 0.3), 0.06),
    "glass": Material((1.0, 2.32, 4.25, 6.63), (1.0, 0.7, 0.5, 0.35), 0.30),
    "metal": Material((1.0, 2.756, 5.404, 8.933), (1.0, 0.6, 0.5, 0.3), 0.60),
    "bronze": Material((1.0, 2.0, 2.4, 3.0, 4.0, 5.33), (0.6, 1.0, 0.7, 0.4, 0.6, 0.3), 0.80),
    "skin": Material((1.0, 1.594, 2.136, 2.653), (1.0, 0.5, 0.35, 0.2), 0.13),
    "string": Material((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0), (1.0, 0.7, 0.5, 0.4, 0.3, 0.2, 0.15), 0.45),
}
SOLIDS = ("wood", "rubber", "glass", "metal")  # materials that a body of any shape can be made of


@dataclass(frozen=True)
class Moment:
    """A moment in the rhythm of a scene: everything that a painter needs to know about time."""

    index: int  # of the last beat
    phase: float  # 0 at that beat, towards 1 at the next
    since_s: float
    until_s: float
    force: float  # of the last beat
    next_force: float

    @property
    def turns(self) -> float:
        """Beats so far, counted continuously."""
        return self.index + self.phase

    @property
    def lift(self) -> float:
        """The height of a thing thrown up at a beat and back at the next: 0 at contact, 1 half-way."""
        return 4.0 * self.phase * (1.0 - self.phase)

    def fading(self, decay_s: float) -> float:
        """1 at the beat, then dying away."""
        return float(np.exp(-self.since_s / decay_s))


@dataclass(frozen=True)
class Beats:
    """When things touch and how hard, from MARGIN_S before the scene to MARGIN_S after it."""

    times_s: tuple[float, ...]
    forces: tuple[float, ...]

    def at(self, time_s: float) -> Moment:
        """The moment `time_s` seconds into the scene."""
        last = min(max(bisect_right(self.times_s, time_s) - 1, 0), len(self.times_s) - 2)
        start = self.times_s[last]
        stop = self.times_s[last + 1]
        phase = min(max((time_s - start) / (stop - start), 0.0), 1.0)
        return Moment(
            last, phase, max(time_s - start, 0.0), stop - time_s, self.forces[last], self.forces[last + 1]
        )

    def exposed(self, time_s: float) -> Moment:
        """The moment that the frame at `time_s` shows: the contact itself if one falls within its exposure."""
        nearest = min(self.times_s, key=lambda beat_s: abs(beat_s - time_s))
        is_contact = abs(nearest - time_s) <= 0.5 / FRAME_RATE_HZ
        return self.at(nearest if is_contact else time_s)

    def turns(self, times_s: np.ndarray) -> np.ndarray:
        """Beats so far at each of `times_s`, counted continuously like `Moment.turns`."""
        return np.interp(times_s, self.times_s, np.arange(len(self.times_s)))

    def onsets_ms(self, shift_ms: float = 0.0) -> list[int]:
        """Beats inside the scene, in milliseconds from its start, `shift_ms` later than they were."""
        moved = (round(beat_s * 1000.0 + shift_ms) for beat_s in self.times_s)
        return [onset_ms for onset_ms in moved if 0 <= onset_ms < LENGTH_S * 1000.0]


@dataclass(frozen=True)
class Cause:
    """Everything that decides what happens in a scene: picture and sound of the same cause belong together."""

    family: str
    size: float  # 0 to 1: seen in one frame
    rate_hz: float  # of the beats: seen only in time
    material: str
    count: float  # 0 to 1: how many things
    delay_s: float  # between what is seen and what is heard
    beats: Beats
    seed: int  # of the noise in the sound itself: each blow on gravel has a different noise

    @property
    def extent(self) -> float:
        """The height of the thing as a share of the frame's."""
        return extent(self.size)

    @property
    def num_things(self) -> int:
        """How many things are visible, and how many sound at a beat."""
        return num_things(self.count)


def extent(size: float) -> float:
    """The height of a thing of `size` 0 to 1, as a share of the frame's height."""
    return SMALLEST + (LARGEST - SMALLEST) * size


def pitch_hz(size: float, lowest_hz: float) -> float:
    """The pitch of a thing of `size` 0 to 1 in a family whose largest sounds at `lowest_hz`."""
    return lowest_hz * 2.0 ** (OCTAVES * (1.0 - size))


def decay_s(material: Material, partial_hz: float) -> float:
    """How long a partial takes to fall by 1/e: the higher, the shorter, as with internal friction."""
    return material.decay_s * float(np.sqrt(LOUDNESS_REFERENCE_HZ / partial_hz))


def gain(force: float) -> float:
    """The amplitude of a blow of `force` 0 to 1."""
    return 10.0 ** (QUIETEST_DB * (1.0 - force) / 20.0)


def num_things(count: float) -> int:
    """How many things `count` 0 to 1 stands for; equal steps of `count` are equal ratios."""
    return round(FEWEST * (MOST / FEWEST) ** count)


def volley(cause: Cause) -> list[tuple[float, float]]:
    """(time, gain) of every sound if `num_things` sound at each beat, the first on the beat itself."""
    number = cause.num_things
    return [
        (start + VOLLEY_SHARE * (stop - start) * thing / number, gain(force))
        for (start, stop), force in zip(pairwise(cause.beats.times_s), cause.beats.forces, strict=False)
        for thing in range(number)
    ]


def draw_beats(
    rate_hz: float,
    rng: np.random.Generator,
    shares: tuple[float, float] = (SHORTEST_SHARE, LONGEST_SHARE),
) -> Beats:
    """Beats at about `rate_hz` with a uniform start phase and independent forces; `shares` of the mean period."""
    first_s = -MARGIN_S - rng.uniform() / rate_hz
    number = int((LENGTH_S + 2.0 * MARGIN_S) * rate_hz / shares[0]) + 2
    periods_s = rng.uniform(*shares, number) / rate_hz
    times_s = first_s + np.concatenate([[0.0], np.cumsum(periods_s)])
    return Beats(tuple(times_s.tolist()), tuple(rng.uniform(size=number + 1).tolist()))
