"""Near-duplicates in a dataset version, and the exclusion list that follows from them.

The list never changes a shard: it lies beside the version, and training skips its keys.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from schemas import layout
from schemas.feature import PICTURE_PRINT, sound_print
from schemas.files import encoded_table, open_table, read_table, write_bytes, write_text
from schemas.manifest import Row, part_path
from schemas.outcome import Outcome
from schemas.shard import DUPLICATES, Version, duplicates_path, exclude_path, index_path, read_exclusions
from tasks.versions.duplicate_search import MAX_PICTURE_BITS, Prints, search

log = logging.getLogger(__name__)

# Kinds of pairs
NEAR = "sound_and_picture"
SAME_SOUND = "sound"
RANKS = {"eval": 0, "val": 1}  # which clip of a cluster stays; any other split comes last
EXAMPLES = 5  # pairs that a card shows
UNTOUCHED = "eval"  # AudioSet's own split: comparable between papers if it is unchanged


def write_duplicates(root: Path, version: Version) -> Path:
    """Writes the pairs and the exclusion list of `version`; returns the list's path. Repeating it changes nothing."""
    clips, prints = read_prints(root, version)
    pairs = described(clips, search(prints))
    excluded = exclusions(pairs)
    path = duplicates_path(root, version.digest)
    write_bytes(path, encoded_table(pairs, compression="zstd"))
    write_text(exclude_path(root, version.digest), "".join(f"{key}\n" for key in excluded))
    near = pc.sum(pc.equal(pairs["kind"], NEAR)).as_py() or 0  # pyright: ignore[reportAttributeAccessIssue]
    found = "duplicates: %d pairs, %d of them in sound and picture; %d clips excluded from training"
    log.info(found, len(pairs), near, len(excluded))
    return exclude_path(root, version.digest)


def read_prints(root: Path, version: Version) -> tuple[pa.Table, Prints]:
    """The clips of a version (key, video_id, split), sorted by key, and their prints.

    A clip whose features are older than prints gets a print that matches nothing.
    """
    tables = [_NO_CLIPS]
    sounds = []
    pictures = []
    for shard in version.shards:
        clips, made = _of_shard(root, index_path(root, shard), shard.part)
        tables.append(clips)
        sounds.append(_array(made["sound_print"], sound_print(version.profile)))
        pictures.append(_array(made["picture_print"], PICTURE_PRINT))
    clips = pa.concat_tables(tables).combine_chunks()
    order = pc.sort_indices(clips["key"])  # pyright: ignore[reportAttributeAccessIssue]
    clips = clips.take(order)
    rows = order.to_numpy()
    videos = pc.rank(clips["video_id"], tiebreaker="dense")  # pyright: ignore[reportAttributeAccessIssue]
    all_sounds = np.concatenate([np.zeros(0, sound_print(version.profile)), *sounds])[rows]
    all_pictures = np.concatenate([np.zeros(0, PICTURE_PRINT), *pictures])[rows]
    return clips, Prints(all_sounds, all_pictures, videos.to_numpy().astype(np.int64))


def _of_shard(root: Path, index: Path, part: int) -> tuple[pa.Table, pa.Table]:
    """The samples of a shard, and their current prints in the manifest `features` (or null)."""
    clips = read_table(index, ("outcome", *_NO_CLIPS.schema.names))
    clips = clips.filter(pc.field("outcome") == Outcome.OK.value).select(_NO_CLIPS.schema.names)
    path = part_path(root / layout.FEATURES, part)
    made = _NO_PRINTS
    if path.is_file():
        file = open_table(path)
        has_prints = set(made.schema.names) <= set(file.schema_arrow.names)
        made = read_table(path, made.schema.names) if has_prints else made
    at = pc.index_in(clips["key"], value_set=made["key"].combine_chunks())  # pyright: ignore[reportAttributeAccessIssue]
    return clips, made.take(at.combine_chunks())


_NO_CLIPS = pa.schema([(name, pa.string()) for name in ("key", "video_id", "split")]).empty_table()
_NO_PRINTS = pa.schema(
    [("key", pa.string()), ("sound_print", pa.binary()), ("picture_print", pa.binary())]
).empty_table()


