"""A scene: what is seen, what is heard, and the nuisance of both; each from a separate seed stream."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from schemas.errors import RequestError
from tasks.sources.scenes import nuisance
from tasks.sources.scenes.families import FAMILIES, TRAINED
from tasks.sources.scenes.laws import FRAME_RATE_HZ, LENGTH_S, MARGIN_S, Cause, draw_beats
from tasks.sources.scenes.paint import HEIGHT_PX, WIDTH_PX, Palette, Place, Stage
from tasks.sources.scenes.synth import SAMPLE_RATE_HZ

NUM_FRAMES = round(LENGTH_S * FRAME_RATE_HZ)
CAUSE, PICTURE, SOUND, OTHER = range(4)  # independent streams of one scene's seed
DELAYS_S = (0.1, 0.5)  # of thunder over flash: 34 to 170 m away; within the second that a model hears
CAUSE_NAMES = ("size", "rate_hz", "material", "count", "delay_s")
LEAST_CHANGE = 1.0 / 3.0  # of size's range in a changed cause: an octave, distinguishable in one frame
Box = tuple[float, float, float, float]
Shown = tuple[Cause, Place]


@dataclass(frozen=True)
class Scene:
    """A scene's parameters; `seen` and `heard` have the same cause unless a variant separates them."""

    seen: Cause
    heard: Cause
    picture_seed: tuple[int, ...]
    sound_seed: tuple[int, ...]
    shift_ms: int = 0

    def with_new_nuisance(self, seed: int) -> "Scene":
        """The same cause with another background, other colours, rooms and noise: scores should stay."""
        return replace(self, picture_seed=(seed, PICTURE), sound_seed=(seed, SOUND))

    def with_changed_cause(self, seed: int) -> "Scene":
        """The same picture with the sound of another cause of its family: scores should fall."""
        rng = np.random.default_rng((seed, CAUSE))
        return replace(self, heard=changed_cause(self.heard, rng))

    def without_cause(self, seed: int = 0) -> "Scene":
        """The same sound with the picture of any cause of any trained family: nothing to learn from."""
        rng = np.random.default_rng((*self.picture_seed, seed, OTHER))
        return replace(self, seen=draw_cause(str(rng.choice(TRAINED)), rng))

    def with_sound_shifted(self, shift_ms: int) -> "Scene":
        """The sound `shift_ms` later than the picture; negative is earlier."""
        if abs(shift_ms) > MARGIN_S * 1000.0:
            raise RequestError(
                f"a shift of {shift_ms} ms is not within {MARGIN_S * 1000.0:.0f} ms either way"
            )
        return replace(self, shift_ms=shift_ms)


@dataclass(frozen=True)
class Truth:
    """What is known about a rendered scene and is not stored in its media."""

    family: str
    causes: dict[str, float]
    onset_ms: list[int]  # of what is heard
    boxes: list[Box]  # per frame x0, y0, x1, y1 of what is seen to sound, 0 to 1


def draw_scene(seed: int, index: int, family: str) -> Scene:
    """Scene number `index` of a corpus with `seed`: its cause, picture and sound from independent streams."""
    cause = draw_cause(family, np.random.default_rng((seed, index, CAUSE)))
    return Scene(cause, cause, (seed, index, PICTURE), (seed, index, SOUND))


def draw_cause(family: str, rng: np.random.Generator) -> Cause:
    """A cause of `family`: the same draws by the same law for every family, which uses only those it needs."""
    spec = FAMILIES[family]
    size, rate_share, material_share, count, delay_share = rng.uniform(size=5)
    rate_hz = _between(spec.rates_hz, rate_share)
    return Cause(
        family=family,
        size=float(size),
        rate_hz=rate_hz,
        material=spec.materials[int(material_share * len(spec.materials))],
        count=float(count),
        delay_s=_between(DELAYS_S, delay_share) if "delay_s" in spec.further_causes else 0.0,
        beats=draw_beats(rate_hz, rng),
        seed=int(rng.integers(2**63)),
    )


