"""Which clips of a version a training is given: those of chosen labels, or a share of them."""

from collections.abc import Collection

import numpy as np

from training.data import Dataset


def with_labels(dataset: Dataset, mids: frozenset[str], splits: Collection[str]) -> Dataset:
    """The clips that have one of these labels, of `splits`; the other splits stay whole."""
    split = dataset.clips.names["split"].to_pylist()
    kept = [
        split[row] not in splits or not mids.isdisjoint(dataset.labels(row)) for row in range(len(dataset))
    ]
    return dataset.take(np.flatnonzero(kept))


def thinned(dataset: Dataset, share: float) -> Dataset:
    """A share of the training videos, and all of the other splits; a larger share holds a smaller one."""
    is_train = dataset.clips.names["split"].to_numpy(zero_copy_only=False) == "train"
    videos = np.unique(dataset.videos[is_train])
    kept = np.random.default_rng(0).permutation(videos)[: max(2, round(share * len(videos)))]
    return dataset.take(np.flatnonzero(~is_train | np.isin(dataset.videos, kept)))
