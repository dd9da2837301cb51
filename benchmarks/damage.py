"""`python -m benchmarks.damage`: every kind of file under a root, damaged in every way: what is named, what comes back.

For each pair of a kind and a way the root is copied, a file of that kind is damaged, and `mcgurk verify` and then
`mcgurk verify --mend` run over it. *Mended* means that every file under the root has its old bytes again.
"""

import contextlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from roots import write_clips

from flows.commands.verify import Options, run
from schemas.errors import McgurkError
from schemas.files import sha256_of_file

IDS = ["first", "second", "third", "fourth", "fifth"]
# How it ended
MENDED = "mended"  # every file has its old bytes
ANEW = "rebuilt"  # verify is content, and a record has other dates or names fewer lists
NAMED = "named"  # it is not here: `left` says why, and what brings it back
DIGEST = "[0-9a-f]" * 64
LABELS = "index,mid,display_name\n0,/m/09x0r,Speech\n1,/m/04rlf,Music\n"

# Kind -> a pattern under the root; the first file is taken that has bytes.
KINDS = {
    "part of the index": "segments/000000.parquet",
    "inventory of parts": "segments/parts.json",
    "list of lists": "segments/lists.json",
    "table of labels": "segments/class_labels_indices.csv",
    "tombstones": "segments/forgotten.json",
    "validated segments": "segments/checked/000000.parquet",
    "part of clips": "clips/000000.parquet",
    "validated clips": "clips/checked/000000.parquet",
    "clip": "clips/media/*/*",
    "part of features": "features/000000.parquet",
    "feature file": "features/audio/000000.arrow",
    "validated features": "features/checked/000000.parquet",
    "part of shards": "shards/000000.parquet",
    "tar": "shards/*.tar",
    "sidecar": "shards/*-*.parquet",
    "record of a version": f"versions/{DIGEST}.json",
    "list of tars": f"versions/{DIGEST}.txt",
    "duplicates": "versions/*.duplicates.parquet",
    "receipt": "versions/*.receipt.parquet",
    "exclusion list": "versions/*.exclude.txt",
    "Croissant file": "versions/*.croissant.json",
    "latest.json": "versions/latest.json",
    "history": "versions/history.jsonl",
    "report of a validation": "reports/validation/clips.json",
}


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def _zeroed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    begin = len(content) // 4
    content[begin : begin + 512] = bytes(len(content[begin : begin + 512]))
    path.write_bytes(content)


WAYS: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a bit flipped": _flipped,
    "zeros inside": _zeroed,
    "other bytes": lambda path: path.write_bytes(b"\x8f" * path.stat().st_size),
}


@dataclass(frozen=True)
class Cell:
    """What became of one damage."""

    kind: str
    way: str
    is_named: bool
    end: str
    left: dict[str, str]  # path -> why it can't come back
    error: str = ""  # what stopped verify or its mending, or which files are not as before


def build_root(folder: Path, mcgurk: Callable[..., object]) -> Path:
    """A root of a few clips, one of whose videos was taken down; `mcgurk` runs a command."""
    lists = write_clips(folder / "clips", IDS)
    (folder / "clips" / "class_labels_indices.csv").write_text(LABELS)
    root = folder / "root"
    source = f"folder:{folder / 'clips'}"
    options = ["--preset", "tiny", "--source", source, "--val-share", "0", "--compute", "threads"]
    mcgurk("build", "--root", str(root), *options, "--segments", *map(str, lists))
    mcgurk("forget", IDS[-1], "--root", str(root))
    return root


def _command(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "flows.commands.cli", *arguments], check=True, stdout=subprocess.DEVNULL
    )


def state_of(root: Path) -> dict[str, str]:
    """The sha256 of every file under a root but its state, and pages and reports, which a build writes anew."""
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix not in (".html", ".md"))
    return {
        str(path.relative_to(root)): sha256_of_file(path)
        for path in files
        if path.relative_to(root).parts[0] not in ("state", "reports")
    }


def cells(root: Path, kinds: dict[str, str], ways: dict[str, Callable[[Path], object]]) -> Iterator[Cell]:
    """What becomes of each kind damaged in each way; each in a copy of `root`."""
    before = state_of(root)
    for kind, pattern in kinds.items():
        for way, damage in ways.items():
            with tempfile.TemporaryDirectory(dir=root.parent) as folder:
                copy = shutil.copytree(root, Path(folder) / "root", symlinks=True)
                path = next(one for one in sorted(copy.glob(pattern)))
                if path.stat().st_size or way == "deleted":
                    damage(path)
                    yield Cell(kind, way, *_judged(copy, path, before))


def _judged(root: Path, path: Path, before: dict[str, str]) -> tuple[bool, str, dict[str, str], str]:
    where = str(path.relative_to(root))
    try:
        named = _said(root, mend=False)["differences"]
        said = _said(root, mend=True)
    except McgurkError as error:
        return str(path) in str(error), NAMED, {}, str(error)
    names = (where, path.name, f"({path.suffix})")
    is_named = any(name in f"{one['where']} {one['problem']}" for name in names for one in named)
    if said["differences"]:
        return is_named, NAMED, said.get("left", {}), ""
    now = state_of(root)
    others = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return (
        is_named,
        ANEW if others else MENDED,
        said.get("left", {}),
        f"not as before: {others}" if others else "",
    )


def _said(root: Path, *, mend: bool) -> dict:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        run(Options(str(root), mend=mend, compute="threads", json=True))
    return json.loads(output.getvalue())


def main() -> None:
    """Prints the matrix as Markdown."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = build_root(Path(folder), _command)
        found = list(cells(root, KINDS, WAYS))
    print(f"| kind | {' | '.join(WAYS)} |\n|---|{'---|' * len(WAYS)}")
    for kind in KINDS:
        of_kind = {one.way: one for one in found if one.kind == kind}
        print(f"| {kind} | {' | '.join(_text(of_kind.get(way)) for way in WAYS)} |")
    for one in found:
        if not one.is_named or one.end != MENDED:
            print(f"{one.kind}, {one.way}: {one.end}; {one.error or one.left}", file=sys.stderr)
    ends = Counter(one.end for one in found)
    named = sum(one.is_named for one in found)
    print(f"{len(found)} damages, {named} named, {dict(ends)}, {time.monotonic() - began:.0f} s")


def _text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return cell.end if cell.is_named else f"**not named**, {cell.end}"


if __name__ == "__main__":
    main()
