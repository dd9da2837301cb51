"""Evaluations: fixed balanced pairs, honest thresholds, numbers with their chance."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from avc_fixtures import TINY, corresponding, written
from costs import multiply_adds

from schemas.feature import PROFILES
from training.evaluation import EvaluationOptions, correspondence, retrieval, steps_a_clip
from training.evaluation.correspondence import judge, shortcut_probes
from training.models import contrastive, l3, load_model
from training.networks import embeddings as embedding
from training.networks.embeddings import Embeddings
from training.reading.pairs import PairConfig, Pairs, derangement, make_pairs, shifted_pairs
from training.reading.sampling import View


def embeddings(image: np.ndarray, audio: np.ndarray, videos: np.ndarray | None = None) -> Embeddings:
    count, num_steps = image.shape[:2]
    videos = np.arange(count) if videos is None else videos
    tensors = [
        torch.nn.functional.normalize(torch.tensor(x, dtype=torch.float32), dim=-1) for x in (image, audio)
    ]
    frames = np.zeros((count, num_steps), int)
    classes = np.full(count, -1)
    return Embeddings(*tensors, np.arange(count), videos, classes, frames, *torch.zeros(2, count, num_steps))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def model():
    model = contrastive.build(TINY).eval()
    model.calibration.copy_(torch.tensor([10.0, -5.0]))
    return model


@pytest.mark.parametrize("counts", [[1] * 9, [3, 1, 2, 2], [5, 1, 1], [2, 2], [1, 4, 4, 1]])
def test_a_derangement_never_gives_a_clip_its_own_video(counts, rng):
    videos = rng.permutation(np.repeat(np.arange(len(counts)), counts))

    partner = derangement(videos, rng)

    paired = partner >= 0
    assert (videos[partner[paired]] != videos[paired]).all()
    assert sorted(partner[paired]) == np.flatnonzero(paired).tolist()
    assert paired.sum() >= 2 * min(max(counts), sum(counts) - max(counts))


def test_pairs_are_balanced_in_every_picture_and_every_sound(rng):
    videos = np.arange(30)
    kinds = np.repeat(np.arange(10), 3)

    pairs = make_pairs(videos, kinds, PairConfig(num_steps=3))

    assert len(pairs) == 2 * 30 * 3
    own = pairs.image_rows == pairs.audio_rows
    np.testing.assert_array_equal(own, pairs.labels)
    np.testing.assert_array_equal(kinds[pairs.image_rows], kinds[pairs.audio_rows])
    for rows in (pairs.image_rows, pairs.audio_rows):
        positives = sorted(zip(rows[pairs.labels], pairs.steps[pairs.labels], strict=True))
        assert positives == sorted(zip(rows[~pairs.labels], pairs.steps[~pairs.labels], strict=True))


def test_clips_without_another_of_their_kind_are_left_out():
    pairs = make_pairs(np.arange(4), np.array([0, 0, 1, 2]), PairConfig(num_steps=1))

    assert set(pairs.image_rows) == {0, 1}
    assert len(make_pairs(np.arange(2), np.array([0, 1]), PairConfig())) == 0


def test_perfect_vectors_are_judged_perfect_and_random_ones_at_chance(model, rng):
    vectors, other = rng.normal(size=(2, 80, 2, 32))
    pairs = make_pairs(np.arange(80), np.zeros(80), PairConfig(num_steps=2))

    perfect = judge(model, embeddings(vectors, vectors), pairs)
    ignorant = judge(model, embeddings(vectors, other), pairs)

    assert perfect.auc.value == 1.0 and perfect.accuracy.value == 1.0
    assert perfect.clip_accuracy.value == 1.0
    assert ignorant.auc.low < 0.5 < ignorant.auc.high


def test_the_threshold_is_the_models_and_not_the_evaluations(model, rng):
    vectors = rng.normal(size=(50, 1, 32))
    pairs = make_pairs(np.arange(50), np.zeros(50), PairConfig(num_steps=1))
    model.calibration.copy_(torch.tensor([10.0, 50.0]))  # says yes to everything

    result = judge(model, embeddings(vectors, vectors), pairs)

    assert result.auc.value == 1.0
    assert result.accuracy.value == 0.5


def test_probes_of_one_side_know_nothing(rng):
    encoded = embeddings(rng.normal(size=(60, 3, 16)), rng.normal(size=(60, 3, 16)))
    pairs = make_pairs(encoded.videos, np.zeros(60), PairConfig(num_steps=3))

    probes = shortcut_probes(encoded, pairs)

    for estimate in (probes.frame_only, probes.audio_only):
        assert estimate.value == pytest.approx(0.5)


def test_probes_show_a_sampler_that_treats_the_classes_differently(rng):
    encoded = embeddings(rng.normal(size=(100, 2, 16)), rng.normal(size=(100, 2, 16)))
    encoded.audio[:, 1] += 0.5 * torch.arange(16) / 16  # the second step's sound is recognisable
    fair = make_pairs(encoded.videos, np.zeros(100), PairConfig(num_steps=2))
    unfair = Pairs(
        fair.image_rows, fair.audio_rows, fair.steps, fair.labels, np.where(fair.labels, fair.steps, 1)
    )

    assert shortcut_probes(encoded, unfair).audio_only.low > 0.55
    assert shortcut_probes(encoded, unfair).frame_only.value > 0.45


def test_probes_of_long_vectors_look_at_a_few_numbers_of_them(rng):
    encoded = embeddings(*rng.normal(size=(2, 40, 2, 5000)))
    encoded.audio[:, 1] += 0.02
    fair = make_pairs(encoded.videos, np.zeros(40), PairConfig(num_steps=2))
    unfair = replace(fair, audio_steps=np.where(fair.labels, fair.steps, 1))

    assert correspondence.narrowed(encoded.audio.numpy()).shape == (40, 2, 256)
    assert shortcut_probes(encoded, unfair).audio_only.low > 0.55


def test_shifted_pairs_are_of_one_clip_and_far_apart(model, rng):
    encoded = embeddings(rng.normal(size=(20, 5, 32)), rng.normal(size=(20, 5, 32)))
    encoded.seen_ms[:] = 1000.0 * torch.arange(5)
    encoded.seen_ms[7] = 300.0 * torch.arange(5)

    pairs = shifted_pairs(encoded.seen_ms.numpy(), np.arange(2, 20), PairConfig(tolerance_ms=1500.0))
    later = replace(encoded, audio=encoded.image)  # what is heard is what is seen, and each second differs

    assert set(pairs.image_rows) == set(range(2, 20)) - {7}
    np.testing.assert_array_equal(pairs.image_rows, pairs.audio_rows)
    apart_ms = np.abs(pairs.steps - pairs.audio_steps) * 1000.0
    assert (apart_ms[~pairs.labels] >= 1500.0).all() and (apart_ms[pairs.labels] == 0).all()
    for steps in (pairs.steps, pairs.audio_steps):  # neither side tells
        np.testing.assert_array_equal(np.bincount(steps[pairs.labels]), np.bincount(steps[~pairs.labels]))
    assert judge(model, later, pairs).auc.value > 0.99
    assert not len(shifted_pairs(encoded.seen_ms.numpy(), np.arange(20), PairConfig(tolerance_ms=9000.0)))


def test_of_early_fusion_a_hundred_clips_are_ranked(dataset):
    many = dataset.take(np.zeros(300, int))

    assert len(retrieval.drawn(many, retrieval.MAX_FUSED)) == 100
    assert retrieval.drawn(many, retrieval.MAX_CLIPS) is many


def test_correspondence_reports_every_number_with_interval_and_chance(dataset, trained):
    held_out = frozenset({"/kind/1", "/kind/2"})

    result = correspondence.evaluate(
        load_model(trained), dataset, EvaluationOptions(held_out=held_out)
    ).to_json()

    assert json.loads(json.dumps(result)) == result
    assert result["num_clips"] == 16 and result["num_pairs"] == 2 * 16 * 5
    for part in (result["random"], result["same_group"], result["held_out"]["random"]):
        assert part["auc"]["low"] <= part["auc"]["value"] <= part["auc"]["high"]
        assert part["auc"]["chance"] == 0.5
    assert result["held_out"]["random"]["num_clips"] == 8
    assert result["shifted"]["num_clips"] == 16 and result["shifted"]["auc"]["chance"] == 0.5
    # Knowing the kind alone: always right where kinds differ, and a coin where they are the same.
    assert result["family_oracle"]["same_group"] == 0.5 < result["family_oracle"]["random"] <= 1.0
    assert [row["group"] for row in result["per_group"]] == [f"/kind/{k}" for k in (0, 3, 4, 5)]
    # Clips of one kind are alike but for noise: nothing to tell within a group, much between groups.
    assert result["same_group"]["auc"]["low"] < 0.55 < result["random"]["auc"]["low"]


def test_an_evaluation_of_nothing_is_refused(dataset, trained):
    everything = frozenset(f"/kind/{k}" for k in range(6))

    with pytest.raises(ValueError, match="split 'eval' has 0 usable video"):
        correspondence.evaluate(load_model(trained), dataset, EvaluationOptions(held_out=everything))


def test_the_evaluation_digest_names_pairs_and_data(dataset, trained, tmp_path):
    model = load_model(trained)

    def digest(data, **changes):
        return correspondence.evaluate(model, data, config=PairConfig(2, **changes)).evaluation_digest

    assert digest(dataset) == digest(dataset)
    assert digest(dataset) != digest(dataset, seed=1)
    assert digest(dataset) != digest(written(tmp_path, corresponding({"train": 2, "val": 2, "eval": 6})))


def test_a_perfect_retrieval_and_one_at_chance(rng):
    scores = rng.normal(size=(200, 200))

    perfect = retrieval.recalls(scores + 100 * np.eye(200), np.arange(200))
    ignorant = retrieval.recalls(scores, np.arange(200))

    assert perfect.recall_at_1.value == 1.0 and perfect.median_rank.value == 1.0
    assert ignorant.recall_at_10.chance == pytest.approx(10 / 200)
    assert ignorant.recall_at_10.low <= 10 / 200 <= ignorant.recall_at_10.high
    assert ignorant.median_rank.chance == pytest.approx(100.5)


def test_a_model_that_scores_all_alike_ranks_at_chance():
    result = retrieval.recalls(np.ones((99, 99)), np.arange(99))

    assert result.median_rank.value == 50.0
    assert result.recall_at_10.value == 0.0


def test_retrieval_within_a_group_has_only_its_members_to_choose_from(rng):
    groups = np.repeat(np.arange(10), 4)
    scores = rng.normal(size=(40, 40)) + 50 * (groups[:, None] != groups[None])

    everywhere = retrieval.recalls(scores, np.arange(40))
    within = retrieval.recalls(scores, np.arange(40), allowed=groups[:, None] == groups[None])

    assert everywhere.recall_at_10.value == 0.0
    assert within.recall_at_5.value == 1.0 and within.mean_candidates == 4.0
    assert within.recall_at_1.chance == 0.25


def test_other_clips_of_the_same_video_do_not_compete(rng):
    videos = np.repeat(np.arange(20), 2)
    same = videos[:, None] == videos[None]

    result = retrieval.recalls(np.where(same & ~np.eye(40, dtype=bool), 9.0, np.eye(40)), videos)

    assert result.recall_at_1.value == 1.0 and result.mean_candidates == 39.0


def test_a_clips_score_is_the_mean_over_its_own_steps(model, rng):
    image, audio = rng.normal(size=(2, 4, 3, 32))
    encoded = embeddings(image, audio)

    scores = embedding.clip_scores(model, encoded)

    expected = np.mean([encoded.image[1, s] @ encoded.audio[2, s] for s in range(3)]) * 10 - 5
    assert scores[1, 2] == pytest.approx(expected, abs=1e-4)


@torch.inference_mode()
def test_a_pair_costs_a_pair_and_a_matrix_is_made_in_blocks(rng, monkeypatch):
    """L3-Net's judge has its hidden units of every pair: 300 x 300 x 128 would be made at once."""
    judge_of_sums = l3.build(l3.Config()).eval()
    encoded = embeddings(*rng.normal(size=(2, 300, 1, 128)))
    pairs = make_pairs(np.arange(300), np.zeros(300), PairConfig(num_steps=1))

    logits, macs = multiply_adds(correspondence.score_pairs, judge_of_sums, encoded, pairs)
    scores = embedding.clip_scores(judge_of_sums, encoded)
    monkeypatch.setattr(embedding, "PICTURES_AT_ONCE", 7)

    assert macs == len(pairs) * 128
    np.testing.assert_allclose(logits, scores[pairs.image_rows, pairs.audio_rows], atol=1e-4)
    np.testing.assert_allclose(embedding.clip_scores(judge_of_sums, encoded), scores, atol=1e-5)


def test_retrieval_of_a_trained_model_beats_chance(dataset, trained):
    result = retrieval.evaluate(load_model(trained), dataset).to_json()

    assert json.loads(json.dumps(result)) == result
    for direction in ("image_to_audio", "audio_to_image"):
        assert result[direction]["recall_at_10"]["low"] > result[direction]["recall_at_10"]["chance"]
        assert result[direction]["within_group"]["mean_candidates"] == 4.0


@pytest.mark.parametrize(("sound_ms", "num_steps"), [(1000, 5), (2140, 4), (6000, 1), (12_000, 1)])
def test_a_clip_is_asked_with_steps_that_lie_side_by_side(sound_ms, num_steps):
    assert steps_a_clip(PROFILES["video"], View(sound_ms=sound_ms)) == num_steps
