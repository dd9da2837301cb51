"""Extract: clips -> features. Each clip is decoded once for all features, in micro-batches of clips.

One file a part and feature, `features/{feature}/{part:06d}.arrow`, one row a member (key, suffix, data).
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa

from schemas.feature import FEATURES, Profile
from schemas.manifest import Row, digest_of, replacing
from schemas.outcome import ItemError, Outcome
from schemas.signal import INT16_SCALE
from tasks import features
from tasks.decode import Decoded, decode
from tasks.parts import Stage, carried, commit_part, read_inputs, reusable_rows
from tasks.progress import tracked

log = logging.getLogger(__name__)

VERSION = 1
BATCH = 8  # clips a Dask task: a lost worker costs these, and 2 ms of scheduling are 2 % of their decode
TOOLS = ("av", "numpy", "scipy", "simplejpeg", "soxr")  # whose versions may change bytes
MEMBERS = pa.schema([("key", pa.string()), ("suffix", pa.string()), ("data", pa.large_binary())])
BLOCK_PX = 8  # pictures are judged by block means, below compression noise
STILL_LUMA = 1.5  # block means of a still picture differ by less after lossy coding

Map = Callable[[Callable, Sequence], Iterable]


@dataclass(frozen=True)
class Batch:
    """Some clips of one part, and the folder where their features go as a fragment."""

    root: Path
    part: int
    number: int
    rows: list[Row]
    profile: Profile


@dataclass
class _Work:
    part: int
    inputs: list[Row]
    rows: dict[str, Row]


def stage(root: Path, profile: Profile) -> Stage:
    """The stage `extract` over `root`."""
    versions = {name: module.VERSION for name, module in features.modules().items()}
    settings = [profile, versions, {tool: version(tool) for tool in TOOLS}]
    return Stage("extract", VERSION, root, "clips/checked", "features", FEATURES, settings)


def run(stage: Stage, parts: Sequence[int], profile: Profile, map_batches: Map) -> int:
    """Extracts what is due in `parts`; returns how many clips were decoded.

    `map_batches(function, batches)` yields results in the order in which they end.
    """
    works, batches = {}, []
    for part in parts:
        works[part], due = _work(stage, part)
        if not due:
            _commit(stage, works[part])
        starts = range(0, len(due), BATCH)
        batches += [Batch(stage.root, part, n, due[n : n + BATCH], profile) for n in starts]
    clips = sum(len(batch.rows) for batch in batches)
    results = ((part, row) for part, rows in _ended(map_batches, batches) for row in rows)
    for part, row in tracked(results, clips, "extract", log):
        work = works[part]
        work.rows[row["key"]] = {**row, "fingerprint": work.rows[row["key"]]["fingerprint"]}
        if all("outcome" in made for made in work.rows.values()):
            _commit(stage, work)
    return clips


def _ended(map_batches: Map, batches: Sequence[Batch]) -> Iterator[tuple[int, list[Row]]]:
    if batches:
        yield from map_batches(extract_batch, batches)


def _work(stage: Stage, part: int) -> tuple[_Work, list[Row]]:
    """One part under way and the clips to decode; their rows hold nothing but the fingerprint as yet."""
    inputs, old = read_inputs(stage, part), reusable_rows(stage, part)
    work, due = _Work(part, inputs, {}), []
    for row in inputs:
        fingerprint = stage.row_fingerprint(row)
        if row["outcome"] != Outcome.OK:
            work.rows[row["key"]] = carried(stage, row)
        elif fingerprint in old:
            work.rows[row["key"]] = old[fingerprint]
        else:
            work.rows[row["key"]] = {"fingerprint": fingerprint}
            due.append(row)
    for fragment in _fragments(stage.root, part):
        fragment.unlink()  # of a run that was killed
    return work, due


def _commit(stage: Stage, work: _Work) -> None:
    rows = [work.rows[row["key"]] for row in work.inputs]
    order = {row["key"]: n for n, row in enumerate(rows) if row["outcome"] == Outcome.OK}
    files = [_join(stage.root, name, work.part, order) for name in features.modules()]
    commit_part(stage, work.part, work.inputs, rows, files)
    for fragment in _fragments(stage.root, work.part):
        fragment.unlink()
    log.info("extract: part %d, %d of %d clips", work.part, len(order), len(rows))


def _join(root: Path, name: str, part: int, order: dict[str, int]) -> Path:
    """The feature file of a part, in slot order: from new fragments, else from the file that stands."""
    target = feature_path(root, name, part)
    sources = [*sorted(target.parent.glob(f".{part:06d}-*.arrow")), *([target] if target.is_file() else [])]
    found: dict[str, list[tuple[pa.Table, int]]] = {}
    for source in sources:
        table = read_members(source)
        at: dict[str, list[tuple[pa.Table, int]]] = {}
        for n, key in enumerate(table["key"].to_pylist()):
            at.setdefault(key, []).append((table, n))
        found = {**at, **found}
    with writing_members(target) as writer:
        for key in sorted(order, key=order.__getitem__):
            table, first = found[key][0]
            writer.write_table(table.slice(first, len(found[key])))
    return target


@contextmanager
def writing_members(path: Path) -> Iterator[pa.ipc.RecordBatchFileWriter]:
    """A writer of a feature file that is there whole or not at all."""
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, MEMBERS) as writer,
    ):
        yield writer


def read_members(path: Path) -> pa.Table:
    """A feature file, memory-mapped: key, suffix, data; the members of a key stand together."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def feature_path(root: Path, name: str, part: int) -> Path:
    """Where a feature of a part lies."""
    return root / "features" / name / f"{part:06d}.arrow"


