"""The interface that every model keeps, and what a version must hold for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from avc_fixtures import TINY
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from schemas.feature import PROFILES, Profile
from training import models
from training.evaluation import correspondence, retrieval, synchrony
from training.models import contrastive, l3, sync
from training.networks.frontend import LogSpectrogram
from training.networks.losses import TEMPERATURE_RANGE
from training.reading.negatives import Steps
from training.reading.sampling import View
from training.tracking.registry import Scorer, examples

SMALL = {"contrastive": TINY}  # a model that has no small configuration here is tested at its default


@pytest.fixture(params=models.names())
def model(request):
    torch.manual_seed(0)
    module = models.load(request.param)
    return module.build(models.configure(request.param, SMALL.get(request.param))).eval()


def inputs(count: int, model=None) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures and what is heard, as the model's view and front end have them."""
    view = model.view if model else View()
    random = torch.Generator().manual_seed(count)
    run = (view.num_frames,) if view.num_frames > 1 else ()
    images = torch.rand(count, *run, 3, view.frame_px, view.frame_px, generator=random)
    if model and not model.front_end.is_spectrum:
        samples = round(view.sound_ms * model.front_end.constants["sample_rate_hz"] / 1000)
        return images, 0.1 * torch.randn(count, model.front_end.num_bins, samples, generator=random)
    return images, torch.randn(count, 64, view.sound_ms // 10, generator=random) - 2


@torch.inference_mode()
def test_every_model_scores_all_combinations(model):
    images, sounds = inputs(3, model)

    V = model.encode_image(images)
    A = model.encode_audio(sounds)
    scores = model.score(V["vector"], A["vector"][:2])

    assert scores.shape == (3, 2)
    assert {"vector", "map"} <= set(V) and {"vector", "map"} <= set(A)
    one = model.score(V["vector"][2:], A["vector"][1:2])
    torch.testing.assert_close(scores[2:, 1:2], one)


@torch.inference_mode()
def test_an_encoding_does_not_depend_on_its_batch(model):
    images, sounds = inputs(4, model)

    for encode, batch in ((model.encode_image, images), (model.encode_audio, sounds)):
        torch.testing.assert_close(encode(batch)["vector"][1], encode(batch[1:2])["vector"][0])


@torch.inference_mode()
def test_the_calibration_is_an_affine_of_the_similarity(model):
    images, sounds = inputs(3, model)
    V = model.encode_image(images)["vector"]
    A = model.encode_audio(sounds)["vector"]
    model.calibration.copy_(torch.tensor([4.0, -1.0]))

    torch.testing.assert_close(model.score(V, A), 4 * model.similarity(V, A) - 1)


@torch.inference_mode()
def test_pairs_score_the_same_alone_and_among_all(model):
    images, sounds = inputs(3, model)
    V = model.encode_image(images)["vector"]
    A = model.encode_audio(sounds)["vector"]

    rows = torch.tensor([0, 2, 1, 0])
    columns = torch.tensor([1, 2, 0, 0])
    expected = model.similarity(V, A)[rows, columns]

    torch.testing.assert_close(model.paired(V[rows], A[columns]), expected, atol=1e-5, rtol=1e-4)
    model.pairs_at_once = 3
    torch.testing.assert_close(model.paired_in_blocks(V[rows], A[columns]), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in models.names() if name != "multisensory"])
@torch.inference_mode()
def test_so_many_pairs_never_make_the_matrix_of_all(name):
    model = models.load(name).build(models.configure(name, SMALL.get(name))).eval()
    V, A = (encode(x)["vector"].expand(300, -1) for encode, x in zip(
        (model.encode_image, model.encode_audio), inputs(1, model), strict=True
    ))  # fmt: skip

    with Sizes() as sizes:
        model.paired(V, A)

    assert max(sizes.made) <= 300 * max(1024, V.shape[1])


