"""Offsets: of the right sign and size, found by what moves and what begins."""

from dataclasses import replace

import avc_fixtures as shards
import film_fixtures as films
import numpy as np
import pytest
import torch

from training.evaluation import synchrony
from training.learning.state import BEST
from training.learning.validation import loss_of
from training.loop import TrainConfig, train
from training.models import load_model, sync
from training.networks import offsets
from training.networks.embeddings import embed, hear_moved
from training.reading.dataset import open_dataset
from training.reading.decoding import load_batch
from training.reading.negatives import Negatives, Steps
from training.reading.sampling import View, even_plan

SMALL = sync.Config(width=8, embedding=16, frame_px=56)


def write_films(root, num_videos: dict[str, int], *, is_foreign: bool = False):
    """Films with their own clicks, or with those of other moments."""
    clips = []
    seed = 0
    for split, count in num_videos.items():
        for number in range(count):
            at = films.moments(seed)
            seed = seed + 1
            content = films.film(seed, at)
            at = films.moments(seed + 1000) if is_foreign else at
            clips.append(
                shards.SyntheticClip(
                    f"{split}{number}", split, ["/jump"], np.zeros(0), films.clicks(seed, at), film=content
                )
            )
    return open_dataset(root, shards.write_dataset(root, clips, profile=films.FILM))


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    return write_films(tmp_path_factory.mktemp("films"), {"train": 6, "val": 2, "eval": 2})


def test_frames_out_of_a_film_are_those_that_were_asked_for(filmed):
    clips = filmed.split("eval")
    whole = list(clips.frames(0, range(250)))

    for first in (0, 1, 24, 25, 26, 137, 240):
        part = list(clips.frames(0, range(first, first + 10)))
        assert len(part) == 10
        for one, other in zip(part, whole[first : first + 10], strict=True):
            np.testing.assert_array_equal(one, other)
    assert whole[0].shape == (64, 96, 3)
    with pytest.raises(ValueError, match="has no frame 250"):
        list(clips.frames(0, range(248, 252)))


def test_frames_of_a_film_are_made_as_small_as_is_asked_and_no_larger(filmed):
    clips = filmed.split("eval")
    whole, half, more = (next(clips.frames(0, range(30, 31), side_px)) for side_px in (0, 32, 128))

    assert half.shape == (32, 48, 3)
    means = whole.reshape(32, 2, 48, 2, 3).mean((1, 3))
    assert np.abs(half - means).mean() < 3, "each pixel is the mean of what it stands for"
    np.testing.assert_array_equal(more, whole)
    np.testing.assert_array_equal(clips.frame(0, 30, 32), half)


def test_a_step_of_a_film_shows_a_jump_where_its_sound_clicks(filmed):
    """Flash and beep: units of time, from the file's clock to the batch."""
    clips = filmed.split("eval")
    view = View(56, 50, sound_ms=2000)
    batch = load_batch(clips, even_plan(clips, np.array([0]), 1, view), view)

    change = np.abs(np.diff(batch.frames[0].float().numpy(), axis=0)).mean((1, 2, 3))
    rise = np.clip(np.diff(batch.sound[0].mean(0).numpy()), 0, None)
    jumps = 1 + np.flatnonzero(change > 0.5 * change.max())
    begins = np.flatnonzero(rise > 0.5 * rise.max())

    assert len(jumps) >= 2
    for jump in jumps:
        assert np.abs(begins / 4 - jump - 0.5).min() < 1.5  # four columns of log-mel a frame