def _fragments(root: Path, part: int) -> list[Path]:
    return sorted((root / "features").glob(f"*/.{part:06d}-*.arrow"))


def extract_batch(batch: Batch) -> tuple[int, list[Row]]:
    """Decodes the clips of a batch and writes their features as fragments: (part, a row a clip)."""
    rows, made = [], {name: [] for name in features.modules()}
    for clip in batch.rows:
        try:
            row, members = extract_clip(batch.root, clip, batch.profile)
        except ItemError as error:
            rows.append(_failed(clip, error))
            continue
        rows.append(row)
        for name, of_feature in members.items():
            made[name] += [
                {"key": clip["key"], "suffix": s, "data": of_feature[s]} for s in sorted(of_feature)
            ]
    for name, members in made.items():
        path = feature_path(batch.root, name, batch.part)
        with writing_members(path.with_name(f".{batch.part:06d}-{batch.number:06d}.arrow")) as writer:
            writer.write_table(pa.Table.from_pylist(members, MEMBERS))
    return batch.part, rows


def extract_clip(root: Path, clip: Row, profile: Profile) -> tuple[Row, dict[str, dict[str, bytes]]]:
    """One clip's row of the manifest and its members by feature. Raises ItemError.

    Raises FileNotFoundError for a clip that is not there: no fault of its own, and no verdict on it.
    """
    if not (root / clip["path"]).is_file():
        raise FileNotFoundError(f"{root / clip['path']} is gone: build --from download fetches it again")
    length_s = min(clip["length_s"], profile.length_ms / 1000)
    decoded = decode(root / clip["path"], clip["begins_s"], length_s, profile)
    members = {name: module.members(decoded, profile) for name, module in features.modules().items()}
    hashes = {
        suffix: hashlib.sha256(data).hexdigest()
        for of_feature in members.values()
        for suffix, data in of_feature.items()
    }
    row = {"key": clip["key"], "outcome": Outcome.OK.value, "reason": "", "detail": ""}
    row |= {"digest": digest_of(hashes, decoded.valid_ms), "length_s": length_s}
    return {**row, **measured(decoded, profile)}, members


def measured(decoded: Decoded, profile: Profile) -> Row:
    """What a decoded clip shows up to `valid_ms`, padding left out; the suite `features` judges it."""
    valid_s = decoded.valid_ms / 1000
    wave = decoded.wave[: round(valid_s * profile.sample_rate_hz)]
    heard = np.abs(wave.astype(np.float64)) / INT16_SCALE
    power = float(np.mean(heard**2)) if len(heard) else 0.0
    num_valid = max(1, round(valid_s * profile.frame_rate_hz))
    blocks = np.stack([_block_means(frame) for frame in decoded.frames[:num_valid]])
    # One frame alone cannot be frozen.
    change = np.abs(np.diff(blocks, axis=0)).max(axis=(1, 2)) if num_valid > 1 else np.full(1, np.inf)
    return {
        "valid_ms": decoded.valid_ms,
        "num_frames": len(decoded.frames),
        "num_samples": len(decoded.wave),
        "rms_db": 10 * np.log10(power + 1e-12),
        "peak": float(heard.max(initial=0.0)),
        "clipped_share": float(np.mean(heard >= 1 - 1 / INT16_SCALE)) if len(heard) else 0.0,
        "luma_max": float(blocks.max()),
        "frozen_share": float(np.mean(change < STILL_LUMA)),
        "start_skew_ms": decoded.start_skew_ms,
        "audio_short_ms": decoded.audio_short_ms,
        "decoder": decoded.decoder,
    }


def _block_means(frame: np.ndarray) -> np.ndarray:
    """float64 (height / 8, width / 8): mean luma of 8 x 8 blocks."""
    height, width = (side // BLOCK_PX * BLOCK_PX for side in frame.shape[:2])
    luma = frame[:height, :width] @ np.array([0.299, 0.587, 0.114])  # BT.601
    return luma.reshape(height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX).mean(axis=(1, 3))


def _failed(clip: Row, error: ItemError) -> Row:
    why = {"outcome": error.outcome.value, "reason": error.reason, "detail": error.detail}
    return {"key": clip["key"], "digest": "", **why}
