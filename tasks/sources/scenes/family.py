"""A family: one kind of thing that sounds, with a label, a register and two pure functions of its cause."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasks.sources.scenes.laws import Cause, Moment, pitch_hz
from tasks.sources.scenes.paint import Stage

# Paints everything specific to the family, so that the area outside its box does not reveal the family.
Figure = Callable[[Stage, Cause, Moment], None]
Voice = Callable[[Cause, float], np.ndarray]  # (cause, pitch in Hz) -> wave on `synth.clock_s()`


@dataclass(frozen=True)
class Family:
    """How a cause looks and sounds; the laws themselves are in `laws`."""

    name: str
    mid: str  # AudioSet's machine id of the label
    label: str  # and its display name
    lowest_hz: float  # pitch of the largest; the smallest is three octaves above
    figure: Figure
    voice: Voice
    materials: tuple[str, ...]
    rates_hz: tuple[float, float] = (1.2, 3.2)  # an onset in every second; 3 frames a beat at least
    further_causes: tuple[str, ...] = ()  # besides size and rate_hz, which all families draw
    is_struck: bool = True  # every beat starts a separate sound
    # Kept out of training. All its laws also occur elsewhere: wood and bars in `ball` and `glockenspiel`, pulsed voices
    # in `face` and `bird`, counts and metal in `rain`, `boiling` and `glockenspiel`, noise in `footsteps`.
    is_held_out: bool = False

    def pitch_hz(self, cause: Cause) -> float:
        """The pitch of `cause` in this family's register."""
        return pitch_hz(cause.size, self.lowest_hz)

    def wave(self, cause: Cause) -> np.ndarray:
        """The sound of `cause` alone, with arbitrary loudness."""
        return self.voice(cause, self.pitch_hz(cause))
