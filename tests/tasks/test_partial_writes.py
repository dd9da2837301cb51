"""What a killed writer left goes under the lease of its folder; what stands, and what is somebody's own, stays."""

import os
import signal
import subprocess
import sys

import pytest
from real_servers import REPOSITORY
from roots import Root, write_clips

from tasks.leases import FOLDERS, NAMES, remove_partial_writes
from tasks.versions.prune import prune
from tasks.versions.verify import verify

WRITER = """
import os, signal, sys
from pathlib import Path
from tempfile import TemporaryDirectory
from schemas.storage import SCRATCH, replacing
with TemporaryDirectory(prefix=SCRATCH, dir=sys.argv[2]), replacing(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "media"
    root = Root(tmp_path / "root", f"folder:{folder}", write_clips(folder, ["a", "b"]))
    root.build()
    return root


def files(root):
    """All but the state, where leases leave their names."""
    names = {str(path.relative_to(root.path)) for path in root.path.rglob("*")}
    return {name for name in names if not name.startswith("state")}


def killed_while_writing(path):
    command = [sys.executable, "-c", WRITER, str(path), str(path.parent)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["lanes/direct.json", "attempts/000000.parquet"])
def test_the_next_download_removes_what_a_killed_one_left_in_the_state_folder(root, name):
    path = root.state / name
    killed_while_writing(path)
    assert [one for one in path.parent.iterdir() if one.name.startswith(".")]
    next((root.path / "clips" / "media").rglob("*.mkv")).unlink()

    assert root.run("download") == [0]

    assert [one for one in path.parent.iterdir() if one.name.startswith(".")] == []


def test_prune_removes_what_a_killed_pack_left(root):
    before = files(root)
    killed_while_writing(root.path / "shards" / "000000.parquet")
    fragment = root.path / "features" / "audio" / ".000000-000003.arrow"
    fragment.write_bytes(b"of a batch")
    assert len(files(root) - before) == 3

    prune(root.path, root.state)

    assert files(root) == before
    assert not verify(root.path, map).differences


def test_a_lease_covers_its_own_folders_only(root):
    places = {
        "segments": "segments/checked/000000",
        "clips": "clips/media/000000/a",
        "features": "versions/x",
    }
    for place in places.values():
        killed_while_writing(root.path / place)

    for name, place in places.items():
        folder = (root.path / place).parent
        assert any(path.name.endswith(".tmp") for path in folder.glob(".*"))
        remove_partial_writes(root.path, name)
        assert list(folder.glob(".*")) == []


def test_files_of_somebody_else_stay(root):
    for name in (".gitignore", ".notes.tmp", ".cache"):
        (root.path / name).write_text("mine")
    before = files(root)

    remove_partial_writes(root.path, *NAMES)

    assert files(root) == before
    assert set(FOLDERS) == set(NAMES)


def test_downloads_begin_with_an_empty_scratch_folder(root):
    left = root.state / "scratch" / "tmp1" / "video.mp4"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a video")
    next((root.path / "clips" / "media").glob("*/a_*")).unlink()

    assert root.run("download") == [0]

    assert not left.parent.exists()
