"""Whoever looks at a whole manifest opens each part once, and in a later process only what has changed."""

import os

import pyarrow as pa
import pytest

from schemas.clip import CLIPS
from schemas.manifest import PartHeader, part_path, write_table
from tasks import columns
from tasks.columns import Once, read_columns

NUM_PARTS = columns.FEW + 1
COLUMNS = ("key", "outcome", "reason")


@pytest.fixture
def clips(tmp_path):
    """A manifest of parts of two rows, enough of them to be remembered."""
    folder = tmp_path / "root" / "clips"
    for part in range(NUM_PARTS):
        write(folder, part, "ok")
    return folder


def write(folder, part, outcome):
    values = {"key": [f"{part}-0", f"{part}-1"], "outcome": [outcome] * 2, "reason": [""] * 2}
    columns = [pa.array(values.get(field.name, [None] * 2), field.type) for field in CLIPS]
    write_table(part_path(folder, part), pa.table(columns, CLIPS), PartHeader("download", "made", {}))


def look(clips, tmp_path, columns=COLUMNS):
    with Once({}, tmp_path / "memory") as read:
        return read(clips, range(NUM_PARTS), columns)


def spoil(path):
    """Makes a part unreadable without a trace in its time, its size or its inode."""
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_later_look_opens_only_parts_that_have_changed(clips, tmp_path):
    look(clips, tmp_path)
    for part in range(1, NUM_PARTS):
        spoil(part_path(clips, part))
    write(clips, 0, "waiting")

    again = look(clips, tmp_path)

    assert again["key"].to_pylist() == [f"{part}-{n}" for part in range(NUM_PARTS) for n in range(2)]
    assert again["outcome"].to_pylist() == ["waiting"] * 2 + ["ok"] * (2 * NUM_PARTS - 2)


def test_what_is_remembered_is_what_stands_in_the_parts(clips, tmp_path):
    first = look(clips, tmp_path)
    again = look(clips, tmp_path)

    assert first.equals(again)
    assert again.equals(read_columns(clips, range(NUM_PARTS), COLUMNS))


def test_a_damaged_memory_is_no_memory(clips, tmp_path):
    whole = look(clips, tmp_path)
    (memory,) = (tmp_path / "memory").iterdir()
    memory.write_bytes(memory.read_bytes()[:-100])

    assert look(clips, tmp_path).equals(whole)
    assert memory.stat().st_size > 0


def test_other_columns_are_remembered_apart(clips, tmp_path):
    look(clips, tmp_path)

    assert look(clips, tmp_path, ("digest",)).column_names == ["digest"]
    assert look(clips, tmp_path).column_names == list(COLUMNS)


def test_who_may_not_write_the_memory_may_still_look(clips, tmp_path):
    (tmp_path / "memory").write_text("a file where the folder should be")

    assert look(clips, tmp_path).num_rows == 2 * NUM_PARTS


def test_a_handful_of_parts_is_not_worth_remembering(clips, tmp_path):
    with Once({}, tmp_path / "memory") as read:
        read(clips, range(columns.FEW), COLUMNS)

    assert not (tmp_path / "memory").exists()
