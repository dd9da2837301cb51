"""Who may write what: leases say who holds them, and a build that is to be alone never waits."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from real_servers import REPOSITORY

from schemas.identity import Identity
from tasks.leases import HeldError, alone, building, free, holder_of, lease

HOLDS = """
import sys
from pathlib import Path
from tasks.leases import alone, building, lease
state = Path(sys.argv[1])
held = {"build": lambda: building(state), "clips": lambda: lease(state, "clips"), "x": lambda: alone(state, "x", "is")}
with held[sys.argv[2]]():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another(state: Path, name: str) -> Iterator[int]:
    """Another process holds a lease; yields its id."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(state), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process.pid
    process.communicate("")


def test_a_lease_names_machine_start_process_and_time(tmp_path):
    with lease(tmp_path, "clips"):
        holder = holder_of(tmp_path / "leases" / "clips")
        told = json.loads((tmp_path / "leases" / "clips").read_text())

    assert holder is not None and holder.identity == Identity.own()
    assert set(told) == {"host", "boot", "pid", "started", "since"}


def test_a_build_that_is_to_be_alone_names_the_other_one_and_does_not_wait(tmp_path):
    with (
        held_by_another(tmp_path, "build") as pid,
        pytest.raises(HeldError, match=rf"process {pid} on .*, since 20\d\d-.*, is building here"),
        building(tmp_path, only_if_alone=True),
    ):
        pass


def test_builds_by_hand_stand_beside_each_other_and_beside_one_that_came_first(tmp_path):
    with building(tmp_path, only_if_alone=True), held_by_another(tmp_path, "build"), building(tmp_path):
        pass


def test_what_is_done_alone_is_refused_to_a_second_process(tmp_path):
    with (
        held_by_another(tmp_path, "x") as pid,
        pytest.raises(HeldError, match=f"process {pid} .*, serves this: nothing was done"),
        alone(tmp_path, "x", "serves this"),
    ):
        pass


def test_a_lease_is_free_unless_another_process_holds_it(tmp_path):
    with held_by_another(tmp_path, "clips"), free(tmp_path, "clips") as is_free:
        assert not is_free
    with free(tmp_path, "clips") as is_free:
        assert is_free
