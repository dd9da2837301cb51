"""The media files below a folder, and what was skipped there and why.

Links to regular files are followed and counted. Folders behind links (and so loops), FIFOs and devices are not opened.
"""

import logging
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tasks.files.suffixes import AUDIO_SUFFIXES, MEDIA_SUFFIXES

log = logging.getLogger(__name__)

OURS = {"build.json", "root.json"}  # every root or state folder of this program has one of them
SHOWN = 12  # kinds of what was skipped


@dataclass
class Walked:
    """The media files by their names relative to the folder, pictures before sounds, in order."""

    names: list[str] = field(default_factory=list)
    num_links: int = 0  # of them
    passed: Counter[str] = field(default_factory=Counter)  # what -> how many

    @property
    def summary(self) -> str:
        """How many files were taken, and what was skipped, in a sentence."""
        links = f" ({self.num_links:,} behind links)" if self.num_links else ""
        ordered = sorted(self.passed.items(), key=lambda one: (-one[1], one[0]))
        kinds = [f"{count:,} {kind}" for kind, count in ordered[:SHOWN]]
        left = sum(count for _, count in ordered[SHOWN:])
        kinds += [f"{left:,} more"] if left else []
        over = f"; skipped {', '.join(kinds)}" if kinds else "; nothing was skipped"
        return f"{len(self.names):,} media files{links}{over}"


def walk(folder: Path) -> Walked:
    """The media files below `folder`, at any depth."""
    found = Walked()
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        try:
            with os.scandir(folder / inner) as entries:
                listed = list(entries)
        except OSError:
            found.passed["folder(s) that can't be read"] += 1
            continue
        if inner and OURS & {entry.name for entry in listed}:
            found.passed["root(s) of mcgurk"] += 1
            continue
        for entry in listed:
            name = f"{inner}{entry.name}"
            if entry.name.startswith("."):
                found.passed["hidden"] += 1
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(f"{name}/")
            elif reason := _why_not(entry, name):
                found.passed[reason] += 1
            else:
                found.names.append(name)
                found.num_links += entry.is_symlink()
    found.names.sort(key=lambda name: (_suffix(name) in AUDIO_SUFFIXES, name))
    return found


def _why_not(entry: os.DirEntry, name: str) -> str:
    """Why a file is skipped; empty if it is taken."""
    if not entry.is_file(follow_symlinks=False):
        try:
            mode = entry.stat().st_mode
        except OSError:
            return "link(s) that lead nowhere"
        if stat.S_ISDIR(mode):
            return "link(s) to folders"
        if not stat.S_ISREG(mode):
            return "pipe(s), socket(s) or device(s)"
    suffix = _suffix(entry.name)
    if suffix not in MEDIA_SUFFIXES:
        return suffix[:20] if suffix.isprintable() and suffix else "without a suffix"
    if not name.isprintable():  # no list could hold it
        log.warning("left out %r: its name cannot be printed", name)
        return "name(s) that cannot be printed"
    return ""


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  (a tenth of what a Path costs, 200,000 times)
