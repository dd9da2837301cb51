"""Labels: AudioSet's table (machine id -> index and display name) and its ontology (categories and subcategories).

Both are copied from beside a list into the root: later runs name labels the same way, whatever lists they get.
"""

import csv
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

from schemas.errors import DataError, RequestError
from schemas.files import read_json, sha256_of_file, write_json, write_text

FILE = "class_labels_indices.csv"
DIGESTS = "labels.json"  # beside the kept files: their sha256
REMEDY = f"remove it, and a build with its list restores it; without {DIGESTS} it is read unchecked"
ONTOLOGY = "ontology.json"  # as AudioSet publishes it: a list of {id, name, child_ids}
MACHINE_ID = "/"  # what every machine id begins with, such as /m/04szw; names in other lists don't
COLUMNS = {"index", "mid", "display_name"}
NODE = {"id", "name", "child_ids"}
NEAR = 3  # number of names that an error suggests


Labels = Mapping[str, tuple[int, str]]
Ontology = Mapping[str, dict]


def find_labels(kept: Path, lists: Iterable[Path]) -> dict[str, tuple[int, str]]:
    """The table in the folder `kept`, else beside one of the segment lists; empty if there is none.

    Raises DataError if the kept table has changed since it was kept.
    """
    _require_as_kept(kept, FILE)
    found = _find(FILE, kept, lists)
    return read_labels(found) if found else {}


def find_ontology(kept: Path, lists: Iterable[Path]) -> dict[str, dict]:
    """The nodes of the ontology by machine id, searched for in the same places; empty if there is none."""
    _require_as_kept(kept, ONTOLOGY)
    found = _find(ONTOLOGY, kept, lists)
    return read_ontology(found) if found else {}


def keep_labels(kept: Path, lists: Iterable[Path]) -> None:
    """Copies table and ontology into `kept` if they are not there yet."""
    for name, read in ((FILE, read_labels), (ONTOLOGY, read_ontology)):
        found = _find(name, kept, lists)
        if found and found.parent != kept:
            read(found)
            _keep(kept / name, found.read_text(encoding="utf-8"))


def put_labels(kept: Path, labels: Labels) -> None:
    """Writes a table into `kept`, in AudioSet's published format, if there are any labels and no table yet."""
    if labels and not (kept / FILE).is_file():
        text = StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("index", "mid", "display_name"))
        rows.writerows((number, mid, name) for mid, (number, name) in sorted(labels.items()))
        _keep(kept / FILE, text.getvalue())


def _keep(path: Path, text: str) -> None:
    """Writes a file after its digest: a kill between the two leaves nothing to read."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_json(path.parent / DIGESTS, {**_digests(path.parent), path.name: digest})
    write_text(path, text)


def _digests(kept: Path) -> dict[str, str]:
    """The recorded digests of table and ontology; empty for a folder from before there were any."""
    path = kept / DIGESTS
    return read_json(path, REMEDY) if path.is_file() else {}


def damaged_labels(kept: Path) -> dict[str, str]:
    """What is wrong with table and ontology in `kept`, by file name. Raises DataError if that can't be determined."""
    found = {}
    for name, digest in _digests(kept).items():
        path = kept / name
        if not path.is_file():
            found[name] = "is gone"
        elif sha256_of_file(path) != digest:
            found[name] = "has changed since it was kept"
    return found


def _require_as_kept(kept: Path, name: str) -> None:
    path = kept / name
    digest = _digests(kept).get(name)
    if digest and path.is_file() and sha256_of_file(path) != digest:
        raise DataError(f"{path} is damaged, or was edited; {REMEDY}")


def machine_ids(
    categories: Iterable[str], labels: Labels, ontology: Ontology, others: Collection[str] = ()
) -> frozenset[str]:
    """The labels of categories given by name or machine id, including all their subcategories.

    `others` are further known labels: those of a list. Raises RequestError for an unknown category, with similar names.
    """
    names = {name: mid for mid, (_, name) in labels.items()} | {n["name"]: mid for mid, n in ontology.items()}
    known = {*labels, *ontology, *others}
    given = list(categories)
    waiting = [names.get(name, name) for name in given] + [name for name in given if name in others]
    found = set()
    for mid in waiting:
        if mid not in known:
            raise RequestError(f"unknown label or category {mid!r}{_near(mid, {*names, *others})}")
    while waiting:
        mid = waiting.pop()
        if mid not in found:
            found.add(mid)
            waiting += ontology.get(mid, {}).get("child_ids", [])
    return frozenset(found)


def _near(name: str, names: Collection[str]) -> str:
    """A question that suggests similar names; empty if there are none."""
    by_lower = {one.lower(): one for one in names}
    near = get_close_matches(name.lower(), by_lower, n=NEAR)
    holding = [lower for lower in sorted(by_lower) if name.lower() in lower][:NEAR]
    found = [repr(by_lower[lower]) for lower in dict.fromkeys([*near, *holding])][:NEAR]
    return f": did you mean {' or '.join(found)}?" if found else ""


def _find(name: str, kept: Path, lists: Iterable[Path]) -> Path | None:
    tables = (folder / name for folder in (kept, *(path.parent for path in lists)))
    return next((path for path in tables if path.is_file()), None)


def read_ontology(path: Path) -> dict[str, dict]:
    """The nodes in `path` by machine id. Raises DataError if it is not an ontology."""
    try:
        nodes = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(nodes, list) or not all(map(_is_node, nodes)):
        raise DataError(f"{path}: not a list of nodes with {', '.join(sorted(NODE))}")
    return {node["id"]: node for node in nodes}


def _is_node(node: object) -> bool:
    if not isinstance(node, dict) or not node.keys() >= NODE:
        return False
    texts = node["child_ids"] if isinstance(node["child_ids"], list) else [None]
    return all(isinstance(text, str) for text in (node["id"], node["name"], *texts))


def read_labels(path: Path) -> dict[str, tuple[int, str]]:
    """The table in `path`. Raises DataError if it is not a table."""
    with path.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if not set(rows.fieldnames or ()) >= COLUMNS:
            raise DataError(f"{path}: its first line must name the columns index,mid,display_name")
        return dict(_label(row, f"{path}:{rows.line_num}") for row in rows)


def _label(row: dict[str, str | None], where: str) -> tuple[str, tuple[int, str]]:
    index = row["index"]
    mid = row["mid"]
    name = row["display_name"]
    if not (index and index.isdecimal() and mid and name):
        raise DataError(f"{where}: not of the form index,mid,display_name")
    return mid, (int(index), name)
