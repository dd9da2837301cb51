"""The same command goes on with the same run, until that has ended well."""

import pytest

from flows.experiments.run_marker import run_marker


def test_a_note_stays_where_a_training_did_not_end_well(tmp_path):
    with pytest.raises(RuntimeError), run_marker(tmp_path, "a" * 64) as note:
        assert note.run_id is None
        note.write("run1")
        raise RuntimeError

    with run_marker(tmp_path, "b" * 64) as other:
        assert other.run_id is None
    with run_marker(tmp_path, "a" * 64) as again:
        assert again.run_id == "run1"
    with run_marker(tmp_path, "a" * 64) as fresh:
        assert fresh.run_id is None


def test_the_same_training_twice_at_once_is_refused_with_a_remedy(tmp_path):
    with run_marker(tmp_path, "a" * 64) as note:
        note.write("run1")
        with pytest.raises(ValueError, match="is running: wait for it"), run_marker(tmp_path, "a" * 64):
            pass
        with run_marker(tmp_path, "b" * 64) as other:
            assert other.run_id is None
        assert note.run_id == "run1"  # whoever was refused took nothing away

    with run_marker(tmp_path, "a" * 64) as again:
        assert again.run_id is None
