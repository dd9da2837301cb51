"""Things made to sound: bell, glockenspiel, marimba, guitar, drum kit, metronome, accordion, wind chime.

Geometry is in stage units (1 = height of the frame) and in shares of the thing's extent.
"""

import numpy as np

from tasks.sources.scenes import synth
from tasks.sources.scenes.family import Family
from tasks.sources.scenes.laws import Cause, Moment, volley
from tasks.sources.scenes.paint import FLOOR, Color, Point, Stage, turned

RINGING_S = 0.35  # how long a thing is seen to shake
FLASH_S = 0.09


def _struck(cause: Cause, pitch_hz: float) -> np.ndarray:
    return synth.on_beats(cause, [synth.struck(pitch_hz, cause.material)])


def _swing(now: Moment) -> float:
    """1 and -1 on alternate beats."""
    return float(np.cos(np.pi * now.turns))


def _bell(stage: Stage, cause: Cause, now: Moment) -> None:
    """Swings to its turning point on the beat, where the clapper meets the wall that it swung to."""
    palette = stage.palette
    e = cause.extent
    pivot = (0.0, -0.42)
    swing = _swing(now)
    angle = (0.2 + 0.25 * now.next_force) * swing
    hung = [(x * e, y * e - 0.42) for x, y in ((-0.24, 0.2), (0.24, 0.2), (0.5, 0.95), (-0.5, 0.95))]
    dome, lip_left, lip_right, clapper = turned(
        [(0.0, 0.26 * e - 0.42), (-0.5 * e, 0.95 * e - 0.42), (0.5 * e, 0.95 * e - 0.42),
         (-0.3 * e * swing, 1.02 * e - 0.42)], pivot, angle)  # fmt: skip
    stage.box_shape((-0.5 * e, -0.46), (0.5 * e, -0.42), palette.dark)
    stage.line(pivot, dome, 0.05, palette.dark)
    stage.disc(clapper, 0.11 * e, palette.dark)
    stage.disc(dome, 0.25 * e, palette.body)
    stage.polygon(turned(hung, pivot, angle), palette.body)
    stage.line(lip_left, lip_right, 0.1 * e, palette.accent)


def _glockenspiel(stage: Stage, cause: Cause, now: Moment) -> None:
    _bar(stage, cause.extent, stage.palette.light, now)
    for x in (-0.48, 0.48):
        stage.disc((x * cause.extent, 0.16), 0.022, stage.palette.dark)


def _marimba(stage: Stage, cause: Cause, now: Moment) -> None:
    """A wooden bar with its grain, over the tube that carries its sound."""
    e = cause.extent
    palette = stage.palette
    stage.box_shape((-0.12, 0.2), (0.12, 0.2 + 0.4 * e), palette.accent)
    _bar(stage, e, palette.body, now)
    for y in (0.13, 0.18):
        stage.line((-0.55 * e, y), (0.55 * e, y), 0.016, palette.dark)


def _bar(stage: Stage, e: float, color: Color, now: Moment) -> None:
    """A bar as long as the thing is large; its mallet rises higher before a harder blow."""
    palette = stage.palette
    for x in (-0.5 * e, 0.5 * e):
        stage.line((x, 0.22), (x * 1.2, FLOOR), 0.035, palette.dark)
    shake = 0.02 * now.fading(FLASH_S)
    stage.box_shape((-0.65 * e, 0.1 + shake), (0.65 * e, 0.22 + shake), color)
    height = (0.14 + 0.3 * now.next_force) * now.lift
    head = (0.0, 0.1 - 0.05 - height)
    stage.line(head, (0.32, head[1] - 0.22), 0.022, palette.accent)
    stage.disc(head, 0.055, palette.accent)


STRINGS = 3


def _guitar(stage: Stage, cause: Cause, now: Moment) -> None:
    palette = stage.palette
    e = cause.extent
    stage.box_shape((-0.95 * e, -0.06 * e), (0.1 * e, 0.06 * e), palette.dark)
    stage.box_shape((-1.08 * e, -0.09 * e), (-0.93 * e, 0.09 * e), palette.accent)
    stage.disc((0.1 * e, 0.0), 0.27 * e, palette.body)
    stage.disc((0.42 * e, 0.0), 0.36 * e, palette.body)
    stage.disc((0.2 * e, 0.0), 0.12 * e, palette.dark)
    for string in range(STRINGS):
        _string(stage, e, (string - 1) * 0.045 * e, now)
    # The hand crosses the strings on the beat, down and up in turn, and swings past them in between.
    side = 1.0 if now.index % 2 else -1.0
    reach = side * (0.3 + 0.3 * now.next_force) * e * float(np.sin(np.pi * now.phase))
    stage.line((0.3 * e, reach), (0.48 * e, reach + 0.3 * e), 0.13 * e, palette.accent)
    stage.disc((0.3 * e, reach), 0.08 * e, palette.accent)


