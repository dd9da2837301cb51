"""Which labels a category stands for: itself and, where AudioSet's ontology is at hand, all below it."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from training.data import Dataset

ONTOLOGY = "ontology.json"  # as AudioSet publishes it: a list of {id, name, child_ids}


def machine_ids(
    categories: Sequence[str], labels: Mapping[str, tuple[int, str]], folder: Path
) -> frozenset[str]:
    """The labels of categories given by name or machine id, with their subtrees by the ontology in `folder`.

    Raises ValueError for a category that neither the label table nor the ontology has.
    """
    path = folder / ONTOLOGY
    nodes = {node["id"]: node for node in json.loads(path.read_text())} if path.is_file() else {}
    names = {name: mid for mid, (_, name) in labels.items()} | {n["name"]: mid for mid, n in nodes.items()}
    found: set[str] = set()
    waiting = [names.get(category, category) for category in categories]
    for mid in waiting:
        if mid not in nodes and mid not in labels:
            raise ValueError(f"no label or category {mid!r}; there are {', '.join(sorted(names))}")
    while waiting:
        mid = waiting.pop()
        if mid not in found:
            found.add(mid)
            waiting += nodes.get(mid, {}).get("child_ids", [])
    return frozenset(found)


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
