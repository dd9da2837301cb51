"""The batches of an epoch, from local or from remote shards, in the same order with any number of threads.

Remote tars are read from end to end by webdataset, each thread its own tars. The steps of a clip are planned before its
bytes arrive, so only the frames that they show are kept while the clip waits for its turn.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
from webdataset.tariterators import group_by_keys, tar_file_expander

from schemas.errors import DataError
from training.reading.decoding import Batch, load_batch, needed
from training.reading.sampling import Epoch
from training.reading.shards import HeldShards, Place, RemoteShards

REMOTE_THREADS = 2  # one parses a tar while another waits for its host
CLIPS_AHEAD = 64  # for each thread that reads tars
BATCHES_AHEAD = 2
PLANS_KEPT = 4096  # more than the steps that the clips of a few tars belong to

T = TypeVar("T")
MemberBytes = dict[Place, bytes]
Feed = Callable[[], T]  # gives the next item, raises StopIteration after the last


def batches(epoch: Epoch, num_threads: int | None = None) -> Generator[Batch, None, None]:
    """The batches of `epoch`, decoded, in the order of its steps.

    `num_threads` work ahead: on local shards each makes whole batches (default: none, which costs a CPU
    training least), on remote shards each reads its own tars (default: REMOTE_THREADS).
    """
    with ExitStack() as stack:
        if isinstance(epoch.dataset.shards, RemoteShards):
            num_threads = REMOTE_THREADS if num_threads is None else num_threads
            made = [_streamed(epoch, num_threads)]
        else:
            shares = [epoch.steps[n :: num_threads or 1] for n in range(num_threads or 1)]
            made = [_loaded(epoch, steps) for steps in shares]
        feeds = [_feed(items, BATCHES_AHEAD if num_threads else 0, stack) for items in made]
        for number in range(len(epoch.steps)):
            yield feeds[number % len(feeds)]()


def _loaded(epoch: Epoch, steps: Sequence[int]) -> Generator[Batch, None, None]:
    for step in steps:
        yield load_batch(epoch.dataset, epoch.plan(step), epoch.sampling.view)


def _streamed(epoch: Epoch, num_threads: int) -> Generator[Batch, None, None]:
    """Batches, each made when the last of its clips has arrived."""
    stream = _Stream(epoch)
    waiting = {}
    shards = stream.shards
    shares = [shards[n :: num_threads or 1] for n in range(num_threads or 1)]
    with ExitStack() as stack:
        feeds = [_feed(stream.clips(share), CLIPS_AHEAD if num_threads else 0, stack) for share in shares]
        feed_of = {shard: feed for share, feed in zip(shares, feeds, strict=True) for shard in share}
        for step in epoch.steps:
            members: MemberBytes = {}
            for row in epoch.rows[step].tolist():
                while row not in waiting:
                    arrived, content = feed_of[stream.shard_of(row)]()
                    waiting[arrived] = content
                members |= waiting.pop(row)
            held = replace(epoch.dataset, shards=HeldShards(members))
            yield load_batch(held, stream.plan(step), epoch.sampling.view)


class _Stream:
    """What the rest of an epoch needs from each tar."""

    def __init__(self, epoch: Epoch) -> None:
        self._view = epoch.sampling.view
        self._dataset = epoch.dataset
        self.plan = lru_cache(PLANS_KEPT)(epoch.plan)
        rows = epoch.rows[epoch.steps.start :].ravel()
        self._step = np.full(len(self._dataset), -1)
        self._step[rows] = np.repeat(epoch.steps, epoch.rows.shape[1])
        shard = self._dataset.clips.shard[rows]
        by_shard = np.argsort(shard, kind="stable")
        numbers, starts = np.unique(shard[by_shard], return_index=True)
        self._rows = dict(zip(numbers.tolist(), np.split(rows[by_shard], starts[1:]), strict=False))
        # In the order in which they are first needed.
        self.shards: list[int] = numbers[np.argsort(by_shard[starts])].tolist()

    def shard_of(self, row: int) -> int:
        """The number of the tar that holds clip `row`."""
        return int(self._dataset.clips.shard[row])

    def clips(self, shards: Sequence[int]) -> Generator[tuple[int, MemberBytes], None, None]:
        """(row, needed members) of the clips of these tars, in their order. Raises DataError if a clip is missing."""
        dataset = self._dataset
        remote = self._dataset.shards
        assert isinstance(remote, RemoteShards)
        for shard in shards:
            rows = {dataset.clips.names["key"][row].as_py(): row for row in self._rows[shard].tolist()}
            names = self._names(rows)
            with remote.opened(shard) as stream:
                source = {"url": remote.path(shard), "stream": stream}
                files = tar_file_expander([source], select_files=names.__contains__)
                for sample in group_by_keys(files):
                    row = rows.pop(sample["__key__"])
                    found = {s: content for s, content in sample.items() if not s.startswith("__")}
                    yield row, {dataset.place(row, suffix): content for suffix, content in found.items()}
                    if not rows:
                        break  # of a tar that another rank continues to read
            if rows:
                raise DataError(
                    f"{remote.path(shard)} lacks clips that its sidecar lists: {sorted(rows)}; publish it again"
                )

    def _names(self, rows: dict[str, int]) -> set[str]:
        """The member names that the epoch needs of these clips."""
        key_of = {row: key for key, row in rows.items()}
        plans = [self.plan(step) for step in np.unique(self._step[list(key_of)]).tolist()]
        members = (member for plan in plans for member in needed(self._dataset, plan, self._view))
        return {f"{key_of[row]}.{suffix}" for row, suffix in members if row in key_of}


def _feed(items: Generator[T, None, None], ahead: int, stack: ExitStack) -> Feed[T]:
    """The items of a generator one by one, until `stack` ends; a thread makes up to `ahead` of them in advance."""
    stack.callback(items.close)
    if not ahead:
        return items.__next__
    thread = ThreadPoolExecutor(1)
    stack.callback(thread.shutdown, cancel_futures=True)
    promised = deque(thread.submit(next, items) for _ in range(ahead))

    def next_item() -> T:
        promised.append(thread.submit(next, items))
        return promised.popleft().result()

    return next_item
