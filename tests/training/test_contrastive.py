"""The default model's options: objectives, what is heard, motion, sizes."""

import math
from dataclasses import replace

import pytest
import torch
from avc_fixtures import SHORT_RUN, TINY

from training.loop import train
from training.models import contrastive
from training.networks import losses
from training.networks.checkpoint import num_parameters
from training.networks.trunks import resnet
from training.reading.negatives import Steps

VIDEOS = torch.tensor([0, 0, 0, 1, 1, 1])
SECONDS_MS = torch.tensor([0.0, 1000.0, 4000.0] * 2)
STEPS = Steps(VIDEOS, VIDEOS, VIDEOS, SECONDS_MS, SECONDS_MS)
KIN = replace(STEPS, classes=torch.zeros(6, dtype=torch.int64))  # two videos of one class


@pytest.mark.parametrize("name", ["spectrogram", "wave", "sigmoid", "within_clip", "within_class", "dropout"])
def test_every_variant_trains_on_stored_clips(dataset, tmp_path, name):
    size = {"width": 8, "image_blocks": (1, 1), "audio_blocks": (1, 1), "embedding": 32, "hidden": 64}
    config = replace(contrastive.PRESETS[name], **size)

    told = list(train(dataset, "contrastive", config, replace(SHORT_RUN, steps=2), tmp_path))

    assert math.isfinite(told[-1]["loss"]) and 0 <= told[-1]["val_auc"] <= 1


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "heard", "moments"),
    [("small", (64, 100), 6), ("spectrogram", (257, 199), 6), ("wave", (1, 16_000), 6)],
)
def test_every_front_end_hears_as_many_moments(name, heard, moments):
    model = contrastive.build(contrastive.PRESETS[name]).eval()

    encoded = model.encode_audio(torch.randn(2, *heard))

    assert encoded["map"].shape == (2, 128, moments)


@torch.inference_mode()
def test_motion_is_seen_as_the_difference_to_the_frame_before():
    torch.manual_seed(0)
    model = contrastive.build(replace(TINY, motion=True)).eval()
    still = torch.rand(1, 1, 3, 112, 112).expand(-1, 2, -1, -1, -1)
    moving = torch.cat([still[:, :1].roll(9, -1), still[:, 1:]], 1)

    one, other = (model.encode_image(images)["vector"][0] for images in (still, moving))

    assert model.view.num_frames == 2
    assert one @ other < 0.999
    assert contrastive.needs(model.config).frame_rate_hz == 4.0


def test_the_resnet_is_resnet_18():
    """Torchvision's has 11,689,512 parameters, 513,000 of them in the layer that we have not."""
    assert num_parameters(resnet(3, 64, 4, (2, 2, 2, 2))) == 11_689_512 - 513_000
    assert num_parameters(resnet(3, 64, 4, (3, 4, 6, 3))) == 21_797_672 - 513_000  # ResNet-34


def test_soft_targets_cost_nothing_when_met_and_forgive_neighbours():
    apart = (SECONDS_MS[:, None] - SECONDS_MS[None]) / 1000.0
    met = -apart.square() / 2

    assert losses.within_clip(met, torch.tensor(1.0), STEPS, 1000.0) == pytest.approx(0, abs=1e-6)
    neighbour = torch.zeros(6, 6)
    far = torch.zeros(6, 6)
    neighbour[0, 1] = far[0, 2] = 3.0
    loss = [losses.within_clip(sim, torch.tensor(1.0), STEPS, 1000.0) for sim in (neighbour, far)]
    assert loss[0] < loss[1]


@pytest.mark.parametrize("objective", ["infonce", "sigmoid"])
@pytest.mark.parametrize("term", [{"within_clip": 0.2}, {"within_class": 0.5}])
def test_equal_vectors_have_the_loss_of_chance_with_the_terms_within_clips_and_classes_too(objective, term):
    model = contrastive.build(replace(TINY, objective=objective, **term))
    torch.nn.init.zeros_(model.bias)
    nothing = torch.zeros(6, 32)

    loss = model.loss(nothing, nothing, KIN)

    assert loss.item() == pytest.approx(model.chance_loss(KIN)) != losses.chance(KIN.negatives)


def test_the_term_within_classes_tells_only_clips_of_one_class_from_each_other():
    kin = replace(STEPS, videos=torch.arange(6), clips=torch.arange(6))  # three clips of either class
    plain, weighed = (contrastive.build(replace(TINY, within_class=weight)) for weight in (0.0, 1.0))
    vectors = torch.nn.functional.normalize(
        torch.randn(6, 32, generator=torch.Generator().manual_seed(0)), dim=1
    )

    def term(heard):
        return (weighed.loss(vectors, heard, kin) - plain.loss(vectors, heard, kin)).item()

    own = term(vectors)
    assert own < losses.chance(torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)).bool())
    assert term(vectors.roll(1, 0)) > own + 0.1
    kin = replace(kin, classes=torch.arange(6))
    assert term(vectors) == pytest.approx(0, abs=1e-6)


def test_another_segment_of_the_video_does_not_enter_the_term_within_clips():
    """Its times are from its own beginning: that they are the same says nothing."""
    similarity = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    one_video = replace(STEPS, videos=torch.zeros(6))

    within = (losses.within_clip(similarity, torch.tensor(0.5), s, 1000.0) for s in (STEPS, one_video))

    assert next(within) == next(within)


def test_other_clips_do_not_enter_the_term_within_clips():
    similarity = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    changed = similarity.clone()
    changed[:3, 3:] += 7.0

    first, second = (
        losses.within_clip(sim, torch.tensor(0.5), STEPS, 1000.0) for sim in (similarity, changed)
    )

    assert first == pytest.approx(second.item())


@torch.no_grad()
def test_sigmoids_of_all_pairs_cost_chance_where_all_are_alike_and_nothing_where_all_are_right():
    model = contrastive.build(replace(TINY, objective="sigmoid", temperature=0.01))
    alike = torch.eye(8)[:1].expand(6, -1)
    apart = torch.eye(8)[VIDEOS]

    model.bias.fill_(-100.0)  # the logit of vectors that are the same is 1 / 0.01
    assert model.loss(alike, alike, STEPS).item() == pytest.approx(model.chance_loss(STEPS))
    model.bias.fill_(-50.0)
    assert model.loss(apart, apart, STEPS) < 1e-6
    nobody = replace(STEPS, videos=torch.zeros_like(VIDEOS))
    assert model.loss(alike, alike, nobody).item() == model.chance_loss(nobody) == 0.0
