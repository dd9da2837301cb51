"""L3-Net, AVE-Net and AVOL-Net against their papers' tables, and the pitfalls of those who rebuilt them."""

import math
from dataclasses import replace

import avc_fixtures as shards
import numpy as np
import pytest
import torch
from costs import multiply_adds
from torch.nn import functional

from schemas.feature import PROFILES, Profile
from training.loop import TrainConfig, train
from training.models import ave, avol, l3, load_model
from training.networks import losses
from training.networks.checkpoint import num_parameters
from training.networks.trunks import vgg
from training.reading.dataset import open_dataset
from training.reading.negatives import Steps
from training.reading.sampling import Sampling
from training.tracking.registry import Scorer, examples

PAPER = {
    "l3": l3.build(l3.PRESETS["paper2018"]),
    "ave": ave.build(ave.PRESETS["paper"]),
    "avol": avol.build(avol.PRESETS["paper"]),
}
SMALL = {"l3": l3.Config(width=8), "ave": ave.Config(width=8), "avol": avol.Config(width=8)}
BUILD = {"l3": l3.build, "ave": ave.build, "avol": avol.build}


def steps(*videos: int) -> Steps:
    """Steps of these videos, a second apart."""
    numbers = torch.tensor(videos)
    times_ms = 1000.0 * torch.arange(len(videos))
    return Steps(numbers, numbers, numbers, times_ms, times_ms)


STEPS = steps(0, 1, 2, 3)


@pytest.fixture(params=sorted(SMALL))
def small(request):
    torch.manual_seed(0)
    return BUILD[request.param](SMALL[request.param])


def inputs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(count)
    return torch.rand(count, 3, 112, 112, generator=random), torch.randn(count, 64, 100, generator=random) - 2


@pytest.mark.parametrize(
    ("stride", "channels", "size", "shape", "gmac"),
    [
        (2, 3, (224, 224), (512, 14, 14), 2.56),  # Objects that Sound, fig. 2a
        (2, 1, (257, 200), (512, 16, 12), 2.58),  # fig. 2b
        (1, 3, (224, 224), (512, 28, 28), 10.26),  # Look, Listen and Learn, fig. 2
        (1, 1, (257, 199), (512, 32, 24), 10.21),
    ],
)
def test_the_trunk_is_the_papers(stride, channels, size, shape, gmac):
    trunk = vgg(channels, 64, stride).eval()

    with torch.inference_mode():
        out, macs = multiply_adds(trunk, torch.zeros(1, channels, *size))

    assert out.shape == (1, *shape)
    assert macs / 1e9 == pytest.approx(gmac, abs=0.011)
    assert num_parameters(trunk) / 1e6 == pytest.approx(4.69, abs=0.006)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("l3", 1024 * 128 + 128 + 128 + 1),  # fc1 1024x128, and fc2's difference of two outputs
        ("ave", 2 * (512 * 128 + 128 + 128 * 128 + 128) + 2),  # fc1, fc2 of both sides, fc3's difference
        ("avol", 2 * (512 * 128 + 128 + 128 * 128 + 128) + 2),  # conv5, conv6, fc1, fc2, conv7
    ],
)
def test_the_heads_have_the_papers_size(name, head):
    model = PAPER[name]

    assert num_parameters(model) == num_parameters(model.trunks) + head


@pytest.mark.parametrize("name", sorted(PAPER))
@torch.inference_mode()
def test_the_papers_networks_hear_the_papers_spectrogram(name):
    model = PAPER[name].eval()

    heard = model.front_end(0.1 * torch.randn(1, 1, 48_000))

    assert heard.shape == (1, 257, 199)
    assert model.heard(heard).shape == (1, 512, 16, 12)
    assert model.view.sound == "wave"


@pytest.mark.parametrize("module", [l3, ave, avol])
def test_the_profile_seed_is_for_the_papers_networks(module):
    for preset in ("paper", "spectrogram"):
        module.needs(module.PRESETS[preset]).check(PROFILES["seed"], preset)
    with pytest.raises(
        ValueError, match="sample_rate_hz 16000 instead of 48000; build a version with profile 'seed'"
    ):
        module.needs(module.PRESETS["paper"]).check(PROFILES["standard"], "paper")
    assert l3.PRESETS["paper"].stem_stride == 1


@pytest.mark.parametrize("name", sorted(SMALL))
def test_they_train_on_waves_of_48_khz_and_are_exported(tmp_path, name):
    profile = Profile("seed", sample_rate_hz=48_000)
    clips = [
        replace(clip, wave=np.repeat(clip.wave, 3)[:, None], rate_hz=48_000)
        for clip in shards.corresponding({"train": 4, "val": 3})
    ]
    dataset = open_dataset(tmp_path, shards.write_dataset(tmp_path, clips, profile=profile))
    config = replace(SMALL[name], front_end="spectrogram")
    run = TrainConfig(steps=2, seconds=None, sampling=Sampling(4, 1), num_validations=1)

    told = list(train(dataset, name, config, run, tmp_path / "run"))
    scorer = Scorer(load_model(tmp_path / "run" / "best.pt")).eval().requires_grad_(False)
    batch = torch.export.Dim("batch", min=2, max=1024)
    shapes = ({0: batch}, {0: batch})
    program = torch.export.export(scorer, examples(scorer.model), dynamic_shapes=shapes).module()

    assert math.isfinite(told[-1]["loss"])
    frames, waves = examples(scorer.model)
    three = (torch.cat([frames, frames[:1]]), torch.cat([waves, waves[:1] + 0.1]))
    torch.testing.assert_close(program(*three), scorer(*three))


@torch.inference_mode()
def test_avols_map_has_fourteen_by_fourteen_places():
    model = PAPER["avol"].eval()

    assert model.encode_image(torch.rand(1, 3, 224, 224))["map"].shape == (1, 128, 14, 14)


