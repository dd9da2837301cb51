"""Owens & Efros's network: its table, its shift law, its activation map; and the narrow one learns a batch."""

from dataclasses import replace

import avc_fixtures as shards
import film_fixtures as films
import numpy as np
import pytest
import torch
from costs import multiply_adds
from hypothesis import given
from hypothesis import strategies as st

from schemas.feature import PROFILES
from training.loop import TrainConfig, train
from training.models import load_model, multisensory
from training.models.multisensory import APART_MS, PAPER, TRAINING_OVERRIDES, Config
from training.networks.checkpoint import num_parameters, save_checkpoint
from training.reading.dataset import open_dataset
from training.reading.negatives import Negatives, Steps
from training.reading.sampling import _chosen, valid_steps

TINY = Config(width=0.125, num_frames=16, frame_px=32)


def steps_of_two_clips() -> Steps:
    """Two steps of each, 3 s apart."""
    videos = torch.tensor([0, 0, 1, 1])
    seen_ms = torch.tensor([2500.0, 5500.0] * 2)
    return Steps(videos, videos, videos, seen_ms, seen_ms, TRAINING_OVERRIDES["negatives"])


def inputs(model, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(count)
    view = model.view
    images = torch.rand(count, view.num_frames, 3, view.frame_px, view.frame_px, generator=random)
    return images, 0.1 * torch.randn(count, 2, view.sound_ms * 21, generator=random)


@torch.inference_mode()
def test_shapes_are_the_papers():
    """4.2 s: 125 frames of 224 px and 87.6 k samples meet as 32 steps of 28 x 28; 7 x 7 places, 14 x 14 in the map."""
    model = multisensory.build(PAPER).eval().to("meta")  # shapes and sums only: it would take long
    images = torch.empty(1, 125, 3, 224, 224, device="meta")
    sounds = torch.empty(1, 2, model.view.sound_ms * 21, device="meta")

    V, of_pictures = multiply_adds(model.encode_image, images)
    A, of_sound = multiply_adds(model.encode_audio, sounds)
    places, of_pair = multiply_adds(model.places, V["map"], A["vector"])

    assert sounds.shape[-1] == pytest.approx(125 / 29.97 * 21_000, abs=105)  # to the 10 ms
    assert V["map"].shape == (1, 64 * 32, 28, 28) and A["map"].shape == (1, 128, 32)
    assert places.shape == (1, 16, 7, 7)
    assert model.heat(V["map"], A["vector"]).shape == (1, 14, 14)
    assert (of_pictures + of_sound) / 1e9 == pytest.approx(SHARED_GMAC, rel=0.01)
    assert of_pair / 1e9 == pytest.approx(PAIR_GMAC, rel=0.01)


@torch.inference_mode()
def test_the_score_is_the_mean_of_its_places():
    torch.manual_seed(0)
    model = multisensory.build(TINY).eval()
    images, sounds = inputs(model, 2)
    V = model.encode_image(images)
    A = model.encode_audio(sounds)

    places = model.places(V["map"], A["vector"])

    torch.testing.assert_close(model.paired(V["vector"], A["vector"]), places.mean((1, 2, 3)))


@pytest.mark.parametrize("num_frames", [4, 8, 12])
def test_gradients_in_bf16_are_those_of_float32(num_frames):
    config = Config(num_frames=num_frames)

    def gradients(is_bf16: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = multisensory.build(config).train()
        images, _ = inputs(model, 4)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            encoded = model.encode_image(images)["vector"]
        # What is freed here is what a kernel that forgets to write finds.
        dirt = [torch.full((2**size,), 1e30) for size in range(8, 20)]
        del dirt
        (encoded**2).mean().backward()
        return [p.grad for p in model.seen.parameters()]

    for one, other in zip(gradients(True), gradients(False), strict=True):
        assert (one - other).norm() < 0.25 * other.norm() + 1e-4


def macs(channels_in: int, channels: int, kernel: int, places: int) -> float:
    return channels_in * channels * kernel * places / 1e9


STEP = 32 * 28 * 28
SHARED_GMAC = (
    macs(3, 64, 245, 63 * 112 * 112)
    + 2 * macs(64, 64, 27, 63 * 56 * 56)
    + 2 * macs(64, 64, 27, STEP)
    + macs(2, 64, 65, 21_893)
    + macs(64, 128, 15, 1369) + macs(128, 128, 15, 1369) + macs(64, 128, 1, 1369)
    + 2 * macs(128, 128, 15, 343)
    + macs(128, 256, 15, 86) + macs(256, 256, 15, 86) + macs(128, 256, 1, 86)
    + macs(256, 128, 3, 32)
)  # fmt: skip
PAIR_GMAC = (
    macs(192, 512, 1, STEP) + macs(512, 128, 1, STEP)
    + 4 * macs(128, 128, 27, STEP)
    + macs(128, 256, 27, STEP // 8) + 3 * macs(256, 256, 27, STEP // 8) + macs(128, 256, 1, STEP // 8)
    + macs(256, 512, 27, STEP // 32) + 3 * macs(512, 512, 27, STEP // 32) + macs(256, 512, 1, STEP // 32)
)  # fmt: skip


def test_the_number_of_parameters_is_that_of_its_layers():
    convolutions = (
        3 * 64 * 245 + 4 * 64 * 64 * 27
        + 2 * 64 * 65 + 15 * (64 * 128 + 3 * 128 * 128 + 128 * 256 + 256 * 256) + 64 * 128 + 128 * 256 + 256 * 128 * 3
        + 192 * 512 + 512 * 128 + 128
        + 27 * (4 * 128 * 128 + 128 * 256 + 3 * 256 * 256 + 256 * 512 + 3 * 512 * 512) + 128 * 256 + 256 * 512
        + 512 + 1
    )  # fmt: skip
    norms = 2 * (64 + 4 * 64 + 64 + 4 * 128 + 2 * 256 + 128 + 512 + 128 + 4 * 128 + 4 * 256 + 4 * 512)

    assert num_parameters(multisensory.build(PAPER)) == convolutions + norms


@given(valid_ms=st.integers(8600, 10_000), seed=st.integers(0, 10_000))
def test_windows_of_own_and_shifted_sound_share_at_most_sixty_frames(valid_ms, seed):
    profile = PROFILES["multisensory"]
    view = multisensory.build(TINY).view
    view = replace(view, num_frames=125, frame_stride=1, sound_ms=4170)
    steps = valid_steps(profile, valid_ms, view)

    gap = TRAINING_OVERRIDES["sampling"].frames_apart(profile)

    first, second = _chosen(steps, 2, gap, np.random.default_rng(seed))

    assert gap == 65 and second - first >= 65 and {first, second} <= set(steps.tolist())
    assert (second - first) / 29.97 <= 5.9


def test_each_picture_is_asked_with_its_own_and_one_shifted_sound_of_its_clip():
    torch.manual_seed(0)
    model = multisensory.build(TINY).eval()
    images, sounds = inputs(model, 4)
    V = model.encode_image(images)["vector"]
    A = model.encode_audio(sounds)["vector"]

    loss = model.loss(V, A, steps_of_two_clips())

    scores = model.similarity(V, A)
    own = scores.diagonal()
    other = scores[torch.arange(4), torch.tensor([1, 0, 3, 2])]
    softplus = torch.nn.functional.softplus
    torch.testing.assert_close(loss, (softplus(-own).mean() + softplus(other).mean()) / 2)
    near = replace(steps_of_two_clips(), seen_ms=torch.zeros(4), heard_ms=torch.zeros(4))
    assert model.loss(V, A, near) == 0.0


@pytest.mark.parametrize("kinds", [("other_clip",), ("shifted",), ("other_clip", "shifted"), ("same_class",)])
@pytest.mark.parametrize("per_clip", [1, 2, 3])
def test_every_sound_is_asked_as_often_with_a_wrong_picture_as_with_its_own(kinds, per_clip):
    """If only the first of a clip's two sounds were ever wrong, it would be known by being early."""
    clips = torch.arange(8).repeat_interleave(per_clip)
    at_ms = 4000.0 * torch.arange(per_clip).repeat(8)
    steps = Steps(clips, clips, clips // 2, at_ms, at_ms, Negatives(kinds))

    rows, others = multisensory.other_sounds(steps.negatives)

    assert steps.negatives[rows, others].all()
    if kinds == ("other_clip",):
        assert torch.equal(others, (rows + per_clip) % len(clips))  # the next that is of another clip
    asked = [] if kinds == ("shifted",) and per_clip == 1 else list(range(len(clips)))
    assert rows.tolist() == others.sort().values.tolist() == asked


def test_where_both_are_negatives_half_are_of_other_clips_and_half_shifted():
    clips = torch.arange(8).repeat_interleave(2)
    at_ms = 4000.0 * torch.arange(2).repeat(8)
    steps = Steps(clips, clips, clips, at_ms, at_ms, Negatives(("other_clip", "shifted")))

    rows, others = multisensory.other_sounds(steps.negatives)

    assert (clips[rows] == clips[others]).float().mean() == 0.5


def test_a_step_without_a_negative_is_not_asked():
    only = torch.zeros(5, 5, dtype=torch.bool)
    only[3, 1] = only[3, 0] = True

    rows, others = multisensory.other_sounds(only)

    assert (rows.tolist(), others.tolist()) == ([3], [0])  # the next after 3 is 0, beyond the end


def test_a_curriculum_goes_on_from_its_first_part_and_needs_it_no_longer_when_it_is_trained(tmp_path):
    first = multisensory.build(replace(TINY, frame_stride=4))
    path = tmp_path / "first.pt"
    save_checkpoint(path, "multisensory", first.config, first, {})
    second = multisensory.build(replace(TINY, start=str(path)))
    assert not torch.equal(second.logit.weight, first.logit.weight)

    second.load_initial_weights()

    assert all(map(torch.equal, second.state_dict().values(), first.state_dict().values()))
    save_checkpoint(tmp_path / "second.pt", "multisensory", second.config, second, {})
    path.unlink()
    assert torch.equal(load_model(tmp_path / "second.pt").logit.weight, first.logit.weight)
    with pytest.raises(ValueError, match=r"there is no checkpoint .*first.pt"):
        second.load_initial_weights()
    save_checkpoint(path, "multisensory", first.config, first, {})
    with pytest.raises(ValueError, match="give a checkpoint of a multisensory model as wide as this one"):
        multisensory.build(replace(TINY, width=0.25, start=str(path))).load_initial_weights()


@pytest.mark.parametrize(
    ("config", "num_steps"),
    [
        (TINY, 40),
        # All the paper's channels, on few and small frames: what is learnt is the same.
        pytest.param(replace(PAPER, num_frames=16, frame_px=32), 15, marks=pytest.mark.slow),
    ],
    ids=["narrow", "paper"],
)
def test_the_network_learns_one_batch_by_heart(config, num_steps):
    torch.manual_seed(0)
    model = multisensory.build(config).train()
    images, sounds = inputs(model, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(num_steps):
        loss = model.loss(
            model.encode_image(images)["vector"], model.encode_audio(sounds)["vector"], steps_of_two_clips()
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    assert loss < 0.2


def test_it_trains_on_stereo_films_of_its_profile(tmp_path):
    clips = [
        shards.SyntheticClip(
            f"{split}{n}", split, [], np.zeros(0), films.stereo(n), rate_hz=21_000,
            film=films.film(n, films.moments(n), films.STEREO),
        )
        for split, count in {"train": 4, "val": 2}.items() for n in range(count)
    ]  # fmt: skip
    dataset = open_dataset(tmp_path, shards.write_dataset(tmp_path, clips, profile=films.STEREO))
    sampling = replace(TRAINING_OVERRIDES["sampling"], clips_per_batch=2)
    run = TrainConfig(
        **(TRAINING_OVERRIDES | {"sampling": sampling, "steps": 2, "seconds": None, "num_validations": 1})
    )

    told = list(train(dataset, "multisensory", TINY, run, tmp_path / "run"))

    np.testing.assert_array_equal(dataset.wave(0), films.stereo(0).T)
    assert np.isfinite(told[-1]["loss"]) and 0 <= told[-1]["val_auc"] <= 1
    assert (
        load_model(tmp_path / "run" / "best.pt").audio_std[1]
        > 1.5 * load_model(tmp_path / "run" / "best.pt").audio_std[0]
    )  # louder on the right


def test_the_shift_is_that_of_the_code():
    assert pytest.approx(2169, abs=1) == APART_MS

    with pytest.raises(ValueError, match="build a version with profile 'multisensory'"):
        multisensory.needs(TINY).check(films.FILM, "multisensory")
