"""Things that turn and run: engine, siren with a turning light, passing train, saw.

Geometry is in stage units (1 = height of the frame) and in shares of the thing's extent.
"""

import numpy as np

from tasks.sources.scenes import synth
from tasks.sources.scenes.family import Family
from tasks.sources.scenes.laws import Cause, Moment
from tasks.sources.scenes.paint import FLOOR, Point, Stage

SPOKES = 4
PUFF_S = 0.25  # of smoke that leaves at a beat


def _wheel(stage: Stage, center: Point, radius: float, turns: float) -> None:
    palette = stage.palette
    stage.disc(center, radius, palette.dark)
    stage.disc(center, 0.8 * radius, palette.accent)
    for spoke in range(SPOKES):
        angle = 2.0 * np.pi * turns + np.pi * spoke / SPOKES
        reach = (radius * 0.8 * np.cos(angle), radius * 0.8 * np.sin(angle))
        ends = [(center[0] + side * reach[0], center[1] + side * reach[1]) for side in (-1.0, 1.0)]
        stage.line(ends[0], ends[1], 0.12 * radius, palette.dark)


def _puff(stage: Stage, start: Point, e: float, now: Moment) -> None:
    """Smoke that grows and thins as it rises."""
    age = now.since_s / PUFF_S
    radius = (0.07 + 0.1 * min(age, 1.5)) * e * (0.5 + 0.5 * now.force)
    center = (start[0] - 0.1 * e * age, start[1] - 0.12 * e * age)
    stage.disc(center, radius, stage.palette.light, 0.9 * now.fading(PUFF_S))


def _engine(stage: Stage, cause: Cause, now: Moment) -> None:
    """One cylinder: the piston is at its top, and fires, on the beat."""
    palette = stage.palette
    e = cause.extent
    hub: Point = (0.24 * e, 0.1 * e)
    angle = 2.0 * np.pi * now.turns
    crank = (hub[0] - 0.2 * e * float(np.cos(angle)), hub[1] - 0.2 * e * float(np.sin(angle)))
    piston = crank[0] - 0.5 * e
    stage.box_shape((-0.75 * e, 0.0), (-0.2 * e, 0.2 * e), palette.body)
    for fin in range(4):
        x = (-0.7 + 0.12 * fin) * e
        stage.line((x, -0.06 * e), (x, 0.26 * e), 0.04 * e, palette.body)
    stage.box_shape((piston - 0.08 * e, 0.03 * e), (piston + 0.05 * e, 0.17 * e), palette.light)
    stage.line((-0.66 * e, 0.0), (-0.66 * e, -0.28 * e), 0.09 * e, palette.dark)
    _puff(stage, (-0.66 * e, -0.34 * e), e, now)
    _wheel(stage, hub, 0.4 * e, now.turns)
    stage.line((piston, 0.1 * e), crank, 0.06 * e, palette.light)
    stage.box_shape((-0.7 * e, 0.42 * e), (0.55 * e, 0.5 * e), palette.dark)


def _firing(cause: Cause, pitch_hz: float) -> np.ndarray:
    """Each firing rings the exhaust; between them the engine hums an octave below."""
    rng = np.random.default_rng(cause.seed)
    shots = [synth.burst(pitch_hz * 2.0, 0.06, rng, quality=3.0) for _ in range(3)]
    hum = synth.tone(np.full(synth.NUM_SAMPLES, pitch_hz), (1.0, 0.6, 0.4, 0.3))
    return synth.on_beats(cause, shots) + 0.12 * hum


SWEEP_OCTAVES = 0.6  # between the light turned full to one side and to the other: a wailing siren's
SIREN = (1.0, 0.5, 0.6, 0.2, 0.3)


def _siren(stage: Stage, cause: Cause, now: Moment) -> None:
    """The beam's side is the sound's height: full right is high, full left is low."""
    palette = stage.palette
    e = cause.extent
    facing = float(np.cos(np.pi * now.turns))
    spread = 0.14 + 0.2 * (1.0 - abs(facing))
    far = 0.75 * facing
    y = -0.14 * e
    stage.polygon([(0.0, y), (far, y - spread), (far, y + spread)], palette.light, 0.6)
    stage.box_shape((-0.4 * e, 0.28 * e), (0.4 * e, 0.5 * e), palette.dark)
    stage.disc((0.0, -0.12 * e), 0.32 * e, palette.body)
    stage.box_shape((-0.32 * e, -0.12 * e), (0.32 * e, 0.28 * e), palette.body)
    stage.ellipse((0.14 * e * facing, -0.1 * e), (0.12 * e, 0.16 * e), palette.light)


def _wail(cause: Cause, pitch_hz: float) -> np.ndarray:
    facing = np.cos(np.pi * cause.beats.turns(synth.clock_s()))
    loudness = 0.7 + 0.3 * np.abs(facing)
    return synth.tone(pitch_hz * 2.0 ** (SWEEP_OCTAVES / 2.0 * facing), SIREN) * loudness