def changed_cause(cause: Cause, rng: np.random.Generator) -> Cause:
    """Another cause of the same family, at least an octave away in size and with its own rhythm."""
    other = draw_cause(cause.family, rng)
    # Uniform over the sizes that are far enough, on whichever side there are some.
    below = max(cause.size - LEAST_CHANGE, 0.0)
    above = max(1.0 - LEAST_CHANGE - cause.size, 0.0)
    place = other.size * (below + above)
    return replace(other, size=place if place < below else place - below + cause.size + LEAST_CHANGE)


def causes_of(cause: Cause) -> dict[str, float]:
    """The causal parameters that `cause`'s family draws; a material by its number in the family's list."""
    spec = FAMILIES[cause.family]
    values = {
        "size": cause.size,
        "rate_hz": cause.rate_hz,
        "material": float(spec.materials.index(cause.material)),
        "count": float(cause.num_things),
        "delay_s": cause.delay_s,
    }
    return {name: values[name] for name in ("size", "rate_hz", *spec.further_causes)}


def render(scene: Scene) -> tuple[np.ndarray, np.ndarray, Truth]:
    """The scene's frames uint8 (T, H, W, 3), its wave float32 in [-1, 1], and the truth about it."""
    frames, boxes = render_frames(scene)
    delay_ms = scene.heard.delay_s * 1000.0
    onset_ms = scene.heard.beats.onsets_ms(scene.shift_ms + delay_ms)
    truth = Truth(scene.heard.family, causes_of(scene.heard), onset_ms, boxes)
    return frames, render_wave(scene), truth


def render_frames(scene: Scene, indices: Sequence[int] = range(NUM_FRAMES)) -> tuple[np.ndarray, list[Box]]:
    """The frames at `indices` of what is seen, with the sounding thing's box in each."""
    rng = np.random.default_rng(scene.picture_seed)
    setting = nuisance.draw_setting(rng)
    shown = [*_distractors(setting, rng), (scene.seen, setting.place)]
    still = nuisance.draw_room(setting).transpose(2, 0, 1)
    frames = np.empty((len(indices), HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    boxes = []
    for row, index in enumerate(indices):
        canvas, box = _painted(still, shown, setting.palette, index)
        for channel, plane in enumerate(canvas.astype(np.uint8)):  # a canvas stays in 0 to 255
            frames[row, ..., channel] = plane
        boxes.append(box)
    return frames, boxes


def render_wave(scene: Scene) -> np.ndarray:
    """The sound in its room, with what is heard from off screen."""
    rng = np.random.default_rng(scene.sound_seed)
    wave = FAMILIES[scene.heard.family].wave(scene.heard)
    acoustics = nuisance.draw_acoustics(rng)
    if acoustics.has_off_screen:
        other = draw_cause(str(rng.choice(TRAINED)), rng)
        wave = nuisance.mixed(wave, FAMILIES[other.family].wave(other), acoustics.off_screen_db)
    start = round((MARGIN_S - scene.shift_ms / 1000.0) * SAMPLE_RATE_HZ)
    heard = wave[start : start + round(LENGTH_S * SAMPLE_RATE_HZ)]
    return nuisance.recorded(heard, acoustics, rng)


def _distractors(setting: nuisance.Setting, rng: np.random.Generator) -> list[Shown]:
    """A silent thing of a trained family, small and beside the stage; or none."""
    if setting.distractor_place is None:
        return []
    return [(draw_cause(str(rng.choice(TRAINED)), rng), setting.distractor_place)]


def _painted(
    still: np.ndarray, shown: Sequence[Shown], palette: Palette, index: int
) -> tuple[np.ndarray, Box]:
    """Frame `index` as a canvas, and the box of the last of `shown`: the thing that sounds."""
    canvas = still.copy()
    box = (0.0, 0.0, 0.0, 0.0)
    for cause, place in shown:
        stage = Stage(canvas, place, palette)
        FAMILIES[cause.family].figure(stage, cause, cause.beats.exposed(index / FRAME_RATE_HZ))
        box = stage.box()
    return canvas, box


def _between(limits: tuple[float, float], share: float) -> float:
    """`share` of the way from the lower to the upper limit, by ratio."""
    lower, upper = limits
    return float(lower * (upper / lower) ** share)
