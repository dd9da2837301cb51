"""Clips: from a fetched video to the file and the row of each of its segments."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from schemas.clip import CLIPS, CLOCK
from schemas.files import digest_of, sha256_of_file
from schemas.layout import MEDIA
from schemas.manifest import Row
from schemas.outcome import ItemError, Outcome, Transient
from schemas.segment import MIN_OPEN_MS
from schemas.storage import path_under, place
from tasks.media import sandbox
from tasks.media.cut import Cut
from tasks.media.probe import Probe
from tasks.parts import Stage
from tasks.transport.failure_classes import failure

SLACK_S = 0.5  # by how much a file may be longer than its only segment: codecs pad


def is_released(row: Row | None) -> bool:
    """Whether a clip is `ok` and its media were released."""
    return row is not None and row["outcome"] == Outcome.OK and not row["path"]


@dataclass(frozen=True)
class Cuts:
    """A fetched file, where it begins in its video, and the folder where segments are cut out of it."""

    source: Path
    facts: Probe
    scratch: Path
    offset_s: float = 0.0

    def of(self, segment: Row) -> "Cuts":
        """The file that holds a segment: this one."""
        del segment
        return self

    def cut(self, key: str, segment_s: tuple[float, float]) -> Cut:
        """The file of one segment. Raises ItemError."""
        target = self.scratch / f"cut-{key}"
        facts = asdict(self.facts)
        arguments = {
            "source": str(self.source),
            "facts": facts,
            "segment_s": segment_s,
            "target": str(target),
        }
        made, _ = sandbox.call("cut", arguments)
        return Cut(**{**made, "path": Path(made["path"])})


@dataclass(frozen=True)
class Pieces:
    """A folder of files of one video, each named by the key of the segment that it holds, or by the video's id."""

    folder: Path
    scratch: Path

    def of(self, segment: Row) -> Cuts:
        """The file that holds a segment. Raises ItemError if there is none.

        A file named after the video holds all of it, or, if it is no longer than the segment, the segment alone.
        """
        by_stem = {path.stem: path for path in self.folder.iterdir()}
        path = by_stem.get(segment["key"]) or by_stem.get(segment["video_id"])
        if path is None:
            raise ItemError(Outcome.UNAVAILABLE, "removed", f"no file for {segment['key']}")
        start_s = segment["start_ms"] / 1000
        end_s = segment["end_ms"] / 1000
        cuts = _probed(path, self.scratch)
        duration_s = cuts.facts.duration_s or 0.0
        is_alone = path.stem == segment["key"] or 0.0 < duration_s <= end_s - start_s + SLACK_S
        return replace(cuts, offset_s=start_s) if is_alone else cuts


def opened(source: Path, scratch: Path) -> Cuts | Pieces:
    """The fetched media, opened: a probed video or a folder of pieces. Raises ItemError for one without content."""
    return Pieces(source, scratch) if source.is_dir() else _probed(source, scratch)


def _probed(source: Path, scratch: Path) -> Cuts:
    facts = Probe(**sandbox.call("probe", {"path": str(source)})[0])
    if not (facts.has_video or facts.has_audio):
        raise failure("empty", "the file holds neither picture nor sound")
    return Cuts(source, facts, scratch)


@dataclass(frozen=True)
class ClipMaker:
    """Makes the clips of one stage, and their rows without what the attempts ledger adds."""

    stage: Stage
    min_covered_share: float

    def clip(self, part: int, segment: Row, fetched: Cuts | Pieces) -> Row:
        """The row of a segment, its file in place. Raises ItemError, `too_short` if the video ends early."""
        cuts = fetched.of(segment)
        start_s = segment["start_ms"] / 1000
        end_s = segment["end_ms"] / 1000
        duration_s = cuts.facts.duration_s and cuts.facts.duration_s + cuts.offset_s
        covered_s = min(end_s, duration_s or end_s) - start_s
        length_s = end_s - start_s
        if segment.get("is_open") and covered_s >= MIN_OPEN_MS / 1000:
            length_s = min(length_s, covered_s)  # it ends with its video
        if covered_s < self.min_covered_share * length_s:
            raise failure(
                "too_short",
                f"the video ends at {duration_s:.2f} s, the segment is {start_s:g} to {end_s:g} s",
            )
        made = cuts.cut(segment["key"], (start_s - cuts.offset_s, end_s - cuts.offset_s))
        root = self.stage.root
        target = root / MEDIA / f"{part:06d}" / f"{segment['key']}{made.path.suffix}"
        sha256 = sha256_of_file(made.path)
        size = made.path.stat().st_size
        place(made.path, target)
        row = self.row(segment)
        row |= {"digest": digest_of(sha256, made.begins_s, segment["key"]), "sha256": sha256}
        row |= {"path": path_under(root, target), "size_bytes": size, "packets": made.packets}
        row |= {"begins_s": made.begins_s, "length_s": length_s, "covered_s": covered_s, "clock": CLOCK}
        return {**row, **_header_facts(cuts.facts)}

    def row(self, segment: Row, error: ItemError | Transient | None = None) -> Row:
        """A row with the outcome of a segment and nothing else: `ok`, or why not."""
        row: dict[str, Any] = dict.fromkeys(CLIPS.names)
        row |= {"key": segment["key"], "video_id": segment["video_id"], "outcome": Outcome.OK.value}
        row |= {"fingerprint": self.stage.row_fingerprint(segment), "digest": ""}
        return {**row, "reason": error.reason if error else "", "detail": error.detail if error else ""}


def _header_facts(facts: Probe) -> Row:
    names = set(CLIPS.names) & set(Probe.__dataclass_fields__)
    return {name: getattr(facts, name) for name in names} | {
        "has_video": facts.has_video,
        "has_audio": facts.has_audio,
    }
