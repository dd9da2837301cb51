"""Things that knock against things: ball, hammer, footsteps, clapping hands, typewriter.

Geometry is in stage units (1 = height of the frame) and in shares of the thing's extent.
"""

import numpy as np

from tasks.sources.scenes import synth
from tasks.sources.scenes.family import Family
from tasks.sources.scenes.laws import SOLIDS, Cause, Moment
from tasks.sources.scenes.paint import FLOOR, Stage, skin, turned

TOUCH_S = 0.07  # how long a squash or a flinch lasts: one frame


def _ball(stage: Stage, cause: Cause, now: Moment) -> None:
    squash = 0.22 * now.fading(TOUCH_S)
    rx = cause.extent / 2 * (1.0 + squash)
    ry = cause.extent / 2 * (1.0 - squash)
    room = 2.0 * FLOOR - cause.extent
    height = room * (0.35 + 0.65 * now.next_force) * now.lift
    skin(stage, (0.0, FLOOR - ry - height), (rx, ry), cause.material)


def _struck(cause: Cause, pitch_hz: float) -> np.ndarray:
    return synth.on_beats(cause, [synth.struck(pitch_hz, cause.material)])


def _hammer(stage: Stage, cause: Cause, now: Moment) -> None:
    palette = stage.palette
    e = cause.extent
    top = FLOOR - 0.5 * e
    _block(stage, cause, top)
    pivot = (0.46, top - 0.09)
    angle = (0.35 + 0.5 * now.next_force) * now.lift
    handle = turned([pivot, (0.0, top - 0.09)], pivot, angle)
    head = turned([(-0.06, top - 0.18), (0.06, top - 0.18), (0.05, top), (-0.05, top)], pivot, angle)
    stage.line(handle[0], handle[1], 0.045, palette.accent)
    stage.polygon(head, palette.light)


def _block(stage: Stage, cause: Cause, top: float) -> None:
    e = cause.extent
    palette = stage.palette
    clear = 0.4 if cause.material == "glass" else 1.0
    stage.box_shape((-0.5 * e, top), (0.5 * e, FLOOR), palette.body, clear)
    skin(stage, (0.0, (top + FLOOR) / 2), (0.42 * e, 0.21 * e), cause.material)


def _footsteps(stage: Stage, cause: Cause, now: Moment) -> None:
    """Two feet in turn, the next one to land in the air, on ground that shows its material."""
    for column in range(-2, 3):
        skin(stage, (0.2 * column, FLOOR + 0.045), (0.09, 0.045), cause.material)
    for foot, side in enumerate((-1.0, 1.0)):
        is_moving = (now.index + 1) % 2 == foot
        height = (0.12 + 0.2 * now.next_force) * now.lift if is_moving else 0.0
        _shoe(stage, cause.extent, side * (0.13 + 0.16 * cause.extent), FLOOR - height)


def _shoe(stage: Stage, e: float, x: float, sole: float) -> None:
    palette = stage.palette
    thick = 0.13 * e
    stage.line((x - 0.1 * e, -0.7), (x - 0.12 * e, sole - 0.3 * e), 0.26 * e, palette.accent)
    stage.ellipse((x + 0.1 * e, sole - 0.15 * e), (0.33 * e, 0.15 * e), palette.body)
    stage.polygon(
        [(x - 0.26 * e, sole - 0.36 * e), (x, sole - 0.36 * e), (x + 0.08 * e, sole), (x - 0.26 * e, sole)],
        palette.body,
    )
    stage.box_shape((x - 0.28 * e, sole - thick / 2), (x + 0.43 * e, sole), palette.dark)


def _steps(cause: Cause, pitch_hz: float) -> np.ndarray:
    """Heel and sole: the ground rings, the shoe rustles."""
    rng = np.random.default_rng(cause.seed)
    ring = synth.struck(pitch_hz, cause.material)
    rustle = synth.burst(pitch_hz * 2.0, 0.05, rng)
    return synth.on_beats(cause, [ring]) + 0.7 * synth.on_beats(cause, [rustle])


