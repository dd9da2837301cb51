"""The data card of a version: what it holds, how it came to be, and how to read it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import jinja2

from schemas.manifest import part_numbers, part_path, read_part, write_text
from schemas.outcome import Outcome
from schemas.shard import Version, read_facts

Labels = Mapping[str, tuple[int, str]]  # machine id -> index, display name


def write_card(root: Path, version: Version, labels: Labels, *, with_media: bool = False) -> Path:
    """The data card of a version: what it holds, how it came to be, and how to read it."""
    per_split: Counter = Counter()
    for shard in version.shards:
        per_split[shard.split] += shard.num_samples
    named = [(_cell(labels.get(mid, (0, mid))[1]), n) for mid, n in _label_counts(root).most_common()]
    environment = jinja2.Environment(trim_blocks=True)  # noqa: S701  (Markdown: foreign text goes by _cell)
    template = environment.from_string((Path(__file__).parent / "card.md").read_text())
    funnel_lines = list(_funnel_lines(read_facts(root, version.digest)["funnel"]))
    card = template.render(version=version, per_split=per_split, labels=named, funnel=funnel_lines)
    path = root / "versions" / f"{version.digest}.md"
    write_text(path, card)
    return path


def has_media(root: Path, digest: str) -> bool:
    """Whether the page of a version embeds frames and sounds."""
    path = root / "versions" / f"{digest}.html"
    return path.is_file() and "data:audio/" in path.read_text()


def _funnel_lines(counts: dict) -> Iterator[str]:
    yield f"{counts['segments']} segments = {counts['in_shards']} in shards"
    for fate in ("quarantined", "unavailable", "waiting"):
        told = ", ".join(f"{reason} {n}" for reason, n in counts[fate].items())
        yield f"+ {sum(counts[fate].values())} {fate}" + (f" ({told})" if told else "")
    yield f"+ {counts['forgotten']} forgotten"


def _label_counts(root: Path) -> Counter:
    counts: Counter = Counter()
    for part in part_numbers(root / "shards"):
        for row in read_part(part_path(root / "shards", part), ("outcome", "labels")):
            if row["outcome"] == Outcome.OK:
                counts.update(row["labels"])
    return counts


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")  # a label is foreign text
