"""The options of a build: one dataclass for the command line, for Prefect's form and for Python."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from flows.arguments import Option, Root, State
from flows.presets import PRESETS
from schemas.errors import RequestError
from schemas.layout import STAGE_NAMES
from tasks.lists.selection import Choice
from tasks.parts import Only
from tasks.sources import forms

NO_LABELS = ("none",)  # no label at all, not even the names of folders

Preset = Annotated[
    str | None,
    Option(
        "a complete configuration: demo, tiny, small, standard, lean, dense, video, seed or multisensory; default: the "
        "preset of the last build of ROOT",
        choices=lambda: PRESETS,
    ),
]
Compute = Annotated[
    str,
    Option(
        "local (a Dask cluster on this machine, the default), threads (no crash containment) or tcp://scheduler:8786",
        "C",
        pattern=r"^(local|threads|[a-z]+://[^\s/]+:[0-9]+)$",
    ),
]


@dataclass(frozen=True)
class BuildOptions:
    """The options of a build; None means what the root was last built with."""

    root: Root
    preset: Preset = None
    segments: Annotated[
        tuple[str, ...],
        Option(
            "lists of segments (AudioSet's, VGGSound's, AVE's or your own): CSV in any dialect, JSON lines, Parquet",
            "LIST",
        ),
    ] = ()
    source: Annotated[
        str | None,
        Option(
            f"where media come from: {', '.join(forms())}; secrets in an address as {{env:NAME}} or {{block:NAME}}",
            "S",
        ),
    ] = None
    window: Annotated[
        float | None,
        Option(
            "cut the videos of folder:PATH, and files that a list names without times, into windows of this length",
            "SECONDS",
        ),
    ] = None
    val_share: Annotated[
        float | None,
        Option("share of the videos for validation, if no list says which (0.1 for your own files)", "SHARE"),
    ] = None
    eval_share: Annotated[
        float | None,
        Option("share of the videos for evaluation, if no list says which (0.1 for your own files)", "SHARE"),
    ] = None
    labels: Annotated[
        tuple[str, ...],
        Option(
            "take only segments with one of these labels (names or machine ids) or with a label below one of them in "
            "the ontology; all: every segment; none: the names of folders are not labels",
            "NAME",
        ),
    ] = ()
    per_class: Annotated[int | None, Option("at most N segments per label in each split", "N")] = None
    sample: Annotated[
        int | None, Option("at most N segments in each split, spread evenly over the labels", "N")
    ] = None
    from_stage: Annotated[
        str | None,
        Option(
            "start at this stage: " + ", ".join(STAGE_NAMES),
            "STAGE",
            flag="--from",
            choices=lambda: STAGE_NAMES,
        ),
    ] = None
    only: Annotated[Only, Option("which parts of the dataset to build")] = "all"
    parts: Annotated[
        str | None,
        Option(
            "build only the parts with these numbers",
            "3,7-9",
            pattern=r"^\s*\d+(-\d+)?\s*(,\s*\d+(-\d+)?\s*)*$",
        ),
    ] = None
    compute: Compute = "local"
    state: State = None
    refetch: Annotated[
        bool,
        Option("download again media that were not kept, if other code, tools or another preset need them"),
    ] = False
    retry: Annotated[
        tuple[str, ...],
        Option(
            "retry now what is missing of these classes (as `mcgurk failures` names them) or videos, whatever the "
            "verdict",
            "CLASS|VIDEO_ID",
        ),
    ] = ()
    receipt: Annotated[
        str | None,
        Option(
            "build the version of this receipt (versions/DIGEST.receipt.parquet of another root): its segments in its "
            "slots, with its profile and rules; and explain each difference",
            "FILE",
        ),
    ] = None
    strict: Annotated[bool, Option("stop at a malformed line of a list")] = False
    growth: Annotated[
        float | None,
        Option(
            "train on a served root when its version has grown by this share since the last training (default 0.2), or "
            "after a week",
            "SHARE",
        ),
    ] = None
    with_media: Annotated[bool, Option("embed some frames and sounds in the data card")] = False

    @property
    def choice(self) -> Choice:
        """Which segments of the lists are taken."""
        labels = () if self.labels == NO_LABELS else tuple(self.labels)
        return Choice(labels, self.per_class, self.sample)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stages from `--from` on."""
        return STAGE_NAMES[STAGE_NAMES.index(self.from_stage or STAGE_NAMES[0]) :]

    @property
    def part_numbers(self) -> Sequence[int] | None:
        """The numbers in `--parts 3,7-9`; None for all. Raises RequestError."""
        if not self.parts:
            return None
        numbers: list[int] = []
        for piece in self.parts.split(","):
            match = re.fullmatch(r"(\d+)(?:-(\d+))?", piece.strip())
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if last < first:
                raise RequestError(f"--parts {self.parts}: write numbers and ranges as 3,7-9")
            numbers += range(first, last + 1)
        return numbers
