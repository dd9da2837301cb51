"""Things that open their mouth to sound: bird, talking face, frog.

Geometry is in stage units (1 = height of the frame) and in shares of the thing's extent.
"""

import numpy as np

from tasks.sources.scenes import synth
from tasks.sources.scenes.family import Family
from tasks.sources.scenes.laws import Cause, Moment
from tasks.sources.scenes.paint import Stage

CALL_S = 0.12  # of a bird's note: its beak is open for one or two frames
SYLLABLE_S = 0.16
CROAK_S = 0.18


def _mouth(now: Moment, length_s: float) -> float:
    """How far a mouth is open: wide at the beat, shut when the call has died away."""
    return (0.45 + 0.55 * now.force) * now.fading(length_s)


def _bird(stage: Stage, cause: Cause, now: Moment) -> None:
    palette = stage.palette
    e = cause.extent
    open_e = 0.17 * e * _mouth(now, CALL_S)
    stage.line((-0.6 * e, 0.5 * e), (0.6 * e, 0.47 * e), 0.06 * e, palette.dark)
    stage.line((-0.05 * e, 0.3 * e), (-0.05 * e, 0.5 * e), 0.03 * e, palette.dark)
    stage.line((0.08 * e, 0.3 * e), (0.08 * e, 0.5 * e), 0.03 * e, palette.dark)
    stage.polygon([(-0.3 * e, 0.05 * e), (-0.75 * e, 0.22 * e), (-0.72 * e, 0.36 * e), (-0.2 * e, 0.3 * e)],
                  palette.accent)  # fmt: skip
    stage.ellipse((0.0, 0.12 * e), (0.42 * e, 0.3 * e), palette.body)
    stage.ellipse((-0.08 * e, 0.13 * e - open_e * 0.3), (0.26 * e, 0.15 * e), palette.accent)
    upper = (0.74 * e, -0.22 * e - open_e)
    lower = (0.7 * e, -0.18 * e + open_e)
    stage.polygon([(0.42 * e, -0.32 * e), upper, (0.42 * e, -0.2 * e)], palette.light)
    stage.polygon([(0.42 * e, -0.2 * e), lower, (0.4 * e, -0.1 * e)], palette.light)
    stage.disc((0.26 * e, -0.22 * e), 0.25 * e, palette.body)
    stage.disc((0.34 * e, -0.28 * e), 0.055 * e, palette.dark)


def _calls(cause: Cause, pitch_hz: float) -> np.ndarray:
    notes = [
        synth.chirp(pitch_hz * start, pitch_hz * end, CALL_S)
        for start, end in ((1.35, 0.85), (0.8, 1.25), (1.2, 1.0))
    ]
    return synth.on_beats(cause, notes)


# First two formants of five vowels of an adult (Peterson & Barney 1952); a smaller head has higher ones.
VOWELS_HZ = ((730.0, 1090.0), (530.0, 1840.0), (270.0, 2290.0), (570.0, 840.0), (300.0, 870.0))
# First formants of a nearly shut and of an open mouth
SHUT = 250.0
WIDE = 750.0
FORMANT_OCTAVES = 1.5  # smallest to largest head: wider than in people, so that log-mels can tell them apart
MEDIUM_SIZE = 0.5


def _face(stage: Stage, cause: Cause, now: Moment) -> None:
    palette = stage.palette
    e = cause.extent
    openness = (VOWELS_HZ[now.index % len(VOWELS_HZ)][0] - SHUT) / (WIDE - SHUT)
    width = 0.12 + 0.08 * (1.0 - openness)
    height = 0.015 + (0.07 + 0.12 * openness) * _mouth(now, SYLLABLE_S)
    stage.ellipse((0.0, -0.12 * e), (0.44 * e, 0.42 * e), palette.dark)
    for side in (-1.0, 1.0):
        stage.disc((side * 0.38 * e, 0.02 * e), 0.07 * e, palette.body)
    stage.ellipse((0.0, 0.04 * e), (0.38 * e, 0.46 * e), palette.body)
    for side in (-1.0, 1.0):
        stage.ellipse((side * 0.15 * e, -0.08 * e), (0.075 * e, 0.055 * e), palette.light)
        stage.disc((side * 0.15 * e, -0.08 * e), 0.04 * e, palette.dark)
        stage.line((side * 0.08 * e, -0.18 * e), (side * 0.23 * e, -0.19 * e), 0.03 * e, palette.dark)
    stage.line((0.0, -0.02 * e), (0.03 * e, 0.1 * e), 0.03 * e, palette.accent)
    stage.ellipse((0.0, 0.28 * e), ((width + 0.035) * e, (height + 0.03) * e), palette.accent)
    stage.ellipse((0.0, 0.28 * e), (width * e, height * e), palette.dark)