class Sizes(TorchDispatchMode):
    """How many numbers each operation makes."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        self.made = [
            *getattr(self, "made", []),
            *(x.numel() for x in tree_leaves(made) if torch.is_tensor(x)),
        ]
        return made


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:The tensor attributes:UserWarning"
)  # torch's own GRU lists its weights twice
def test_every_model_is_exported_for_any_number_of_pairs(model):
    scorer = Scorer(model).eval().requires_grad_(False)
    example = examples(model)
    batch = torch.export.Dim("batch", min=2, max=1024)

    program = torch.export.export(scorer, example, dynamic_shapes=({0: batch}, {0: batch})).module()

    three = [torch.cat([part, part[:1]]) for part in example]
    torch.testing.assert_close(program(*three), scorer(*three))


@torch.inference_mode()
def test_every_model_tells_where_a_picture_sounds(model):
    images, sounds = inputs(2, model)

    where = model.heat(model.encode_image(images)["map"], model.encode_audio(sounds)["vector"])

    assert where.ndim == 3 and len(where) == 2 and where.shape[1] == where.shape[2] >= 3
    assert torch.isfinite(where).all()


@torch.inference_mode()
def test_contrastive_vectors_have_norm_one_row_by_row():
    model = contrastive.build(TINY).eval()
    images, sounds = inputs(5)

    for vectors in (model.encode_image(images)["vector"], model.encode_audio(sounds)["vector"]):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))


@torch.inference_mode()
def test_the_heat_map_is_the_score_taken_apart():
    torch.manual_seed(0)
    model = contrastive.build(TINY).eval()
    images, sounds = inputs(4)

    V = model.encode_image(images)
    A = model.encode_audio(sounds)
    where = model.heat(V["map"], A["vector"])

    assert where.shape == (4, 14, 14)
    torch.testing.assert_close(where.mean((1, 2)), model.similarity(V["vector"], A["vector"]).diagonal())
    when = torch.einsum("bdt,bd->bt", A["map"], V["vector"])
    torch.testing.assert_close(when.mean(1), model.similarity(V["vector"], A["vector"]).diagonal())


@torch.inference_mode()
def test_a_higher_pitch_is_another_sound():
    """Where energy stands in the spectrum must reach the vector: a plain convolution can't tell."""
    torch.manual_seed(0)
    model = contrastive.build(TINY).eval()
    log_mel = torch.full((2, 64, 100), -5.0)
    log_mel[0, 10:14] = log_mel[1, 42:46] = 1.0

    low, high = model.encode_audio(log_mel)["vector"]

    assert low @ high < 0.98


@pytest.mark.parametrize("value", [-100.0, 100.0])
def test_the_temperature_comes_back_into_its_range_and_goes_on_learning(value):
    model = contrastive.build(TINY)
    clips = torch.arange(4)
    model.log_temperature.data.fill_(value)
    V, A = functional.normalize(torch.randn(2, 4, TINY.embedding), dim=2)

    model.loss(V, A, Steps(clips, clips, clips, *torch.zeros(2, 4))).backward()

    assert TEMPERATURE_RANGE[0] - 1e-6 < model.temperature.item() < TEMPERATURE_RANGE[1] + 1e-6
    assert model.log_temperature.grad != 0


def test_a_profile_that_lacks_something_is_refused_with_the_one_to_build():
    needs = contrastive.needs(contrastive.Config(frame_px=224))

    with pytest.raises(ValueError, match=r"frame_short_side_px 128 < 224.*profile 'standard'"):
        needs.check(Profile(), "contrastive")
    needs.check(Profile("standard", frame_short_side_px=256), "contrastive")
    with pytest.raises(ValueError, match="sample_rate_hz 48000 instead of 16000"):
        needs.check(Profile("seed", frame_short_side_px=256, sample_rate_hz=48_000), "contrastive")


def test_what_counts_time_in_frames_asks_for_exactly_their_rate():
    film = PROFILES["video"]

    sync.needs(sync.Config()).check(film, "sync")
    with pytest.raises(
        ValueError, match=r"frame_rate_hz 30.0 instead of 25; build a version with profile 'video'"
    ):
        sync.needs(sync.Config()).check(replace(film, frame_rate_hz=30.0), "sync")


def test_unknown_models_and_settings_are_refused():
    with pytest.raises(ValueError, match=r"no model 'resent'.*contrastive"):
        models.load("resent")
    with pytest.raises(ValueError, match="no setting breadth"):
        models.configure("contrastive", {"breadth": 3})
    assert models.configure("contrastive", {"image_blocks": [1, 1]}).image_blocks == (1, 1)


@torch.no_grad()
@pytest.mark.parametrize("evaluation", [correspondence.evaluate, retrieval.evaluate])
def test_sounds_of_another_rate_than_it_was_trained_on_are_refused_with_both(dataset, evaluation):
    model = l3.build(l3.PRESETS["spectrogram"]).eval()

    with pytest.raises(
        ValueError, match=r"takes sample_rate_hz 48000, and profile '\w+' of this version has 16000"
    ):
        evaluation(model, dataset)


@torch.no_grad()
def test_so_does_the_search_for_offsets(dataset):
    model = sync.build(sync.Config()).eval()
    model.front_end = LogSpectrogram(48_000)

    with pytest.raises(ValueError, match="takes sample_rate_hz 48000"):
        synchrony.find_offsets(model, dataset, np.zeros((1, 1)))