def _array(prints: pa.ChunkedArray, dtype: np.dtype) -> np.ndarray:
    """A column as an array; zeros for a missing print or one of another profile."""
    whole = (
        one if one and len(one) == dtype.itemsize else bytes(dtype.itemsize) for one in prints.to_pylist()
    )
    return np.frombuffer(b"".join(whole), np.dtype([("print", dtype)]))["print"]


def described(clips: pa.Table, found: pa.Table) -> pa.Table:
    """DUPLICATES: the pairs of rows that `search` found, with keys, splits, kinds and clusters."""
    first = found["first"].to_numpy()
    second = found["second"].to_numpy()
    is_near = pc.fill_null(pc.less_equal(found["picture_bits"], MAX_PICTURE_BITS), False).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    links = (np.ones(is_near.sum()), (first[is_near], second[is_near]))
    _, clusters = connected_components(coo_array(links, shape=(len(clips), len(clips))), directed=False)
    columns = {
        "first": clips["key"].take(first),
        "second": clips["key"].take(second),
        "first_split": clips["split"].take(first),
        "second_split": clips["split"].take(second),
        "kind": pa.array(np.where(is_near, NEAR, SAME_SOUND).tolist(), pa.string()),
        **{name: found[name] for name in ("sound_error", "picture_bits", "late_ms")},
        "cluster": pa.array(clusters[first] if len(first) else [], pa.int64(), mask=~is_near),
    }
    return pa.table(columns, schema=DUPLICATES)


def exclusions(pairs: pa.Table) -> list[str]:
    """The keys not to train on, sorted: for each cluster, all but those of the split that comes first.

    The order is eval, val, train. Of val or train one clip stays, the first by key; eval stays whole.
    """
    clusters: dict[int, dict[str, str]] = {}
    for row in pairs.filter(pc.field("kind") == NEAR).to_pylist():
        members = clusters.setdefault(row["cluster"], {})
        members |= {row["first"]: row["first_split"], row["second"]: row["second_split"]}
    return sorted(key for members in clusters.values() for key in _excluded(members))


def _excluded(members: dict[str, str]) -> Sequence[str]:
    def order(key: str) -> tuple[int, str]:
        return RANKS.get(members[key], len(RANKS)), key

    kept, *others = sorted(members, key=order)
    return [key for key in others if members[key] != UNTOUCHED or members[kept] != UNTOUCHED]


def problems_of_lists(root: Path, digest: str) -> list[str]:
    """Problems of a version's exclusion list: it must follow from the pairs beside it."""
    listed = exclude_path(root, digest)
    found = duplicates_path(root, digest)
    gone = [path.name for path in (listed, found) if not path.is_file()]
    if gone:
        return [f"{' and '.join(gone)} beside it: missing; `mcgurk build` searches for duplicates again"]
    try:
        keys = exclusions(read_table(found))
    except (OSError, ValueError, KeyError) as error:
        return [f"{found.name} beside it is not readable: {error}"]
    same = listed.read_bytes().split() == [key.encode() for key in keys]
    return [] if same else [f"{listed.name} beside it is not the list that {found.name} gives"]


@dataclass(frozen=True)
class DuplicateSummary:
    """The near-duplicates of a version for a card."""

    pairs: list[tuple[str, int, int]]  # kind, pairs in all, pairs across splits
    clusters: int
    excluded: int  # clips on the exclusion list
    examples: list[Row]  # of DUPLICATES


def summarize_duplicates(root: Path, digest: str) -> DuplicateSummary | None:
    """Counts of pairs (in all and across splits) and clusters, with examples; None if there was no search."""
    path = duplicates_path(root, digest)
    if not path.is_file():
        return None
    pairs = read_table(path)
    across = pairs["first_split"].to_numpy() != pairs["second_split"].to_numpy()
    kinds = pairs["kind"].to_numpy()
    near = pairs.filter(pa.array(kinds == NEAR))
    return DuplicateSummary(
        pairs=[
            (kind, int((kinds == kind).sum()), int(((kinds == kind) & across).sum()))
            for kind in (NEAR, SAME_SOUND)
        ],
        clusters=len(set(near["cluster"].to_pylist())),
        excluded=len(read_exclusions(root, digest)),
        examples=near.slice(0, EXAMPLES).to_pylist(),
    )
