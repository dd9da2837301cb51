"""The blocks of the documents: which there are, and running them as a reader would."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(
    str(path.relative_to(REPOSITORY))
    for path in (*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"))
)
LISTS = "balanced_train_segments.csv eval_segments.csv"
BEFORE = f"mcgurk build --root {{root}} --preset {{preset}} --source folder:videos --segments {LISTS}"
# The pages whose console blocks are typed (tests/flows/test_document_blocks.py) -> what their reader has done before,
# where it does not begin with an empty folder.
TYPED = {
    "README.md": "",
    "docs/first-hour.md": BEFORE.format(
        root="demo", preset="small"
    ),  # in place of the demo, which takes minutes
    "docs/own-videos.md": "",
    "docs/audioset.md": BEFORE.format(root="data", preset="small"),
    "docs/receipts.md": BEFORE.format(root="data", preset="small"),
    "docs/lists.md": BEFORE.format(root="data", preset="small"),
    "docs/operating.md": "",
    "docs/clusters.md": "",
    "docs/training.md": BEFORE.format(root="R", preset="multisensory"),
}
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<language>[^\n`]*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `why` it is not run, else empty."""

    page: str
    line: int
    language: str
    code: str
    why: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, from its top."""
    text = (REPOSITORY / page).read_text()
    return [
        Block(
            page,
            text.count("\n", 0, found.start("language")) + 1,
            *found.group("language", "code"),
            found["why"] or "",
        )
        for found in FENCE.finditer(text)
    ]


def in_fresh_shell(snippet: str, folder: Path) -> str:
    """What the snippet prints where nothing is set in the environment, in a process that must end well."""
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=folder, env={}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def output_of(snippet: str, folder: Path, **environment: str) -> str:
    """What the snippet prints in a process of its own, that must end well."""
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
