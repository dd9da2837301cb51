"""Index: segment lists -> the manifest `segments`, in which every segment has its slot.

Slots are append-only: a known segment keeps its slot, and segments that arrive later are ordered among themselves and
open new parts.
"""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas import layout
from schemas.errors import DataError, RequestError
from schemas.files import (
    canonical_json,
    read_json,
    read_table,
    sha256_of_file,
    write_bytes,
    write_json,
)
from schemas.manifest import PartHeader, encoded, part_numbers, part_path
from schemas.segment import SEGMENTS, SPLITS
from tasks import inventory
from tasks.inventory import LISTS
from tasks.lists.formats import READ, SegmentList, read_segments
from tasks.lists.labels import (
    MACHINE_ID,
    ONTOLOGY,
    find_labels,
    find_ontology,
    keep_labels,
    machine_ids,
)
from tasks.lists.selection import Choice, chosen, hashes, label_set
from tasks.tombstones import forgotten_row, read_tombstones
from tasks.versions.receipts import hidden_among

log = logging.getLogger(__name__)

WRITERS = 4  # files in progress at once: they wait for the disk


@dataclass(frozen=True)
class IndexConfig:
    """Which segments of the lists are taken, and how they are dealt into parts."""

    part_size: int = 512  # a shard of about 100 to 250 MB
    eval_part_size: int = 128  # so that 64 loader workers all get an eval shard of AudioSet
    val_share: float = 0.02  # of the training videos, by the hash of the video id
    eval_share: float = 0.0  # of the videos, likewise; each of the two only if no list assigns these videos
    choice: Choice = Choice()


@dataclass(frozen=True)
class NewPart:
    """A part that the lists open: its number and its table (schema SEGMENTS)."""

    part: int
    table: pa.Table


def index(root: Path, paths: Sequence[Path], config: IndexConfig, *, strict: bool = False) -> dict[str, int]:
    """Reads the lists that are new to this root and opens parts for their new segments; returns counts.

    Raises RequestError at a malformed line if `strict`, otherwise counts and reports them.
    """
    lists = new_lists(root, paths, config)
    if strict:
        require_well_formed(lists)
    for one in lists:
        if one.problems:
            log.warning("%s", one.problems)
    _deal_again(root, inventory.restore(root), paths, config)
    parts = deal(root, lists, config) if lists else []
    write_parts(root, parts)
    keep_labels(root / layout.SEGMENTS, paths)
    _record(root, parts, lists, config.choice)
    new = sum(part.table.num_rows for part in parts)
    num_unread = sum(one.num_unread for one in lists)
    return {"lists": len(lists), "segments": new, "parts": len(parts), "malformed": num_unread}


def _forgotten_among(root: Path, parts: Sequence[NewPart]) -> set[str]:
    """The videos that were taken down here, and those of `parts` that the root's receipt hides."""
    ids = set().union(*(one.table["video_id"].to_pylist() for one in parts))
    return set(read_tombstones(root)) | hidden_among(root, ids)


def _record(root: Path, parts: Sequence[NewPart], lists: Sequence[SegmentList], choice: Choice) -> None:
    """Adds parts to the inventory, including those that a killed run wrote, and then records their lists as read."""
    folder = root / layout.SEGMENTS
    known = inventory.read_inventory(root)
    sha256s = tuple(sorted(one.sha256 for one in lists))
    known |= {one.part: inventory.dealt(one.table["key"].to_pylist(), sha256s) for one in parts}
    others = [part for part in part_numbers(folder) if part not in known]
    known |= {part: inventory.dealt(_keys_of(part_path(folder, part))) for part in others}
    if parts or others:
        inventory.write_inventory(root, known)
    if lists:
        facts = {one.sha256: {**_facts(one), "choice": _plain(choice)} for one in lists}
        write_json(folder / LISTS, recorded_lists(root) | facts)


def _keys_of(path: Path) -> list[str]:
    return read_table(path, ("key",))["key"].to_pylist()


def _facts(one: SegmentList) -> dict:
    return {"file": one.path.name, "segments": one.table.num_rows, "malformed": one.unread}


def _deal_again(root: Path, lost: Sequence[int], paths: Sequence[Path], config: IndexConfig) -> None:
    """Deals lost parts from their lists into their former slots. Raises DataError if that is impossible."""
    known = inventory.read_inventory(root)
    read = recorded_lists(root)
    named = {sha256_of_file(path): path for path in paths} if lost else {}
    by_lists: dict[tuple[str, ...], list[int]] = {}
    for part in lost:
        by_lists.setdefault((known[part].lists if part in known else ()) or tuple(read), []).append(part)
    for sha256s, parts in by_lists.items():
        missing = [read[one]["file"] if one in read else one for one in sha256s if one not in named]
        again = [] if missing else deal(root, [read_segments(named[one]) for one in sha256s], config)
        same = [one for one in again if one.part in parts and _is_as_dealt(one, known.get(one.part))]
        if [one.part for one in same] != parts:
            raise DataError(_loss(root, parts, missing))
        write_parts(root, same)
        log.warning("index: %d lost part(s) were dealt again from their lists", len(parts))