def _string(stage: Stage, e: float, y: float, now: Moment) -> None:
    """A plucked string is a blur as wide as it swings."""
    blur = 0.07 * e * now.fading(RINGING_S) * (0.4 + 0.6 * now.force)
    stage.ellipse((-0.2 * e, y), (0.7 * e, max(blur / 2, 0.004)), stage.palette.light, 0.45)
    stage.line((-0.95 * e, y), (0.55 * e, y), 0.006, stage.palette.light)


# What each beat of a bar strikes: (drum, hat, snare, hat).
KICK = 0
HAT = 1
SNARE = 2
GROOVE = (KICK, HAT, SNARE, HAT)


def _drum_kit(stage: Stage, cause: Cause, now: Moment) -> None:
    palette = stage.palette
    e = cause.extent
    struck = GROOVE[now.index % len(GROOVE)]
    glow = [now.fading(RINGING_S / 2) if part == struck else 0.0 for part in range(len(set(GROOVE)))]
    stage.disc((0.0, 0.1 * e), 0.42 * e, palette.body)
    stage.disc((0.0, 0.1 * e), (0.34 + 0.05 * glow[KICK]) * e, palette.light)
    stage.box_shape((-0.72 * e, -0.12 * e), (-0.3 * e, 0.12 * e), palette.accent)
    stage.ellipse((-0.51 * e, (-0.12 + 0.04 * glow[SNARE]) * e), (0.21 * e, 0.06 * e), palette.light)
    stage.line((0.55 * e, -0.3 * e), (0.55 * e, 0.5 * e), 0.03, palette.dark)
    for side in (-1.0, 1.0):
        gap = (0.06 - 0.05 * glow[HAT]) * side * e
        stage.ellipse((0.55 * e, -0.3 * e + gap), (0.24 * e, 0.04 * e), palette.accent)
    _sticks(stage, e, now)


def _sticks(stage: Stage, e: float, now: Moment) -> None:
    """Each stick comes down on its own beat; the foot's beat moves none."""
    coming = GROOVE[(now.index + 1) % len(GROOVE)]
    for part, x, y in ((SNARE, -0.5, -0.14), (HAT, 0.5, -0.36)):
        landing = GROOVE[now.index % len(GROOVE)] == part
        rise = now.lift if coming == part else now.phase if landing else 1.0
        tip = (x * e, (y - 0.3 * rise) * e)
        stage.line(tip, (tip[0] * 0.4, tip[1] - 0.35 * e), 0.04 * e, stage.palette.dark)


def _kit(cause: Cause, pitch_hz: float) -> np.ndarray:
    rng = np.random.default_rng(cause.seed)
    kick = synth.struck(pitch_hz, "skin")
    snare = synth.shaped(0.6 * _padded(synth.struck(2.0 * pitch_hz, "skin"), len(kick))
                         + _padded(synth.burst(6.0 * pitch_hz, 0.06, rng), len(kick)))  # fmt: skip
    hat = 0.7 * synth.burst(16.0 * pitch_hz, 0.04, rng, quality=1.5)
    parts = {KICK: kick, HAT: hat, SNARE: snare}
    return synth.on_beats(cause, [parts[part] for part in GROOVE])


def _padded(grain: np.ndarray, length: int) -> np.ndarray:
    return np.pad(grain, (0, max(length - len(grain), 0)))[:length]


def _metronome(stage: Stage, cause: Cause, now: Moment) -> None:
    """Ticks when the arm turns round."""
    palette = stage.palette
    e = cause.extent
    pivot: Point = (0.0, 0.3 * e)
    stage.polygon([(-0.16 * e, -0.5 * e), (0.16 * e, -0.5 * e), (0.42 * e, 0.5 * e), (-0.42 * e, 0.5 * e)],
                  palette.body)  # fmt: skip
    stage.box_shape((-0.44 * e, 0.36 * e), (0.44 * e, 0.5 * e), palette.dark)
    tip, weight = turned([(0.0, -0.52 * e), (0.0, -0.22 * e)], pivot, 0.62 * _swing(now))
    stage.line(pivot, tip, 0.05 * e, palette.light)
    stage.disc(weight, 0.1 * e, palette.accent)


