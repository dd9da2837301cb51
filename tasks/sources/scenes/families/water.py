"""Things that fall, rise and burst: rain, dripping tap, boiling pot, fireworks.

Geometry is in stage units (1 = height of the frame) and in shares of the thing's extent.
"""

import numpy as np

from tasks.sources.scenes import synth
from tasks.sources.scenes.family import Family
from tasks.sources.scenes.laws import VOLLEY_SHARE, Cause, Moment, volley
from tasks.sources.scenes.paint import FLOOR, Stage

GOLDEN = 0.618034  # multiples of it, modulo 1, spread evenly for any number of them
RIPPLE_S = 0.3
BUBBLE_S = 0.07
BUBBLE_RISE = 1.6  # a bubble's pitch rises as it nears the surface (Minnaert's law with a shrinking depth)
VARIETY = (1.0, 1.26, 0.84, 1.12, 0.75)  # things of one scene are alike, not equal


def _bubbles(pitch_hz: float) -> list[np.ndarray]:
    return [synth.chirp(pitch_hz * size, pitch_hz * size * BUBBLE_RISE, BUBBLE_S) for size in VARIETY]


def _rain(stage: Stage, cause: Cause, now: Moment) -> None:
    """As many drops as sound at a beat; they land one after the other, starting at the beat."""
    palette = stage.palette
    e = cause.extent
    number = cause.num_things
    for drop in range(number):
        x = 1.3 * e * ((drop * GOLDEN) % 1.0 - 0.5)
        fall = (now.phase - VOLLEY_SHARE * drop / number) % 1.0
        y = -0.3 + (FLOOR + 0.3) * fall
        stage.line((x, y - 0.28 * e), (x, y), 0.09 * e, palette.light)
        if fall < 0.3:
            stage.ring((x, FLOOR), (0.35 * e * (0.2 + fall), 0.1 * e * (0.2 + fall)), 0.02, palette.light)
    for x, radius in ((-0.45, 0.24), (0.0, 0.34), (0.45, 0.26)):
        stage.ellipse((x * e, -0.32), (radius * 1.3 * e, radius * 0.75 * e), palette.body)


def _drops(cause: Cause, pitch_hz: float) -> np.ndarray:
    rng = np.random.default_rng(cause.seed)
    grains = [synth.burst(pitch_hz * size, 0.025, rng, quality=5.0) for size in VARIETY]
    return _volleys(cause, grains)


def _volleys(cause: Cause, grains: list[np.ndarray]) -> np.ndarray:
    sounds = volley(cause)
    return synth.placed((time_s, loud, grains[n % len(grains)]) for n, (time_s, loud) in enumerate(sounds))


def _drip(stage: Stage, cause: Cause, now: Moment) -> None:
    """The drop meets the water on the beat; a larger tap releases larger drops."""
    palette = stage.palette
    e = cause.extent
    radius = 0.17 * e
    mouth = -0.46 + 0.42 * e
    stage.line((-0.42, mouth - 0.22 * e), (0.0, mouth - 0.22 * e), 0.2 * e, palette.body)
    stage.line((0.0, mouth - 0.22 * e), (0.0, mouth), 0.2 * e, palette.body)
    stage.box_shape((-0.3 * e, mouth - 0.42 * e), (0.0, mouth - 0.34 * e), palette.accent)
    y = mouth + (FLOOR - 0.06 - mouth) * now.phase**2
    stage.disc((0.0, y), radius, palette.light)
    half = 0.8 * radius
    neck = y - 0.6 * radius
    stage.polygon([(-half, neck), (half, neck), (0.0, y - 2.0 * radius)], palette.light)
    spread = (0.25 + 1.2 * now.since_s) * e
    stage.ring((0.0, FLOOR), (spread, 0.25 * spread), 0.025, palette.light, now.fading(RIPPLE_S))
    if now.phase == 0.0:
        stage.ellipse((0.0, FLOOR - 0.06), (1.6 * radius, 0.9 * radius), palette.light)