def _is_as_dealt(one: NewPart, before: inventory.Dealt | None) -> bool:
    return before is None or before.keys == inventory.dealt(one.table["key"].to_pylist()).keys


def _loss(root: Path, parts: Sequence[int], missing: Sequence[str]) -> str:
    """What is lost, and the remedy."""
    lost = part_path(root / layout.SEGMENTS, parts[0])
    more = f" and {len(parts) - 1} more" if parts[1:] else ""
    lists = (
        f"name {', '.join(missing)} again with --segments"
        if missing
        else "build with the options of its first build"
    )
    return f"{lost}{more}: lost, and its validated twin too: {lists}, or restore it from a copy"


def require_well_formed(lists: Sequence[SegmentList]) -> None:
    """Raises RequestError with the first row that could not be read."""
    unread = [one for one in lists if one.num_unread]
    if unread:
        count = sum(one.num_unread for one in unread)
        raise RequestError(f"{count:,} malformed line(s); the first: {unread[0].unread[0]}")


def new_lists(root: Path, paths: Sequence[Path], config: IndexConfig) -> list[SegmentList]:
    """The lists of `paths` that were not read into this root yet, or only with another choice.

    If the choice counts segments, one new list brings in all of them: it counts over all lists that are named together.
    Raises RequestError for a file that is not a list.
    """
    known = recorded_lists(root)
    choice = _plain(config.choice)
    read = {sha256 for sha256, one in known.items() if one.get("choice", _plain(Choice())) == choice}
    unread = [path for path in paths if sha256_of_file(path) not in read]
    return [read_segments(path) for path in (paths if unread and config.choice.is_counted else unread)]


def _plain(choice: Choice) -> dict:
    return json.loads(canonical_json(choice))


def write_parts(root: Path, parts: Sequence[NewPart]) -> None:
    """Commits the parts; slots of videos that were taken down earlier are `forgotten` from the start."""
    folder = root / layout.SEGMENTS
    forgotten = _forgotten_among(root, parts)
    header = PartHeader("index", "", {})
    with ThreadPoolExecutor(WRITERS) as writers:
        # Encoded by one thread: several would only compete for the interpreter's lock.
        written = [
            writers.submit(
                write_bytes, part_path(folder, one.part), encoded(_obeyed(one.table, forgotten), header)
            )
            for one in parts
        ]
    for one in written:
        one.result()


def _obeyed(table: pa.Table, forgotten: set[str]) -> pa.Table:
    if not forgotten or forgotten.isdisjoint(table["video_id"].to_pylist()):
        return table
    rows = [forgotten_row(row) if row["video_id"] in forgotten else row for row in table.to_pylist()]
    return pa.Table.from_pylist(rows, SEGMENTS)


def recorded_lists(root: Path) -> dict[str, dict]:
    """The lists that were read into this root: sha256 -> file name, malformed lines and the last choice."""
    path = root / layout.SEGMENTS / LISTS
    return read_json(path, "remove it, and the next build reads its lists again") if path.is_file() else {}


def deal(root: Path, lists: Sequence[SegmentList], config: IndexConfig) -> list[NewPart]:
    """The parts that the new segments of `lists` open under `root`; nothing is written.

    Raises RequestError for unknown labels, and if the choice leaves a root without a segment.
    """
    table = pa.concat_tables([READ.empty_table(), *(one.table for one in lists)])
    said = _said(table)
    known, splits = _known(root)
    config = replace(config, **{f"{split}_share": 0.0 for split in set(said.values())})
    splits = said | splits
    if lists and not config.choice.is_all:
        mids = _wanted(root, lists, config.choice)
        table = _chosen(_with_evals(table, splits), config.choice, mids, known)
    fresh = table.filter(pc.invert(pc.is_in(table["key"], known))) if len(known) else table
    table = _in_slot_order(_with_splits(fresh, splits, config))
    standing = set(inventory.standing_parts(root))
    # Gaps first: a kill leaves them, and their parts are dealt again, in the same order and sizes.
    free = (part for part in count() if part not in standing)
    return [NewPart(part, of_part) for part, of_part in zip(free, _cut(table, config), strict=False)]


def _said(table: pa.Table) -> dict[str, str]:
    """The split of each video for which the lists name one. If two lists disagree, the video belongs to eval."""
    found: dict[str, str] = {}
    for split in ("val", "eval"):
        found |= dict.fromkeys(table.filter(pc.equal(table["split"], split))["video_id"].to_pylist(), split)
    return found


