"""The front end in torch is the stored log-mel."""

import numpy as np
import pytest
import torch
from avc_fixtures import tone

from schemas.waveforms import INT16_SCALE, log_mel
from training.networks.frontend import LogMel

ROUNDING = 2e-3  # half a step of float16 at -6, the floor


def sounds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    click = np.zeros(16_000, np.int16)
    click[7_000] = 32_767
    return {
        "tone": tone(440.0, 1)[:16_000],
        "noise": (rng.standard_normal(16_000) * 3_000).astype(np.int16),
        "silence": np.zeros(16_000, np.int16),
        "click": click,
        "loud tone": (np.sin(np.arange(16_000) * 0.3) * 32_767).astype(np.int16),
        "odd length": (rng.standard_normal(12_345) * 500).astype(np.int16),
    }


@pytest.mark.parametrize("name", sounds())
def test_the_front_end_equals_the_stored_log_mel(name):
    wave = sounds()[name]

    ours = LogMel()(torch.from_numpy(wave.astype(np.float32) / INT16_SCALE)[None])[0].numpy()

    stored = log_mel(wave).astype(np.float32)
    assert ours.shape == stored.shape
    assert np.abs(ours - stored).max() < ROUNDING


def test_sounds_of_a_batch_do_not_touch_each_other():
    waves = torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0)) * 0.1

    torch.testing.assert_close(LogMel()(waves)[1], LogMel()(waves[1:2])[0])
