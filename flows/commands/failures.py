"""`mcgurk failures`: every segment that is in no shard: why, on what evidence, and what to do about it."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from typing import Annotated

from flows.arguments import Json, Option, Root
from flows.builds.memory import find_state
from flows.commands.announce import require_segments
from schemas.storage import open_root
from tasks.acquisition.recheck import Mark, gone
from tasks.failures import Failure, failures

EXAMPLE = "mcgurk failures --root data --csv > failures.csv"
IS_LONG = False
MOST_OF_A_CLASS = 10  # that are printed


@dataclass(frozen=True)
class Options:
    """Of which root, and in which form."""

    root: Root
    csv: Annotated[bool, Option("all of them as CSV, for a spreadsheet")] = False
    json: Json = False


def run(options: Options) -> int:
    """Prints some of each class, or all of them as CSV or JSON."""
    root = open_root(options.root)
    require_segments(root)
    state = find_state(root, None)
    found = list(failures(root, state))
    if options.json:
        print(json.dumps([asdict(one) for one in found]))
    elif options.csv:
        table = csv.DictWriter(sys.stdout, [field.name for field in fields(Failure)])
        table.writeheader()
        table.writerows(asdict(one) for one in found)
    else:
        print(failures_text(found))
        if marks := gone(state) if state else []:
            print(gone_text(marks))
    return 0


def failures_text(found: Sequence[Failure]) -> str:
    """A paragraph for each class, the largest first: how many, what to do, and some of them with their evidence."""
    ordered = sorted(found, key=lambda one: (one.outcome, one.reason))
    classes = [list(group) for _, group in groupby(ordered, key=lambda one: (one.outcome, one.reason))]
    count = sum(bool(one.key) for one in found)
    lines = [f"{count:,} segment(s) in no shard" if count else "every segment is in a shard"]
    for some in sorted(classes, key=len, reverse=True):
        first = some[0]
        lines += ["", f"{len(some):,} {first.outcome}: {first.reason}", f"  -> {first.remedy}"]
        for one in some[:MOST_OF_A_CLASS]:
            said = (one.key, one.original, one.file, one.evidence)
            lines.append("     " + "  ".join(word for word in said if word))
        if len(some) > MOST_OF_A_CLASS:
            lines.append(f"     and {len(some) - MOST_OF_A_CLASS:,} more: --csv has them all")
    return "\n".join(lines)


def gone_text(marks: Sequence[Mark]) -> str:
    """The videos held here that a recheck found gone at their source."""
    lines = ["", f"{len(marks):,} video(s) held here are gone at their source"]
    lines.append(
        "  -> nothing is lost; recheck --drop-removed takes down what another recheck also finds gone"
    )
    lines += [f"     {one.video_id}  {one.reason}: {one.detail}".rstrip() for one in marks[:MOST_OF_A_CLASS]]
    if len(marks) > MOST_OF_A_CLASS:
        lines.append(f"     and {len(marks) - MOST_OF_A_CLASS:,} more: STATE/rechecks.jsonl has them all")
    return "\n".join(lines)