def impulses(model, lag: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of one event, heard `lag` moments after it is seen."""
    v, a = torch.zeros(2, 1, model.embedding, 150)
    v[0, :, 75] = 1.0
    a[0, :, 75 + lag] = 1.0
    return v.flatten(1), a.flatten(1)


@pytest.mark.parametrize("lag", [-50, -37, 0, 13, 50])
def test_a_late_sound_has_a_positive_offset(lag):
    model = sync.build(SMALL)

    curve = model.curve(*impulses(model, lag)) * 100

    offset_ms, confidence = offsets.offsets_ms(curve)
    assert curve.shape == (1, 101) and curve.argmax() - 50 == lag
    assert offset_ms.item() == pytest.approx(40.0 * lag, abs=41)  # the ends have one neighbour only
    assert confidence.item() > 0.9


def test_the_classes_share_the_lags_and_keep_all_probability():
    curves = torch.randn(4, 101, generator=torch.Generator().manual_seed(0))

    classes = offsets.offset_classes(curves)

    assert classes.shape == (4, 21)
    torch.testing.assert_close(classes.exp().sum(1), torch.ones(4))
    p = curves.softmax(1)
    torch.testing.assert_close(classes.exp()[:, 10], p[:, 48:53].sum(1))
    torch.testing.assert_close(classes.exp()[:, 0], p[:, :3].sum(1))


def test_the_parabola_finds_the_peak_between_two_lags():
    lags = torch.arange(-50, 51)
    curve = -((lags - 7.3) ** 2) / 8

    assert offsets.offsets_ms(curve[None])[0].item() == pytest.approx(7.3 * 40, abs=0.01)


def test_the_confidence_is_that_of_the_class_where_the_peak_is():
    curve = torch.full((1, 101), -20.0)
    # A peak, and elsewhere more probability in all
    curve[0, 10] = 3.0
    curve[0, 88:93] = 2.0

    offset_ms, confidence = offsets.offsets_ms(curve)

    assert offset_ms.item() == pytest.approx(-1600, abs=20)
    assert confidence.item() == pytest.approx(curve.softmax(1)[0, 8:13].sum().item())


def test_the_target_is_where_the_sound_was_moved_to():
    """A window of sound from 480 ms later has everything 480 ms, twelve lags, earlier."""
    model = sync.build(SMALL)
    model.log_scale.data.fill_(8.0)
    steps = Steps(*torch.zeros(3, 1), torch.tensor([5000.0]), torch.tensor([5480.0]))

    losses = {lag: model.loss(*impulses(model, lag), steps).item() for lag in (-12, 0, 12)}

    assert losses[-12] < min(losses[0], losses[12])
    assert model.chance_loss(steps) == pytest.approx(np.log(101))


@torch.inference_mode()
def test_shapes_and_size():
    model = sync.build(sync.Config()).eval()

    V = model.encode_image(torch.rand(2, 150, 3, 56, 56))
    A = model.encode_audio(torch.randn(2, 64, 600))

    assert V["vector"].shape == A["vector"].shape == (2, 32 * 150)
    assert V["vector"].unflatten(1, (32, 150)).square().sum(1).mean(1) == pytest.approx(1, abs=1e-4)


RUN = TrainConfig(
    **(sync.TRAINING_OVERRIDES | {"sampling": replace(sync.TRAINING_OVERRIDES["sampling"], clips_per_batch=3)}),
    steps=6, seconds=None, num_validations=2, ema_decay=0.5, num_threads=1, precision="float32",
)  # fmt: skip


def test_validation_moves_sounds_as_training_does_and_keeps_the_best_by_its_loss(filmed, tmp_path):
    told = list(train(filmed, "sync", SMALL, replace(RUN, num_validations=3), tmp_path))

    model = load_model(tmp_path / BEST)
    clips = filmed.split("val")
    moving = replace(sync.TRAINING_OVERRIDES["sampling"], view=model.view)
    still = embed(model, clips, 3)
    moved = hear_moved(model, clips, still, moving)
    late_ms = moved.heard_ms - moved.seen_ms
    assert (still.heard_ms == still.seen_ms).all()
    assert late_ms.abs().max() > 200 and len(late_ms.unique()) > 3
    losses = [metrics["val_loss"] for metrics in told if "val_loss" in metrics]
    assert loss_of(model, moved_val(model, clips), Negatives()) == pytest.approx(min(losses), rel=1e-4)


def moved_val(model, clips):
    """The clips of a validation, in its order."""
    moving = replace(sync.TRAINING_OVERRIDES["sampling"], view=model.view)
    order = np.random.default_rng(RUN.seed).permutation(len(clips))
    clips = clips.take(order)
    return hear_moved(model, clips, embed(model, clips, sync.TRAINING_OVERRIDES["validation_steps"]), moving)


def test_sync_finds_offsets_of_films_it_has_not_seen(filmed, tmp_path):
    for _ in train(filmed, "sync", SMALL, RUN, tmp_path):
        pass

    found = synchrony.evaluate(load_model(tmp_path / "best.pt"), filmed)

    assert found.within_120_ms.value > 0.8 > 10 * found.within_120_ms.chance
    assert found.within_one_class.value > 0.8


def test_clips_are_asked_with_the_offsets_that_they_have_room_for(filmed):
    # Sees 6 s
    model = sync.build(sync.Config())
    eval_clips = filmed.split("eval")

    def asked(valid_ms):
        table = replace(eval_clips.clips, valid_ms=np.full(len(eval_clips), valid_ms))
        return synchrony._with_offsets(replace(eval_clips, clips=table), model.view, 3, 0)

    whole = asked(10_000)
    nearly = asked(9_999)
    shorter = asked(8_000)
    np.testing.assert_array_equal(whole[1], _first_draws(len(eval_clips), 3))
    assert len(nearly[0]) == len(shorter[0]) == len(eval_clips) == 2
    assert nearly[1].min() > -10 and np.abs(shorter[1]).max() <= 5
    assert len(asked(6_100)[0]) == 0


def _first_draws(num_clips: int, num_offsets: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(21)[:num_offsets] - 10 for _ in range(num_clips)])


def test_without_a_clip_to_ask_the_answer_is_none(filmed):
    found = synchrony.evaluate(sync.build(SMALL), filmed.take(np.zeros(0, int)))

    assert found.to_json() == {"question": "synchrony", "num_clips": 0}


def test_where_sounds_are_of_other_moments_there_is_no_offset_to_find(tmp_path):
    foreign = write_films(tmp_path, {"train": 4, "val": 2, "eval": 6}, is_foreign=True)
    for _ in train(foreign, "sync", SMALL, replace(RUN, steps=2), tmp_path / "run"):
        pass

    found = synchrony.evaluate(load_model(tmp_path / "run" / "best.pt"), foreign)

    assert found.within_120_ms.value < 0.4