@torch.inference_mode()
def test_l3s_separable_judge_is_the_concatenation():
    small = l3.build(SMALL["l3"]).eval()
    images, sounds = inputs(4)
    picture = small.trunks.image(images).amax((2, 3))
    sound = small.trunks.audio((sounds - small.audio_mean) / small.audio_std).amax((2, 3))
    weight = torch.cat([small.fc1_image.weight, small.fc1_audio.weight], dim=1)

    fc1 = functional.linear(torch.cat([picture, sound.roll(1, 0)], dim=1), weight, small.fc1_image.bias)
    expected = small.fc2(torch.relu(fc1))[:, 0]

    scores = small.similarity(small.encode_image(images)["vector"], small.encode_audio(sounds)["vector"])
    torch.testing.assert_close(scores[torch.arange(4), torch.arange(4).roll(1)], expected)


def test_the_full_combination_is_the_naive_pairs(small):
    """Every pair encoded and judged on its own gives the same loss."""
    images, sounds = inputs(4)
    small.eval()
    combined = small.loss(small.encode_image(images)["vector"], small.encode_audio(sounds)["vector"], STEPS)

    kinds: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for n in range(4):
        for m in range(4):
            V = small.encode_image(images[n : n + 1])["vector"]
            A = small.encode_audio(sounds[m : m + 1])["vector"]
            label = torch.tensor(float(n == m))
            logit = small.similarity(V, A)[0, 0]
            kinds[n == m].append(functional.binary_cross_entropy_with_logits(logit, label))
    naive = (torch.stack(kinds[True]).mean() + torch.stack(kinds[False]).mean()) / 2

    torch.testing.assert_close(combined, naive, atol=1e-5, rtol=1e-5)


def test_a_perfect_model_costs_nothing_and_an_ignorant_one_ln_2():
    """A softmax before the cross-entropy would leave 0.313 of it (the double softmax of a known port)."""
    right = torch.where(torch.eye(4, dtype=torch.bool), 30.0, -30.0)

    assert losses.pairs(right, STEPS.negatives) < 1e-6
    assert losses.pairs(torch.zeros(4, 4), STEPS.negatives).item() == pytest.approx(math.log(2))


def test_other_steps_of_a_video_are_neither_matching_nor_other():
    negatives = steps(0, 0, 1, 2).negatives
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    changed = logits.clone()
    changed[0, 1] = 50.0
    changed[1, 0] = -50.0

    assert losses.pairs(logits, negatives) == losses.pairs(changed, negatives)


@torch.inference_mode()
def test_aves_vectors_have_norm_one_row_by_row():
    model = ave.build(SMALL["ave"]).eval()
    images, sounds = inputs(5)

    for vectors in (model.encode_image(images)["vector"], model.encode_audio(sounds)["vector"]):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))


def test_the_first_batch_centres_the_decision():
    """Half of what is asked is said to match: neither answer is free at the start."""
    images, sounds = inputs(6)
    for model in (ave.build(SMALL["ave"]).train(), avol.build(SMALL["avol"]).train()):
        V = model.encode_image(images)["vector"]
        A = model.encode_audio(sounds)["vector"]

        model.loss(V, A, steps(*range(6)))

        assert model.similarity(V, A).mean().abs() < 1e-4
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.loss(V + 1, A, steps(*range(6)))
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@torch.inference_mode()
@pytest.mark.parametrize("sign", [1, -1])
def test_avols_score_is_its_best_place(monkeypatch, sign):
    monkeypatch.setattr(avol, "PRODUCTS_AT_ONCE", 1)  # a picture at a time must not change anything
    model = avol.build(SMALL["avol"]).eval()
    model.conv7_weight.mul_(sign)
    images, sounds = inputs(3)
    V = model.encode_image(images)
    A = model.encode_audio(sounds)

    where = model.heat(V["map"], A["vector"])

    best = where.amax((1, 2))
    torch.testing.assert_close(best, model.similarity(V["vector"], A["vector"]).diagonal())
    torch.testing.assert_close(best, model.paired(V["vector"], A["vector"]))


def test_each_model_learns_one_batch_by_heart(small):
    loss, logits = learnt_by_heart(small, inputs(4), 3e-3, 60)

    assert ((logits > 0) == torch.eye(4, dtype=torch.bool)).all()
    assert loss < 0.3  # AVE-Net's distances end at 2: more than its slope times that it can't be sure
    if isinstance(small, ave.Ave):
        assert small.fc3_weight < 0  # small distances still mean that the two belong together


@pytest.mark.slow
@pytest.mark.parametrize("module", [l3, ave, avol])
def test_the_papers_networks_learn_one_batch_by_heart(module):
    """All their channels, on small pictures and a fifth of a second: what is learnt is the same."""
    torch.manual_seed(0)
    model = module.build(replace(module.PRESETS["paper"], frame_px=64))
    random = torch.Generator().manual_seed(4)
    images = torch.rand(4, 3, 64, 64, generator=random)
    sounds = torch.randn(4, 257, 40, generator=random) - 2

    loss, logits = learnt_by_heart(model, (images, sounds), 3e-4, 40)

    assert ((logits > 0) == torch.eye(4, dtype=torch.bool)).all()
    assert loss < 0.4


def learnt_by_heart(model, batch, rate: float, num_steps: int) -> tuple[float, torch.Tensor]:
    """The last loss on one batch of four, and the logit of each of its pairs."""
    images, sounds = batch
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    model.train()
    for _ in range(num_steps):
        V = model.encode_image(images)["vector"]
        A = model.encode_audio(sounds)["vector"]
        loss = model.loss(V, A, STEPS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item(), model.similarity(V, A).detach()
