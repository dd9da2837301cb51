"""Selection: which segments of the lists get a slot, by label and by number.

Segments are taken from the head of a fixed order, the hash of the key: a larger number includes everything that a
smaller one selected.
"""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NO_LABEL = ""  # segments without a label form a separate class, such as those of one's own videos


@dataclass(frozen=True)
class Choice:
    """Which segments are selected: all, unless a field restricts them. Numbers are per training and evaluation set."""

    labels: tuple[str, ...] = ()  # names or machine ids, including all their subcategories
    per_class: int | None = None  # segments; a class may get more: a segment counts for each of its labels
    sample: int | None = None  # segments, evenly from all classes as far as they have enough

    @property
    def is_all(self) -> bool:
        """Whether every segment is taken."""
        return self == Choice()

    @property
    def is_counted(self) -> bool:
        """Whether what is taken from one list depends on the others."""
        return self.per_class is not None or self.sample is not None


def label_set(table: pa.Table) -> set[str]:
    """The labels that occur in a table of segments."""
    return set(pc.unique(pc.list_flatten(table["labels"])).to_pylist())


def chosen(table: pa.Table, choice: Choice, mids: frozenset[str]) -> pa.Table:
    """The segments of `table` (key, labels, is_eval) that `choice` selects; `mids` are the ids of its labels.

    Of rows with the same key, the first counts.
    """
    if choice.is_all:
        return table
    _, first = np.unique(table["key"].combine_chunks().dictionary_encode().indices, return_index=True)
    table = table.take(pa.array(first))
    row, label = _classes(table["labels"].combine_chunks())
    if choice.labels:
        is_wanted = pc.is_in(label, pa.array(sorted(mids), pa.string()))
        row = row[is_wanted.to_numpy(zero_copy_only=False)]
        label = label.filter(is_wanted)
    kept = _counted(table, choice, row, label) if choice.is_counted else np.unique(row)
    return table.take(pa.array(kept))


def _classes(labels: pa.ListArray) -> tuple[np.ndarray, pa.Array]:
    """(row, label) of every label of every row."""
    bare = np.flatnonzero(pc.list_value_length(labels).to_numpy() == 0)
    row = np.concatenate([pc.list_parent_indices(labels).to_numpy(), bare])
    return row, pa.concat_arrays([pc.list_flatten(labels), pa.repeat(NO_LABEL, len(bare))])


def _counted(table: pa.Table, choice: Choice, row: np.ndarray, label: pa.Array) -> np.ndarray:
    """The rows that come first in one of their classes, separately for training and evaluation."""
    is_eval = table["is_eval"].to_numpy()
    order = hashes(table["key"])
    place = np.full(table.num_rows, table.num_rows)
    np.minimum.at(place, row, _places(2 * _codes(label) + is_eval[row], order[row]))
    kept = np.unique(row)
    kept = kept[place[kept] < (choice.per_class or table.num_rows)]
    kept = kept[
        np.lexsort((order[kept], place[kept]))
    ]  # the first of every class, then the second of every class
    return np.sort(np.concatenate([kept[is_eval[kept] == one][: choice.sample] for one in (False, True)]))


def hashes(texts: pa.ChunkedArray) -> np.ndarray:
    """The first 64 bits of the SHA-1 of each text: an order that depends on nothing else."""
    names = texts.cast(pa.binary()).to_pylist()
    digests = b"".join([hashlib.sha1(name, usedforsecurity=False).digest()[:8] for name in names])
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _codes(label: pa.Array) -> np.ndarray:
    return label.dictionary_encode().indices.to_numpy().astype(np.int64)


def _places(group: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The place of each item within its group, from 0, by `order`."""
    by_group = np.lexsort((order, group))
    begins = np.r_[True, np.diff(group[by_group]) != 0][: len(group)]
    counted = np.arange(len(group))
    places = np.empty_like(counted)
    places[by_group] = counted - np.maximum.accumulate(np.where(begins, counted, 0))
    return places