def _clapping(stage: Stage, cause: Cause, now: Moment) -> None:
    gap = (0.08 + 0.14 * now.next_force) * now.lift
    for side in (-1.0, 1.0):
        _hand(stage, cause.extent, side, gap)


def _hand(stage: Stage, e: float, side: float, gap: float) -> None:
    palette = stage.palette
    wrist = (side * (0.5 * e + gap), 0.5 * e)
    stage.line(wrist, (side * (0.9 * e + gap), 0.9 * e), 0.2 * e, palette.accent)
    stage.ellipse((side * (0.16 * e + gap), 0.2 * e), (0.16 * e, 0.26 * e), palette.body)
    stage.line((side * (0.22 * e + gap), 0.3 * e), wrist, 0.18 * e, palette.body)
    for finger in range(4):
        tip = (side * (0.05 * e + 0.09 * e * finger + gap), -0.42 * e + 0.05 * e * finger)
        stage.line((side * (0.06 * e + 0.07 * e * finger + gap), 0.1 * e), tip, 0.085 * e, palette.body)


def _slap(cause: Cause, pitch_hz: float) -> np.ndarray:
    rng = np.random.default_rng(cause.seed)
    return synth.on_beats(cause, [synth.burst(pitch_hz, 0.035, rng, quality=3.0) for _ in range(3)])


TYPE_ROWS = 3
CARRIAGE_STEPS = 9  # beats per line


def _typewriter(stage: Stage, cause: Cause, now: Moment) -> None:
    palette = stage.palette
    e = cause.extent
    roll = -0.2 * e
    shift = 0.05 * e * (CARRIAGE_STEPS // 2 - now.index % CARRIAGE_STEPS)
    stage.box_shape((-0.3 * e + shift, roll - 0.5 * e), (0.3 * e + shift, roll), palette.light)
    stage.line((-0.5 * e + shift, roll), (0.5 * e + shift, roll), 0.14 * e, palette.dark)
    stage.polygon([(-0.42 * e, -0.08 * e), (0.42 * e, -0.08 * e), (0.6 * e, 0.5 * e), (-0.6 * e, 0.5 * e)],
                  palette.body)  # fmt: skip
    _keys(stage, e, now)
    reach = 0.36 * e * (1.0 - now.lift)
    stage.line((0.0, 0.05 * e), (0.0, 0.1 * e - reach), 0.06 * e, palette.accent)


def _keys(stage: Stage, e: float, now: Moment) -> None:
    for row in range(TYPE_ROWS):
        for column in range(-2, 3):
            is_pressed = now.index % (TYPE_ROWS * 5) == row * 5 + column + 2 and now.since_s < TOUCH_S
            y = (0.2 + 0.11 * row + (0.03 if is_pressed else 0.0)) * e
            stage.disc(((0.14 + 0.02 * row) * column * e, y), 0.042 * e, stage.palette.light)


def _clack(cause: Cause, pitch_hz: float) -> np.ndarray:
    """Type on the roll; a bell at the end of each line."""
    rng = np.random.default_rng(cause.seed)
    clack = synth.burst(pitch_hz, 0.02, rng, quality=4.0)
    bell = synth.struck(pitch_hz * 2.0, "metal")
    line_end = [np.zeros(1)] * (CARRIAGE_STEPS - 1) + [bell]
    return synth.on_beats(cause, [clack]) + 0.4 * synth.on_beats(cause, line_end)


FAMILIES = (
    Family("ball", "/m/07pqn27", "Bouncing", 160.0, _ball, _struck, SOLIDS, (1.2, 3.0), ("material",)),
    Family("hammer", "/m/03l9g", "Hammer", 220.0, _hammer, _struck, SOLIDS, further_causes=("material",)),
    Family("footsteps", "/m/07pbtc8", "Walk, footsteps", 110.0, _footsteps, _steps, SOLIDS,
           further_causes=("material",)),
    Family("clapping", "/m/0l15bq", "Clapping", 400.0, _clapping, _slap, ("skin",), is_held_out=True),
    Family("typewriter", "/m/0c2wf", "Typewriter", 600.0, _typewriter, _clack, ("metal",)),
)  # fmt: skip
