"""A backup of a root that is built meanwhile, as docs/operating.md has it typed: its copy goes on by itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import blocks
from real_servers import started, text_of, wait_for

from schemas.shard import latest_digest, read_version

IDS = [f"clip{n:02d}" for n in range(8)]


def typed() -> str:
    """The commands of the page."""
    (block,) = [one for one in blocks("docs/operating.md") if "cp -a data backup" in one.code]
    lines = [line[2:] for line in block.code.splitlines() if line.startswith(("$ ", "> "))]
    return "\n".join(lines)


@pytest.mark.slow
def test_a_copy_that_is_made_in_mid_build_is_sound_and_goes_on(host, tmp_path):
    path, one = host
    root = tmp_path / "data"
    first = tmp_path / "first.csv"
    first.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    how = ("--preset", "demo", "--source", f"{one.address}/{{video_id}}", "--segments")
    output = tmp_path / "output"
    with started("build", "--root", str(root), *how, str(first), output=output) as process:
        assert process.wait(300) == 0, text_of(output)
    one.gate.clear()
    before = one.knocked.total()
    with started("build", "--root", str(root), *how, str(path), output=output) as process:
        wait_for(lambda: one.knocked.total() > before, "a download")
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        shell = {"PATH": programs, "HOME": str(tmp_path)}
        done = subprocess.run(
            ["bash", "-ec", typed()], cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert latest_digest(tmp_path / "backup") == latest_digest(root)
        one.gate.set()
        assert process.wait(300) == 0, text_of(output)

    with started("build", "--root", str(tmp_path / "backup"), output=output) as process:
        assert process.wait(300) == 0, text_of(output)

    assert read_version(tmp_path / "backup").num_samples == len(IDS)
    assert latest_digest(tmp_path / "backup") == latest_digest(root)
