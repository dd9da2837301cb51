"""What a user asks of a build, and what a root remembers of it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.manifest import canonical_json, write_text
from tasks.choice import Choice
from tasks.parts import Only

REMEMBERED = "build.json"
CHOICE = ("labels", "per_class", "sample")
WITHOUT_LISTS = ("window", *CHOICE)  # go with what they were named beside
ON_DISK = ("folder", "tars")
KEPT = ("preset", "source", *WITHOUT_LISTS)


@dataclass(frozen=True)
class BuildOptions:
    """What a user asks of a build; `parts` as `3,7-9`."""

    root: str
    preset: str | None = None  # None: what the root was last built with, else standard
    segments: tuple[str, ...] = ()
    source: str | None = None
    window: float | None = None  # seconds: the videos of a folder are cut in such, and no list is needed
    labels: tuple[str, ...] = ()  # names or machine ids, each with what stands below it
    per_class: int | None = None  # segments of each label
    sample: int | None = None  # segments, of each label as many as of any other
    from_stage: str | None = None
    only: Only = "all"
    parts: str | None = None
    compute: str = "local"
    state: str | None = None
    strict: bool = False
    with_media: bool = False  # into the data card; the studio's always

    @property
    def choice(self) -> Choice:
        """Which segments of the lists are taken."""
        return Choice(tuple(self.labels), self.per_class, self.sample)


def remember(state: Path, options: BuildOptions) -> None:
    """Keeps what says how a root is built, so that it is built the same when nothing of it is named."""
    kept = {name: getattr(options, name) for name in KEPT if getattr(options, name)}
    path = state / REMEMBERED
    if not path.is_file() or path.read_text() != canonical_json(kept):
        write_text(path, canonical_json(kept))


def with_remembered(options: BuildOptions, state: Path) -> BuildOptions:
    """The options with their source in full, and what the root remembers where they name no preset.

    Windows and a choice of segments go with the lists or the source that they were named beside.
    """
    path, options = state / REMEMBERED, replace(options, source=_in_full(options.source))
    if options.preset or not path.is_file():
        return options
    kept = json.loads(path.read_text())
    kept["source"] = _in_full(kept.get("source"))
    if options.segments or options.source not in (None, kept.get("source")):
        kept = {name: value for name, value in kept.items() if name not in WITHOUT_LISTS}
    if not options.choice.is_all:
        kept = {name: value for name, value in kept.items() if name not in CHOICE}
    kept |= {"labels": tuple(kept.get("labels", ()))}
    return replace(options, **{name: value for name, value in kept.items() if not getattr(options, name)})


def _in_full(source: str | None) -> str | None:
    """A source on disk with its absolute path: what a schedule runs stands in another folder."""
    kind, _, path = (source or "").partition(":")
    return f"{kind}:{Path(path).expanduser().absolute()}" if kind in ON_DISK and path else source