def _ticks(cause: Cause, pitch_hz: float) -> np.ndarray:
    """Tick and tock: a third apart."""
    return synth.on_beats(cause, [synth.struck(pitch_hz, "wood"), synth.struck(pitch_hz * 0.8, "wood")])


REED = (1.0, 0.8, 0.7, 0.5, 0.45, 0.3, 0.25, 0.2)  # the harmonics of a free reed fall slowly
FOLDS = 7
BREATH_ATTACK_S = 0.03


def _accordion(stage: Stage, cause: Cause, now: Moment) -> None:
    """Pulled and pushed in turn: it stands still, and so is silent, at each beat."""
    palette = stage.palette
    e = cause.extent
    half = (0.42 + 0.3 * _swing(now)) * e
    stage.box_shape((-half, -0.42 * e), (half, 0.42 * e), palette.light)
    for fold in range(1, FOLDS):
        x = half * (2.0 * fold / FOLDS - 1.0)
        stage.line((x, -0.42 * e), (x, 0.42 * e), 0.025 * e, palette.dark)
    for side in (-1.0, 1.0):
        near = side * half
        far = side * (half + 0.22 * e)
        stage.box_shape((near, -0.5 * e), (far, 0.5 * e), palette.body)
        for key in range(4):
            stage.disc(((near + far) / 2, (0.24 * key - 0.36) * e), 0.05 * e, palette.dark)


def _reeds(cause: Cause, pitch_hz: float) -> np.ndarray:
    """Pushed it sounds a whole tone above pulled."""
    turns = cause.beats.turns(synth.clock_s())
    is_pushed = np.floor(turns) % 2
    flow = np.sin(np.pi * (turns % 1.0)) ** 0.5
    forces = np.asarray(cause.beats.forces)[turns.astype(int)]
    return synth.tone(pitch_hz * 2.0 ** (is_pushed / 6.0), REED) * flow * (0.5 + 0.5 * forces)


def _wind_chime(stage: Stage, cause: Cause, now: Moment) -> None:
    """As many tubes as will sound at each beat, all swaying from the clapper's blow."""
    palette = stage.palette
    e = cause.extent
    number = cause.num_things
    top = -0.38
    width = 0.25 + 0.75 * e
    stage.ellipse((0.0, top), (0.55 * width, 0.06), palette.dark)
    sway = 0.05 * now.fading(RINGING_S) * float(np.cos(2.0 * np.pi * now.phase * 2.0))
    for tube in range(number):
        x = width * ((tube + 0.5) / number - 0.5)
        foot = (x + sway * (1.0 if tube % 2 else -1.0), top + 0.12 + e * (1.0 - 0.2 * tube / number))
        stage.line((x, top), (x, top + 0.12), 0.008, palette.dark)
        stage.line((x, top + 0.12), foot, min(0.05, 0.6 * width / number), palette.light)
    swing = _swing(now)
    stage.line((0.0, top), (0.16 * swing, 0.12 * e), 0.01, palette.dark)
    stage.disc((0.16 * swing, 0.12 * e), 0.075, palette.accent)


def _tubes(cause: Cause, pitch_hz: float) -> np.ndarray:
    """The shorter a tube, the higher; steps of a pentatonic scale."""
    steps = (0.0, 2.0, 4.0, 7.0, 9.0)
    grains = [synth.struck(pitch_hz * 2.0 ** (step / 12.0), "metal") for step in steps]
    blows = volley(cause)
    return synth.placed((time_s, loud, grains[n % len(grains)]) for n, (time_s, loud) in enumerate(blows))


FAMILIES = (
    Family("bell", "/m/03w41f", "Church bell", 180.0, _bell, _struck, ("bronze",), (1.2, 3.0)),
    Family("glockenspiel", "/m/0dwtp", "Glockenspiel", 350.0, _glockenspiel, _struck, ("metal",)),
    Family("marimba", "/m/0dwsp", "Marimba, xylophone", 130.0, _marimba, _struck, ("wood",), is_held_out=True),
    Family("guitar", "/m/0342h", "Guitar", 82.0, _guitar, _struck, ("string",)),
    Family("drum_kit", "/m/02hnl", "Drum kit", 60.0, _drum_kit, _kit, ("skin",)),
    Family("metronome", "/m/07qjznl", "Tick-tock", 500.0, _metronome, _ticks, ("wood",)),
    Family("accordion", "/m/0mkg", "Accordion", 110.0, _accordion, _reeds, ("metal",),
           is_struck=False),
    Family("wind_chime", "/m/026fgl", "Wind chime", 500.0, _wind_chime, _tubes, ("metal",),
           (1.2, 2.5), ("count",), is_held_out=True),
)  # fmt: skip