# A train that shuttles past: listener and camera stand beside the middle of its track.
TRACK_UNITS = 0.3  # from the middle to the turning point
BEATS_A_RUN = 10.0  # the wheels drive it, so its speed matches its chuffing
METRES_A_UNIT = 70.0
NEAREST_M = 8.0
SOUND_M_S = 340.0
WHISTLE = (1.0, 0.5, 0.35, 0.2)


def _along(turns: np.ndarray | float) -> np.ndarray | float:
    """Where the train is on its track, in stage units."""
    return TRACK_UNITS * np.sin(2.0 * np.pi * np.asarray(turns) / BEATS_A_RUN)


def _train(stage: Stage, cause: Cause, now: Moment) -> None:
    palette = stage.palette
    e = cause.extent
    x = float(_along(now.turns))
    base = FLOOR - 0.2 * e
    stage.box_shape((x - 0.6 * e, base - 0.62 * e), (x - 0.2 * e, base), palette.body)
    stage.box_shape((x - 0.66 * e, base - 0.68 * e), (x - 0.14 * e, base - 0.6 * e), palette.dark)
    stage.box_shape((x - 0.5 * e, base - 0.5 * e), (x - 0.3 * e, base - 0.3 * e), palette.light)
    stage.line((x - 0.2 * e, base - 0.2 * e), (x + 0.45 * e, base - 0.2 * e), 0.36 * e, palette.accent)
    stage.box_shape((x + 0.3 * e, base - 0.62 * e), (x + 0.45 * e, base - 0.3 * e), palette.dark)
    for wheel in (-0.42, 0.02, 0.42):
        _wheel(stage, (x + wheel * e, FLOOR - 0.17 * e), 0.17 * e, now.turns)
    _puff(stage, (x + 0.37 * e, base - 0.66 * e), e, now)


def _passing(cause: Cause, pitch_hz: float) -> np.ndarray:
    """Whistle and chuffs, higher as the train comes, lower as it goes (Doppler), louder when near."""
    rng = np.random.default_rng(cause.seed)
    turns = cause.beats.turns(synth.clock_s())
    distance_m = np.hypot(METRES_A_UNIT * np.asarray(_along(turns)), NEAREST_M)
    receding_m_s = np.gradient(distance_m) * synth.SAMPLE_RATE_HZ
    whistle = synth.tone(pitch_hz * SOUND_M_S / (SOUND_M_S + receding_m_s), WHISTLE)
    chuffs = synth.on_beats(cause, [synth.burst(pitch_hz * 3.0, 0.05, rng, quality=1.5) for _ in range(4)])
    nearness = np.sqrt(NEAREST_M / distance_m)
    return (0.25 * whistle + 1.5 * chuffs) * nearness


TEETH = 12


def _saw(stage: Stage, cause: Cause, now: Moment) -> None:
    """Turns round on the beat and cuts between two."""
    palette = stage.palette
    e = cause.extent
    stage.box_shape((-0.45, 0.12), (0.45, 0.26), palette.accent)
    for side in (-0.38, 0.38):
        stage.line((side, 0.26), (side, FLOOR), 0.05, palette.accent)
    x = (0.06 + 0.1 * now.force) * float(np.cos(np.pi * now.turns))
    outline = [(-0.75 * e, 0.0), (0.4 * e, -0.24 * e), (0.4 * e, 0.14 * e), (-0.75 * e, 0.14 * e)]
    stage.polygon([(x + px, 0.06 + py) for px, py in outline], palette.light)
    for tooth in range(TEETH):
        start = x + (-0.75 + 1.15 * tooth / TEETH) * e
        width = 1.15 * e / TEETH
        corners = [(start, 0.14 * e), (start + width, 0.14 * e), (start + width / 2, 0.14 * e + width * 0.8)]
        stage.polygon([(px, 0.06 + py) for px, py in corners], palette.light)
    stage.disc((x + 0.5 * e, 0.02), 0.2 * e, palette.body)
    stage.disc((x + 0.52 * e, 0.02), 0.09 * e, palette.dark)


def _strokes(cause: Cause, pitch_hz: float) -> np.ndarray:
    """Noise as long as the blade moves, at the pitch of its teeth; the pull rasps lower than the push."""
    rng = np.random.default_rng(cause.seed)
    turns = cause.beats.turns(synth.clock_s())
    is_pull = np.floor(turns) % 2
    noise = rng.standard_normal(synth.NUM_SAMPLES)
    push, pull = (synth.band(noise, pitch_hz * ratio, quality=5.0) for ratio in (1.0, 0.7))
    speed = np.sin(np.pi * (turns % 1.0))
    forces = np.asarray(cause.beats.forces)[turns.astype(int)]
    return np.where(is_pull > 0, pull, push) * speed * (0.5 + 0.5 * forces)


FAMILIES = (
    Family("engine", "/m/02mk9", "Engine", 60.0, _engine, _firing, ("metal",), (1.8, 4.5)),
    Family("siren", "/m/03kmc9", "Siren", 220.0, _siren, _wail, ("metal",), is_struck=False),
    Family("train", "/m/07jdr", "Train", 140.0, _train, _passing, ("metal",), (1.8, 4.0)),
    Family("saw", "/m/01b82r", "Sawing", 300.0, _saw, _strokes, ("metal",), is_struck=False),
)
