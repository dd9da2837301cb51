"""Gates of the studio: what is not the cause says nothing about the family."""

import numpy as np
import pytest

from schemas.waveforms import log_mel
from tasks.sources.scenes import nuisance
from tasks.sources.scenes.families import FAMILIES
from tasks.sources.scenes.scene import draw_scene

pytestmark = pytest.mark.slow

NUM_SCENES = 960  # 40 of each family: chance is 4.2 %, and its interval 1.3 points wide on either side
NUM_FOLDS = 5
RIDGE = 10.0


@pytest.fixture(scope="module")
def scenes():
    names = sorted(FAMILIES)
    return [draw_scene(7, n, names[n % len(names)]) for n in range(NUM_SCENES)]


def families_told(inputs: np.ndarray, families: np.ndarray) -> int:
    """How many families a cross-validated ridge classifier tells right."""
    inputs = (inputs - inputs.mean(0)) / (inputs.std(0) + 1e-6)
    folds = np.random.default_rng(0).permutation(len(inputs)) % NUM_FOLDS
    targets = np.eye(families.max() + 1)[families]
    right = 0
    for fold in range(NUM_FOLDS):
        x = inputs[folds != fold]
        y = targets[folds != fold]
        weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (y - y.mean(0)))
        told = (inputs[folds == fold] @ weights + y.mean(0)).argmax(1)
        right += int((told == families[folds == fold]).sum())
    return right


def assert_chance(right: int, num_families: int) -> None:
    chance = 1 / num_families
    spread = 1.96 * np.sqrt(chance * (1 - chance) / NUM_SCENES)
    assert right / NUM_SCENES <= chance + spread, (
        f"{right} of {NUM_SCENES} families told, chance {chance:.3f}"
    )


def codes(scenes) -> np.ndarray:
    names = sorted(FAMILIES)
    return np.array([names.index(scene.heard.family) for scene in scenes])


def test_the_background_alone_does_not_predict_the_family(scenes):
    rooms = [nuisance.draw_room(nuisance.draw_setting(np.random.default_rng(s.picture_seed))) for s in scenes]
    blocks = [room.reshape(12, 20, 16, 20, 3).mean(axis=(1, 3)).ravel() for room in rooms]

    assert_chance(families_told(np.array(blocks)[:, ::3], codes(scenes)), len(FAMILIES))


def test_event_free_sound_does_not_predict_the_family(scenes):
    def room_and_microphone(scene) -> np.ndarray:
        rng = np.random.default_rng(scene.sound_seed)
        click = np.zeros(16_000)
        click[4_000] = 1.0  # the same event for all: what is left is the recording
        wave = nuisance.recorded(click, nuisance.draw_acoustics(rng), rng)
        return (
            log_mel(np.round(wave * 32767).astype(np.int16))
            .astype(np.float64)
            .reshape(64, 10, 10)
            .mean(2)
            .ravel()
        )

    told = families_told(np.array([room_and_microphone(scene) for scene in scenes]), codes(scenes))

    assert_chance(told, len(FAMILIES))


def test_the_cause_does_predict_the_family(scenes):
    """The gates have power: the same classifier tells the family from the thing itself."""
    from tasks.sources.scenes.scene import render_frames

    frames = [render_frames(scene, [60])[0][0].astype(float) for scene in scenes[:480]]
    blocks = np.array(
        [frame.reshape(24, 10, 32, 10, 3).mean(axis=(1, 3)).std(axis=2).ravel() for frame in frames]
    )

    assert families_told(blocks, codes(scenes[:480])) > 2 * 480 / len(FAMILIES)
