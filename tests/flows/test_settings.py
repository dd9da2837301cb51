"""Settings of a training, as a user names them."""

import math
from dataclasses import replace

import pytest

from flows.experiments.settings import parsed, require_ranges, setting
from flows.presets import TrainSettings


def test_settings_are_of_the_kind_that_they_have():
    found = parsed(
        [
            "seconds=60",
            "patience=3",
            "steps=null",
            "augmentation=strong",
            "negatives=same_class+shifted",
            "model.width=8",
        ]
    )

    assert found == {
        "seconds": 60.0, "patience": 3, "steps": None, "augmentation": "strong",
        "negatives": ("same_class", "shifted"), "config": {"width": 8},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ("speed=3", "no setting 'speed'; there are seconds, steps, seed"),
        ("seconds=fast", "seconds must be of type float, like 600.0, and not 'fast'"),
        ("seed=1.5", "seed must be of type int, like 0, and not 1.5"),
        ("patience=true", "patience must be of type int"),
        ("steps=Infinity", "steps must be of type int, like 0, and not inf"),
        ("seconds=null", "seconds must be of type float, like 600.0, and not None"),
        ("is_compiled=True", "is_compiled must be true or false, and not 'True'"),
        ("is_compiled=1", "is_compiled must be true or false, and not 1"),
    ],
)
def test_a_slip_is_told_with_what_there_is(pair, told):
    with pytest.raises(ValueError, match=told):
        parsed([pair])


def test_a_deployments_settings_are_read_as_those_of_the_command():
    assert setting("negatives", ["shifted"]) == setting("negatives", "shifted") == ("shifted",)
    assert setting("config", {"width": 8}) == {"width": 8}
    with pytest.raises(ValueError, match="no setting 'speed'"):
        setting("speed", 3)
    with pytest.raises(ValueError, match="seconds must be of type float"):
        setting("seconds", "fast")


@pytest.mark.parametrize(
    ("name", "possible", "impossible"),
    [
        ("seconds", [0.5, 1e6], [0.0, -1.0, math.inf, math.nan]),
        ("steps", [None, 1], [0, -1]),
        ("seed", [0, 2**63 - 1], [-1, 2**63]),
        ("clips_share", [0.01, 1.0], [0.0, -1.0, 30.0, math.nan]),
        ("classes_per_batch", [None, 1], [0, -4]),
        ("learning_rate", [None, 1e-4], [0.0, -1.0, math.inf, math.nan]),
        ("patience", [None, 1], [0, -1]),
        ("num_pieces", [1, 8], [0, -1]),
    ],
)
def test_numbers_that_no_training_can_go_by_are_refused(name, possible, impossible):
    for value in possible:
        require_ranges(replace(TrainSettings(), **{name: value}))
    for value in impossible:
        with pytest.raises(ValueError, match=f"{name} is .*: it must be "):
            require_ranges(replace(TrainSettings(), **{name: value}))
