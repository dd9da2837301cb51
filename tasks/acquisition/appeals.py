"""Appeals: which verdicts on segments that are in no shard are reopened, due or not.

A person names a class or a video. A verdict about a file of a person's own is also reopened if the file has changed:
its row keeps the stamp of the file that was judged.
"""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import RequestError
from schemas.layout import CLIPS
from schemas.manifest import part_numbers
from schemas.outcome import Outcome
from tasks.columns import read_columns
from tasks.funnel import PENDING, VERDICT, verdicts
from tasks.sources import module_of
from tasks.transport.failure_classes import CLASSES, DAMAGED

Reopened = Mapping[int, Collection[str]]  # part -> keys
NOTHING: Reopened = {}
SETTLED = (Outcome.OK.value, Outcome.FORGOTTEN.value)


def stamps_of(source: str, state: Path) -> Callable[[str], str] | None:
    """A function that identifies the local file of a video by the video's id; None for a source that is not a disk."""
    stamps = getattr(module_of(source), "stamps", None)
    return stamps(source, state) if stamps else None


def reopened(root: Path, state: Path, source: str, names: Collection[str] = ()) -> Reopened:
    """The segments to try again: of the classes and videos `names`, and those whose local file has changed.

    Raises RequestError for a name that is neither a class nor a video that is missing.
    """
    stamps = stamps_of(source, state)
    if not names and stamps is None:
        return {}
    lost = {row["key"]: row["reason"] for row in _lost(root)}
    found: dict[int, set[str]] = {}
    known = {*CLASSES, DAMAGED, *lost.values()}
    for part in part_numbers(root / CLIPS) if lost else ():
        table = read_columns(root / CLIPS, [part], ("key", "video_id", "stamp"))
        for row in table.filter(pc.is_in(table["key"], value_set=pa.array(lost))).to_pylist():
            known.add(row["video_id"])
            is_named = row["video_id"] in names or lost[row["key"]] in names
            if is_named or (stamps and (row["stamp"] or "") != stamps(row["video_id"])):
                found.setdefault(part, set()).add(row["key"])
    if unknown := sorted(set(names) - known):
        raise RequestError(
            f"--retry {unknown[0]}: neither a class of failure nor a video that is missing here; "
            "`mcgurk failures` lists both"
        )
    return found


def _lost(root: Path) -> Iterator[dict[str, str]]:
    """The verdicts against segments; a segment that is merely unfinished has none."""
    for table in verdicts(root, read_columns, VERDICT):
        is_settled = pc.or_(
            pc.is_in(table["outcome"], value_set=pa.array(SETTLED)), pc.equal(table["reason"], PENDING)
        )
        yield from table.filter(pc.invert(is_settled)).to_pylist()
