"""Clips: a fetched video -> the file and the row of each of its segments."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.clip import CLIPS
from schemas.manifest import Row, digest_of, sha256_of_file
from schemas.outcome import ItemError, Outcome, Transient
from schemas.storage import path_under, place
from tasks import isolation
from tasks.failures import failure
from tasks.media import Probe
from tasks.parts import Stage

MEDIA = "clips/media"


@dataclass(frozen=True)
class Cuts:
    """A fetched video, and the folder where its segments are cut out of it."""

    source: Path
    facts: Probe
    scratch: Path

    def cut(self, key: str, segment_s: tuple[float, float]) -> tuple[Path, float]:
        """The file of one segment, and where in it the segment begins. Raises ItemError."""
        target = self.scratch / f"cut-{key}"
        asked = {"source": str(self.source), "facts": asdict(self.facts), "segment_s": segment_s}
        made, _ = isolation.call("cut", {**asked, "target": str(target)})
        return Path(made["path"]), made["begins_s"]


def opened(source: Path, scratch: Path) -> Cuts:
    """The video in `source`, probed. Raises ItemError for one that holds nothing."""
    facts = Probe(**isolation.call("probe", {"path": str(source)})[0])
    if not (facts.has_video or facts.has_audio):
        raise failure("empty", "the file holds neither picture nor sound")
    return Cuts(source, facts, scratch)


@dataclass(frozen=True)
class ClipMaker:
    """Makes the clips of one stage, and their rows without what the attempts ledger adds."""

    stage: Stage
    min_covered_share: float

    def clip(self, part: int, segment: Row, cuts: Cuts) -> Row:
        """The row of a segment, its file in place. Raises ItemError, `too_short` where the video ends early."""
        start_s, end_s = segment["start_ms"] / 1000, segment["end_ms"] / 1000
        duration_s = cuts.facts.duration_s
        covered_s = min(end_s, duration_s or end_s) - start_s
        if covered_s < self.min_covered_share * (end_s - start_s):
            raise failure(
                "too_short",
                f"the video ends at {duration_s:.2f} s, the segment is {start_s:g} to {end_s:g} s",
            )
        file, begins_s = cuts.cut(segment["key"], (start_s, end_s))
        root = self.stage.root
        target = root / MEDIA / f"{part:06d}" / f"{segment['key']}{file.suffix}"
        sha256, size = sha256_of_file(file), file.stat().st_size
        place(file, target)
        row = self.row(segment)
        row |= {"digest": digest_of(sha256, begins_s, segment["key"]), "sha256": sha256}
        row |= {"path": path_under(root, target), "size_bytes": size}
        row |= {"begins_s": begins_s, "length_s": end_s - start_s, "covered_s": covered_s}
        return {**row, **_header_facts(cuts.facts)}

    def row(self, segment: Row, error: ItemError | Transient | None = None) -> Row:
        """A row that says no more than that its segment is `ok`, or why not."""
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
