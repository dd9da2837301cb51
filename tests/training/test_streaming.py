"""One iterator over local and remote shards: the same clips, equal batches, an order that nothing else changes."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import avc_fixtures as shards
import numpy as np
import pytest
import torch
from avc_fixtures import SHORT_RUN, TINY
from hypothesis import given, settings
from hypothesis import strategies as st
from real_servers import answering

from training.evaluation import correspondence, retrieval
from training.loop import train
from training.models import load_model
from training.reading import sampling
from training.reading.dataset import Dataset, open_dataset
from training.reading.decoding import load_batch, needed
from training.reading.sampling import Epoch, Sampling, Share, View
from training.reading.streaming import batches
from training.report.gallery import show

SAMPLING = Sampling(clips_per_batch=4, steps_per_clip=2)
VIEW = View()


class _Ranges(SimpleHTTPRequestHandler):
    """Answers one byte range, as hosts of files do and Python's own server does not."""

    disable_nagle_algorithm = True
    has_ranges = True

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        """A file, or the part of it that is asked for."""
        asked = self.headers.get("Range")
        if asked is None or not self.has_ranges:
            return super().do_GET()
        content = Path(self.translate_path(self.path)).read_bytes()
        first, last = (int(place) for place in asked.removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        return None


class _NoRanges(_Ranges):
    has_ranges = False


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """45 training clips in 7 tars, so that neither clips nor tars can be shared evenly."""
    root = tmp_path_factory.mktemp("root")
    clips = shards.corresponding({"train": 45, "val": 9, "eval": 9})
    return root, shards.write_dataset(root, clips, clips_per_shard=7)


@pytest.fixture(scope="module", params=["file", "http", "http without ranges"])
def remote(request, root) -> Iterator[Dataset]:
    folder, version = root
    if request.param == "file":
        yield open_dataset(f"file://{folder}", version)
        return
    handler = _Ranges if request.param == "http" else _NoRanges
    with answering(partial(handler, directory=str(folder))) as url:
        yield open_dataset(url, version)


@pytest.fixture(scope="module")
def streamed(root) -> Dataset:
    folder, version = root
    return open_dataset(f"file://{folder}", version)


@pytest.fixture(scope="module")
def local(root) -> Dataset:
    return open_dataset(*root)


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


def test_a_streamed_batch_is_what_random_access_gives(remote, local):
    clips = remote.split("train")
    epoch = Epoch(clips, SAMPLING, 0, 0)

    made = list(batches(epoch))

    assert len(made) == 45 // 4
    for batch, plan in zip(made, epoch, strict=True):
        assert same(batch, load_batch(local.split("train"), plan, VIEW))


def test_single_members_of_a_remote_clip_are_read_by_range(remote, local):
    for row in (0, len(local) - 1):
        np.testing.assert_array_equal(remote.wave(row), local.wave(row))
        some = slice(1000, 17_000)
        np.testing.assert_array_equal(remote.wave(row, some), local.wave(row)[:, some])
        np.testing.assert_array_equal(local.wave(row, some), local.wave(row)[:, some])
        np.testing.assert_array_equal(remote.log_mel(row), local.log_mel(row))
        np.testing.assert_array_equal(remote.frame(row, 9), local.frame(row, 9))


@pytest.mark.parametrize("source", ["local", "streamed"])
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_the_order_does_not_depend_on_the_number_of_threads(source, num_threads, request):
    epoch = Epoch(request.getfixturevalue(source).split("train"), SAMPLING, 1, 2)

    alone = list(batches(epoch, 0))
    together = list(batches(epoch, num_threads))

    assert len(alone) == len(together) == 11
    assert all(same(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("source", ["local", "streamed"])
def test_an_epoch_is_taken_up_in_its_middle(source, request):
    clips = request.getfixturevalue(source).split("train")
    whole = list(batches(Epoch(clips, SAMPLING, 0, 0)))

    rest = list(batches(Epoch(clips, SAMPLING, 0, 0, Share(start_step=7)), 2))
    nothing = list(batches(Epoch(clips, SAMPLING, 0, 0, Share(start_step=11))))

    assert len(rest) == 4 and nothing == []
    assert all(same(one, other) for one, other in zip(whole[7:], rest, strict=True))


@pytest.mark.parametrize("source", ["local", "streamed"])
@settings(max_examples=30)
@given(
    num_clips=st.integers(8, 45),
    world_size=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_ranks_have_as_many_batches_and_no_clip_in_common(request, source, num_clips, world_size, seed, data):
    dataset = request.getfixturevalue(source).split("train")
    rows = data.draw(st.permutations(range(45)))[:num_clips]
    clips = dataset.take(np.array(rows))

    ranks = [Epoch(clips, SAMPLING, seed, 0, Share(rank, world_size)).rows for rank in range(world_size)]

    assert len({len(rows) for rows in ranks}) == 1
    assert sum(rows.shape[1] for rows in ranks) == 4
    seen = np.concatenate([rows.ravel() for rows in ranks])
    assert len(set(seen.tolist())) == len(seen)
    assert len(seen) > num_clips - 4  # what is left over is less than a batch


def test_two_ranks_stream_different_clips_of_an_odd_number_of_tars(streamed):
    clips = streamed.split("train")
    epochs = [Epoch(clips, SAMPLING, 0, 0, Share(rank, 2)) for rank in (0, 1)]

    videos = [torch.cat([batch.videos for batch in batches(epoch)]).tolist() for epoch in epochs]

    assert len(videos[0]) == len(videos[1]) == 11 * 2 * 2
    assert not set(videos[0]) & set(videos[1])


def test_a_rank_reads_its_own_tars_and_at_most_one_of_another(streamed):
    clips = streamed.split("train")
    tars = [
        set(clips.clips.shard[Epoch(clips, SAMPLING, 0, 0, Share(rank, 2)).rows].ravel()) for rank in (0, 1)
    ]

    assert len(tars[0] | tars[1]) == 7
    assert len(tars[0] & tars[1]) <= 1


def test_more_ranks_than_clips_are_refused(local):
    with pytest.raises(ValueError, match="shared by 5 ranks"):
        Epoch(local, SAMPLING, 0, 0, Share(0, 5))
    with pytest.raises(ValueError, match="out of 1 clips"):
        Epoch(local.take(np.array([0])), SAMPLING, 0, 0, Share(0, 2))


def test_streamed_clips_are_shuffled_across_thousands(streamed):
    many = streamed.take(np.zeros(20_000, np.int64))
    many.clips.offset[:, 0] = np.arange(20_000)

    order = Epoch(many, SAMPLING, 0, 0).rows.ravel()

    moved = np.abs(order - np.arange(len(order)))
    assert moved.mean() > 1_000 and moved.max() <= sampling.SPREAD_CLIPS
    waiting = [np.sum(order[at:] < order[:at].max()) for at in (8_000, 12_000)]
    assert min(waiting) > 2_000  # as if drawn from a buffer of as many


def test_tars_come_in_another_order_in_each_epoch(streamed, monkeypatch):
    monkeypatch.setattr(sampling, "SPREAD_CLIPS", 1)
    clips = streamed.split("train")

    first, second, again = (clips.clips.shard[Epoch(clips, SAMPLING, 3, n).rows.ravel()] for n in (0, 1, 0))

    assert (first == again).all() and (first != second).any()
    assert (np.diff(first) != 0).sum() == 6  # each tar is read once, from end to end


def test_only_members_that_a_step_shows_are_kept(streamed):
    clips = streamed.split("train")
    epoch = Epoch(clips, SAMPLING, 0, 0)
    plan = epoch.plan(0)

    held = clips.holding(needed(clips, plan, VIEW))

    assert held.frame(plan.rows[0], plan.frames[0]).shape == (128, shards.WIDTH_PX, 3)
    with pytest.raises(KeyError):
        held.wave(plan.rows[0])


def test_a_tar_that_lacks_a_clip_is_named(tmp_path, root):
    _, version = root
    clips = shards.corresponding({"train": 8})
    version = shards.write_dataset(tmp_path, clips, clips_per_shard=4)
    cut = tmp_path / "shards" / f"{version.shards[1].name}.tar"
    cut.write_bytes(b"\0" * 10_240)

    with pytest.raises(ValueError, match=f"{version.shards[1].name}.tar lacks clips"):
        list(batches(Epoch(open_dataset(f"file://{tmp_path}", version), SAMPLING, 0, 0)))


def test_a_reader_that_stops_early_leaves_no_thread(streamed):
    from threading import active_count

    before = active_count()
    made = batches(Epoch(streamed.split("train"), SAMPLING, 0, 0), 3)

    next(made)
    assert active_count() > before
    made.close()

    assert active_count() == before


def test_training_evaluation_and_gallery_work_from_a_url(remote, tmp_path):
    told = list(train(remote, "contrastive", TINY, SHORT_RUN, tmp_path))
    model = load_model(tmp_path / "best.pt")

    assert [metrics["step"] for metrics in told] == [1, 2, 3, 4] and "val_auc" in told[-1]
    assert correspondence.evaluate(model, remote).num_clips == 9
    assert retrieval.evaluate(model, remote).num_clips == 9
    assert show(model, remote, None, {}).num_clips == 9


def test_evaluation_does_not_know_where_the_shards_lie(remote, local, trained):
    model = load_model(trained)

    assert correspondence.evaluate(model, remote) == correspondence.evaluate(model, local)
