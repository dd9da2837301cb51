"""The data card of a version: its contents, its origin, and how to read it.

It is `versions/{digest}.md` and `.html`, and for the latest version the README.md of the root: the page that a Hugging
Face repository shows, which also tells `datasets` which tars belong to which split. Catalogues get a Croissant file.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from schemas import layout
from schemas.files import read_json, read_text, write_text
from schemas.manifest import Row, read_manifest, read_part
from schemas.outcome import Funnel, Outcome
from schemas.shard import Version, index_path, latest_digest, read_facts, receipt_path
from tasks.standing import kept_by_maker
from tasks.versions.card_media import histogram, quarantined_clips, sample_clips
from tasks.versions.croissant import write_croissant
from tasks.versions.duplicates import summarize_duplicates
from tasks.versions.hub import OURS, head
from tasks.versions.origin import origin_of

Labels = Mapping[str, tuple[int, str]]  # machine id -> index, display name
COLUMNS = ("key", "outcome", "shard", "video_id", "labels", "split", "valid_ms", "size_bytes")
SHOWN_LABELS = 40  # the others are collapsed
# Below -60 dB nothing passes the suite
QUIET_DB = -60
LOUD_DB = 0
STEP_DB = 2
BINS = 25
MB = 1e6
MS_PER_HOUR = 3_600_000
MARKS = re.compile(r"[\\`*_\[\]!|~#$]")  # what Markdown takes for more than text
KEPT = re.compile(rb'<meta name="mcgurk-kept" content="(\d+)">')
HEAD_BYTES = 1000  # of a page, which contain it
MEANINGS = {
    "quarantined": "rejected by an expectation",
    "unavailable": "lost at the source",
    "waiting": "to be tried again",
}


@dataclass(frozen=True)
class SplitFacts:
    """The sizes of a split; hours are without padding."""

    split: str
    samples: int
    videos: int
    hours: float
    shards: int
    size_mb: float


@dataclass(frozen=True)
class Chart:
    """A histogram and what it shows."""

    name: str
    lead: str
    svg: Markup


def write_card(root: Path, version: Version, labels: Labels, *, with_media: bool = False) -> Path:
    """Writes the card as Markdown, as a page and, for the latest version, as README; returns the page.

    Also writes the version's Croissant file.
    """
    recorded = read_facts(root, version.digest)
    funnel = recorded["funnel"]
    origin = origin_of(recorded)
    rows = samples(root, version)
    names = {mid: name for mid, (_, name) in labels.items()}
    counts: Counter[str] = Counter(label for row in rows for label in row["labels"])
    splits = split_table(version, rows)
    facts: dict[str, Any] = {"version": version, "splits": splits, "funnel": list(_funnel_lines(funnel))}
    facts["terms"] = origin.terms
    facts["duplicates"] = summarize_duplicates(root, version.digest)
    facts["kept"] = kept_by_maker(root)
    facts["has_receipt"] = receipt_path(root, version.digest).is_file()
    cells = [(_cell(names.get(mid, mid)), n) for mid, n in counts.most_common()]
    card = f"{head(version, origin, _paths(version))}\n{_markdown().render(**facts, labels=cells)}"
    path = root / layout.VERSIONS / f"{version.digest}.md"
    write_text(path, card)
    write_croissant(root, version)
    if version.digest == latest_digest(root):
        _write_readme(root / "README.md", card)
    most = max(counts.values(), default=1)
    page = _page().render(
        **{**facts, "funnel": funnel_table(funnel)},
        rows=rows,
        videos=len({row["video_id"] for row in rows}),
        hours=sum(row["valid_ms"] for row in rows) / MS_PER_HOUR,
        size_mb=sum(shard.size_bytes for shard in version.shards) / MB,
        labels=[(names.get(mid, mid), n, n / most) for mid, n in counts.most_common()],
        shown_labels=SHOWN_LABELS,
        total=funnel["segments"],
        charts=charts(root, version, rows),
        checks=_checks(root),
        with_media=with_media,
        clips=sample_clips(root, version, rows, names) if with_media else [],
        rejected=quarantined_clips(root, names, with_media=with_media),
    )
    write_text(path.with_suffix(".html"), page)
    return path.with_suffix(".html")


def card_of(root: Path, version: Version) -> str:
    """The card of a version as it was written; an old or missing one gets a head."""
    path = root / layout.VERSIONS / f"{version.digest}.md"
    origin = origin_of(read_facts(root, version.digest))
    bare = f"# Dataset version {version.digest[:12]}\n\n## Terms\n\n{origin.terms}\n"
    card = read_text(path) if path.is_file() else bare
    return card if card.startswith("---\n") else f"{head(version, origin, _paths(version))}\n{card}"


def samples(root: Path, version: Version) -> list[Row]:
    """The rows of all samples of a version, from the indexes of its shards."""
    rows = (row for shard in version.shards for row in read_part(index_path(root, shard), COLUMNS))
    return [row for row in rows if row["outcome"] == Outcome.OK]


def split_table(version: Version, rows: list[Row]) -> list[SplitFacts]:
    """The sizes of each split."""
    table = []
    for split in dict.fromkeys(shard.split for shard in version.shards):
        of_split = [row for row in rows if row["split"] == split]
        shards = version.of_split(split)
        table.append(
            SplitFacts(
                split=split,
                samples=len(of_split),
                videos=len({row["video_id"] for row in of_split}),
                hours=sum(row["valid_ms"] for row in of_split) / MS_PER_HOUR,
                shards=len(shards),
                size_mb=sum(shard.size_bytes for shard in shards) / MB,
            )
        )
    return table


def charts(root: Path, version: Version, rows: list[Row]) -> list[Chart]:
    """How long, how loud and how large the samples are."""
    length_s = version.profile.length_ms / 1000
    valid = [row["valid_ms"] / 1000 for row in rows]
    sizes = [row["size_bytes"] / 1000 for row in rows]
    keys = {row["key"] for row in rows}
    measured = read_manifest(root / layout.FEATURES / layout.CHECKED, ("key", "rms_db"))
    loud = [row["rms_db"] for _, row in measured if row["key"] in keys and row["rms_db"] is not None]
    most = 100 * math.ceil(max(sizes, default=1.0) / 100)
    full = sum(one >= length_s for one in valid)
    drawn = [
        (
            "Length",
            f"Seconds until padding begins; {full:,} of {len(rows):,} fill all {length_s:g} s.",
            histogram(valid, 0, length_s, bins=BINS, unit="s"),
        ),
        (
            "Loudness",
            "RMS of the sound that is not padding, in dB below full scale.",
            histogram(loud, QUIET_DB, LOUD_DB, bins=(LOUD_DB - QUIET_DB) // STEP_DB, unit="dB"),
        ),
        (
            "Size",
            f"Kilobytes of a sample's members; {sum(sizes) / max(len(sizes), 1):,.0f} on average.",
            histogram(sizes, 0, most, bins=BINS, unit="kB"),
        ),
    ]
    return [Chart(name, lead, Markup(svg)) for name, lead, svg in drawn]  # noqa: S704  (numbers only)


def funnel_table(funnel: Funnel) -> list[tuple[str, str, int]]:
    """(name, meaning, count), one row per term and reason of the law."""
    table = [
        ("segments", "requested", funnel["segments"]),
        ("in shards", "in this version", funnel["in_shards"]),
    ]
    for fate, meaning in MEANINGS.items():
        by_count = sorted(funnel[fate].items(), key=lambda one: -one[1])
        table += [(f"{fate}: {reason}", meaning, count) for reason, count in by_count]
    return [*table, ("forgotten", "taken down on request", funnel["forgotten"])]


def _checks(root: Path) -> list[dict[str, Any]]:
    """The findings of the last run of the suites, in the order of the manifests."""
    folder = root / layout.VALIDATION
    checks = []
    for manifest in layout.JUDGED:
        path = folder / f"{manifest}.json"
        if path.is_file():
            found = read_json(path)["expectations"]
            checks += [{**one, "manifest": manifest} for one in found]
    return checks


def has_media(root: Path, digest: str) -> bool:
    """Whether the page of a version embeds frames and sounds."""
    path = root / layout.VERSIONS / f"{digest}.html"
    text = path.read_text() if path.is_file() else ""
    return any(f"data:{kind}/" in text for kind in ("audio", "image", "video"))


def kept_on_card(root: Path, digest: str) -> int:
    """How many samples of earlier code or tools the page of a version mentions."""
    path = root / layout.VERSIONS / f"{digest}.html"
    with path.open("rb") as page:  # a page with media may be large
        found = KEPT.search(page.read(HEAD_BYTES))
    return int(found[1]) if found else 0


def _markdown() -> jinja2.Template:
    environment = jinja2.Environment(trim_blocks=True)  # noqa: S701  (Markdown: foreign text goes by _cell)
    return environment.from_string((Path(__file__).parent / "card.md").read_text())


def _page() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    # Labels and keys come from strangers: everything that is not made here is escaped.
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": _number, "time": _time}
    return environment.get_template("card.html")


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"  # noqa: PLR2004


def _time(hours: float) -> str:
    """Hours in readable form: `12.3 h`, or `5 min` below an hour."""
    return f"{_number(hours)} h" if hours >= 1 else f"{60 * hours:,.2g} min"


def _paths(version: Version) -> dict[str, list[str]]:
    """The tars of each split, as the README of the root names them."""
    splits = dict.fromkeys(shard.split for shard in version.shards)
    return {
        split: [f"{layout.SHARDS}/{shard.name}.tar" for shard in version.of_split(split)] for split in splits
    }


def _write_readme(path: Path, card: str) -> None:
    """Writes the card as README, but never over a user's own."""
    if not path.is_file() or OURS in path.read_text():
        write_text(path, card)


def _funnel_lines(counts: Funnel) -> Iterator[str]:
    yield f"{counts['segments']} segments = {counts['in_shards']} in shards"
    for fate in MEANINGS:
        reasons = ", ".join(f"{reason} {n}" for reason, n in counts[fate].items())
        yield f"+ {sum(counts[fate].values())} {fate}" + (f" ({reasons})" if reasons else "")
    yield f"+ {counts['forgotten']} forgotten"


def _cell(text: str) -> str:
    """A label as a cell of a Markdown table: foreign text that can't end the cell, make a link or contain markup."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    escaped = MARKS.sub(r"\\\g<0>", plain.replace("&", "&amp;").replace("<", "&lt;"))
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")  # otherwise these would become links
