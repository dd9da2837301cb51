"""A copy of the program with files added, run in a process of its own: what a person's new plug-in would meet."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "tasks")


def copied_with(folder: Path, added: Mapping[str, str]) -> Path:
    """Copies `schemas` and `tasks` to `folder`, with the files `added` (path -> text)."""
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in added.items():
        (folder / name).write_text(text)
    return folder


def run_in(folder: Path, script: str, *arguments: object) -> str:
    """What a Python script prints under the copy in `folder`."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY / 'tests' / 'support'}"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