def _plinks(cause: Cause, pitch_hz: float) -> np.ndarray:
    return synth.on_beats(cause, _bubbles(pitch_hz)[:2])


def _boiling(stage: Stage, cause: Cause, now: Moment) -> None:
    """A glass pot: as many bubbles as sound at a beat, one after the other at the surface."""
    palette = stage.palette
    e = cause.extent
    number = cause.num_things
    surface = 0.36 - 0.75 * e
    for flame in range(-2, 3):
        stage.ellipse((0.2 * flame * e, 0.41), (0.08 * e, 0.07), palette.accent)
    stage.box_shape((-0.55 * e, surface), (0.55 * e, 0.36), palette.body, 0.75)
    for side in (-1.0, 1.0):
        stage.line((side * 0.57 * e, surface - 0.15 * e), (side * 0.57 * e, 0.36), 0.05 * e, palette.dark)
        stage.line((side * 0.6 * e, surface), (side * 0.8 * e, surface), 0.06 * e, palette.dark)
    stage.line((-0.57 * e, 0.36), (0.57 * e, 0.36), 0.05 * e, palette.dark)
    for bubble in range(number):
        rise = (now.phase - VOLLEY_SHARE * bubble / number) % 1.0
        x = 0.95 * e * ((bubble * GOLDEN) % 1.0 - 0.5)
        y = 0.34 - (0.34 - surface) * rise
        stage.ring((x, y), (0.09 * e, 0.09 * e), 0.035 * e, palette.light)
        if rise < 0.25:
            stage.ring((x, surface), (0.14 * e, 0.05 * e), 0.03 * e, palette.light)


def _pops(cause: Cause, pitch_hz: float) -> np.ndarray:
    return _volleys(cause, _bubbles(pitch_hz))


RAYS = 14
BURST_S = 0.12  # in which a shell opens
GLOW_S = 0.45
ROCKET_S = 0.5  # before it bursts, a shell is seen to rise


def _fireworks(stage: Stage, cause: Cause, now: Moment) -> None:
    """Bursts are seen on the beat, and heard `delay_s` later."""
    palette = stage.palette
    e = cause.extent
    center = (0.0, -0.08)
    open_share = 1.0 - 0.4 * now.fading(BURST_S)
    glow = max(now.fading(GLOW_S), 0.15)
    fall = 0.05 * now.since_s
    for ray in range(RAYS):
        angle = 2.0 * np.pi * ray / RAYS
        reach = (0.5 * e * float(np.cos(angle)), 0.5 * e * float(np.sin(angle)))
        start = (center[0] + 0.35 * reach[0] * open_share, center[1] + 0.35 * reach[1] * open_share + fall)
        tip = (center[0] + reach[0] * open_share, center[1] + reach[1] * open_share + fall)
        color = palette.light if ray % 2 else palette.accent
        stage.line(start, tip, 0.03 * e, color, glow)
        stage.disc(tip, 0.045 * e, color, glow)
    if now.until_s < ROCKET_S:
        y = center[1] + 0.5 * now.until_s / ROCKET_S
        stage.line((0.0, y), (0.0, y + 0.12), 0.02, palette.light)


def _booms(cause: Cause, pitch_hz: float) -> np.ndarray:
    rng = np.random.default_rng(cause.seed)
    return synth.on_beats(cause, [synth.burst(pitch_hz, 0.14, rng, quality=4.0) for _ in range(3)])


FAMILIES = (
    Family("rain", "/m/06mb1", "Rain", 500.0, _rain, _drops, ("skin",), (1.2, 2.5), ("count",)),
    Family("drip", "/m/07r5v4s", "Drip", 300.0, _drip, _plinks, ("skin",)),
    Family("boiling", "/m/0dv3j", "Boiling", 200.0, _boiling, _pops, ("skin",), (1.2, 2.5), ("count",)),
    Family("fireworks", "/m/0g6b5", "Fireworks", 70.0, _fireworks, _booms, ("skin",), (1.2, 2.2),
           ("delay_s",)),
)  # fmt: skip
