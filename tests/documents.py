"""Snippets of the documents, run as a reader would run them."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


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