def _syllables(cause: Cause, pitch_hz: float) -> np.ndarray:
    throat = 2.0 ** (FORMANT_OCTAVES * (MEDIUM_SIZE - cause.size))
    vowels = [_vowel(pitch_hz, first * throat, second * throat) for first, second in VOWELS_HZ]
    return synth.on_beats(cause, vowels)


def _vowel(pitch_hz: float, *formants_hz: float) -> np.ndarray:
    """Glottal pulses through resonances, the voice falling a little."""
    number = round(2.0 * SYLLABLE_S * synth.SAMPLE_RATE_HZ)
    pulses = _pulses(np.linspace(1.08, 0.92, number) * pitch_hz)
    sung = sum(synth.band(pulses, formant_hz, quality=6.0) for formant_hz in formants_hz)
    return synth.shaped(np.asarray(sung) * np.exp(-np.arange(number) / (SYLLABLE_S * synth.SAMPLE_RATE_HZ)))


def _pulses(pitch_hz: np.ndarray) -> np.ndarray:
    """One unit impulse per period."""
    periods = np.floor(np.cumsum(pitch_hz) / synth.SAMPLE_RATE_HZ)
    return np.diff(periods, prepend=-1.0)


CROAK_PULSES_HZ = 32.0  # a frog's call is a train of pulses, each ringing at the pitch of its body


def _frog(stage: Stage, cause: Cause, now: Moment) -> None:
    palette = stage.palette
    e = cause.extent
    sac = (0.1 + 0.17 * _mouth(now, CROAK_S)) * e
    for side in (-1.0, 1.0):
        stage.ellipse((side * 0.42 * e, 0.3 * e), (0.22 * e, 0.14 * e), palette.body)
        stage.disc((side * 0.24 * e, -0.28 * e), 0.15 * e, palette.body)
    stage.ellipse((0.0, 0.12 * e), (0.45 * e, 0.36 * e), palette.body)
    stage.ellipse((0.0, -0.1 * e), (0.42 * e, 0.24 * e), palette.body)
    stage.disc((0.0, 0.16 * e), sac, palette.light)
    for side in (-1.0, 1.0):
        stage.disc((side * 0.24 * e, -0.3 * e), 0.09 * e, palette.light)
        stage.disc((side * 0.24 * e, -0.3 * e), 0.045 * e, palette.dark)
    stage.line((-0.3 * e, -0.04 * e), (0.3 * e, -0.04 * e), 0.025 * e, palette.dark)


def _croaks(cause: Cause, pitch_hz: float) -> np.ndarray:
    number = round(2.0 * CROAK_S * synth.SAMPLE_RATE_HZ)
    ringing = synth.band(_pulses(np.full(number, CROAK_PULSES_HZ)), pitch_hz, quality=8.0)
    fading = np.exp(-np.arange(number) / (CROAK_S * synth.SAMPLE_RATE_HZ))
    return synth.on_beats(cause, [synth.shaped(ringing * fading)])


FAMILIES = (
    Family("bird", "/m/07pggtn", "Chirp, tweet", 900.0, _bird, _calls, ("skin",)),
    Family("face", "/m/09x0r", "Speech", 75.0, _face, _syllables, ("skin",)),
    Family("frog", "/m/09ld4", "Frog", 220.0, _frog, _croaks, ("skin",), (1.2, 3.0), is_held_out=True),
)
