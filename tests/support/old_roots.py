"""A root as it was before cuts kept their source's clock, made of one of today."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from cuts_of_before import old_cut

from schemas import layout
from schemas.clip import CLIPS
from schemas.feature import FEATURES, PROFILES
from schemas.files import digest_of, sha256_of_file
from schemas.manifest import PartHeader, Row, part_numbers, part_path, read_part, write_part
from schemas.rules import Rules
from tasks import download, validate
from tasks.acquisition.fetching import DownloadConfig
from tasks.media.probe import probe
from tasks.parts import Stage, header_of, read_inputs

OLD_CLIPS = pa.schema([field for field in CLIPS if field.name != "clock"])


def aged(root: Path, files: Mapping[str, Path]) -> None:
    """Gives `root` the clips and rows that download 1 made of these videos, and features of another VERSION."""
    shutil.rmtree(root / "state" / layout.ATTEMPTS)
    stage = replace(download.stage(root, DownloadConfig()), version=1)
    for part in part_numbers(root / "clips"):
        inputs = read_inputs(stage, part)
        rows = read_part(part_path(root / "clips", part))
        rows = [_aged(stage, row, segment, files) for row, segment in zip(rows, inputs.rows, strict=True)]
        sizes = {row["path"]: row["size_bytes"] for row in rows}
        header = PartHeader(stage.name, inputs.fingerprint, sizes)
        write_part(part_path(root / "clips", part), rows, OLD_CLIPS, header)
        checks = validate.stage(root, "clips", Rules(), PROFILES["small"])
        checked = [{**row, "fingerprint": checks.row_fingerprint(row)} for row in rows]
        header = PartHeader(checks.name, checks.part_fingerprint(part), {})
        write_part(part_path(root / "clips/checked", part), checked, OLD_CLIPS, header)
        path = part_path(root / "features", part)
        made = [{**row, "fingerprint": f"{row['key']} by extract 3"} for row in read_part(path)]
        header = header_of(root, "features", part)
        assert header is not None
        write_part(path, made, FEATURES, replace(header, fingerprint="by extract 3"))


def _aged(stage: Stage, row: Row, segment: Row, files: Mapping[str, Path]) -> Row:
    (stage.root / row["path"]).unlink()
    source = files[row["video_id"]]
    start_s = segment["start_ms"] / 1000
    target = (stage.root / row["path"]).with_suffix("")
    path, begins_s = old_cut(source, probe(source), (start_s, segment["end_ms"] / 1000), target)
    sha256 = sha256_of_file(path)
    facts = {"path": str(path.relative_to(stage.root)), "size_bytes": path.stat().st_size, "sha256": sha256}
    told = {"begins_s": begins_s, "digest": digest_of(sha256, begins_s, row["key"])}
    old = {**row, **facts, **told, "fingerprint": stage.row_fingerprint(segment)}
    return {name: value for name, value in old.items() if name != "clock"}