def _wanted(root: Path, lists: Sequence[SegmentList], choice: Choice) -> frozenset[str]:
    """The labels that a choice stands for, according to the table and ontology in the root or beside the lists."""
    if not choice.labels:
        return frozenset()
    kept = root / layout.SEGMENTS
    paths = [one.path for one in lists]
    labels = find_labels(kept, paths)
    ontology = find_ontology(kept, paths)
    others = set().union(*(label_set(one.table) for one in lists))
    if not others:
        raise RequestError(f"--labels {choice.labels[0]!r}: no segment of the lists has a label")
    unknown = [name for name in choice.labels if name not in others or name.startswith(MACHINE_ID)]
    if unknown and not ontology and any(name.startswith(MACHINE_ID) for name in others):
        raise RequestError(
            f"--labels {unknown[0]!r}: its subcategories are in AudioSet's {ONTOLOGY}, which is neither beside "
            f"the lists nor in {kept}: get it from github.com/audioset/ontology"
        )
    return machine_ids(choice.labels, labels, ontology, others)


def _with_evals(table: pa.Table, splits: Mapping[str, str]) -> pa.Table:
    """Adds `is_eval` to each row, by the split of its video."""
    of_eval = pa.array([video for video, split in splits.items() if split == "eval"], pa.string())
    return table.append_column("is_eval", pc.is_in(table["video_id"], of_eval))


def _chosen(table: pa.Table, choice: Choice, mids: frozenset[str], known: pa.Array) -> pa.Table:
    """The segments that the choice selects. Others that have a slot keep it, which is logged."""
    taken = chosen(table, choice, mids)
    if table.num_rows and not taken.num_rows and not len(known):
        raise RequestError(f"--labels: none of {table.num_rows:,} segments has {' or '.join(choice.labels)}")
    left = pc.unique(table.filter(pc.invert(pc.is_in(table["key"], taken["key"])))["key"])
    num_standing = pc.sum(pc.is_in(left, known)).as_py() or 0
    log.info("index: %d of %d segments are selected", taken.num_rows, taken.num_rows + len(left))
    if num_standing:
        log.info("index: %d segments that are no longer selected keep their slots", num_standing)
    return taken


def _known(root: Path) -> tuple[pa.Array, dict[str, str]]:
    folder = root / layout.SEGMENTS
    tables = [
        read_table(part_path(folder, n), ("key", "video_id", "split")) for n in inventory.standing_parts(root)
    ]
    if not tables:
        return pa.array([], pa.string()), {}
    table = pa.concat_tables(tables)
    return table["key"].combine_chunks(), dict(
        zip(*(table[c].to_pylist() for c in ("video_id", "split")), strict=True)
    )


def _with_splits(table: pa.Table, splits: dict[str, str], config: IndexConfig) -> pa.Table:
    """Adds each row's split (from `splits`, if it has the video) and the hash of its video that orders it."""
    order = hashes(table["video_id"])
    # The last bytes decide: the first ones order the slots, and val must not be one end of that order.
    place = (order & np.uint64(2**32 - 1)) / 2**32
    is_val = place < config.val_share
    is_eval = place >= 1 - config.eval_share
    drawn = pc.if_else(is_val, "val", pc.if_else(is_eval, "eval", "train"))
    at = pc.index_in(table["video_id"], pa.array(list(splits), pa.string()))
    known = pa.array(list(splits.values()), pa.string()).take(at)
    at = table.schema.get_field_index("split")
    table = table.set_column(at, "split", pc.coalesce(known, drawn))
    return table.append_column("order", pa.array(order))


def _in_slot_order(table: pa.Table) -> pa.Table:
    """By split, then by the hash of the video, then by time; the first row of every key."""
    rank = pc.index_in(table["split"], pa.array(SPLITS)).to_numpy()
    end, start, order = (table[name].to_numpy() for name in ("end_ms", "start_ms", "order"))
    rows = np.lexsort((end, start, order, rank))  # numbers only: texts would take several times as long
    again = np.zeros(len(rows), bool)  # 64 bits of hash stand for a video: enough to distinguish 2 M of them
    again[1:] = np.all([np.diff(one[rows]) == 0 for one in (order, start, end)], axis=0)
    places = pa.array(rows[~again])
    with ThreadPoolExecutor() as threads:
        columns = list(threads.map(lambda column: column.take(places), table.columns))
    return pa.table(columns, table.column_names)


def _cut(table: pa.Table, config: IndexConfig) -> Iterator[pa.Table]:
    """Parts of fixed size, each of one split."""
    for split in SPLITS:
        of_split = table.filter(pc.equal(table["split"], split))
        size = config.part_size if split == "train" else config.eval_part_size
        constant = {"outcome": "ok", "reason": "", "detail": "", "fingerprint": ""}
        columns = {name: pa.repeat(value, of_split.num_rows) for name, value in constant.items()}
        columns["row"] = pa.array(np.arange(of_split.num_rows) % size)
        columns["digest"] = pc.binary_join(of_split["labels"], ",")
        whole = pa.table({**columns, **{name: of_split[name] for name in of_split.column_names}})
        whole = whole.select(SEGMENTS.names).cast(SEGMENTS).combine_chunks()
        for start in range(0, whole.num_rows, size):
            yield whole.slice(start, size)
