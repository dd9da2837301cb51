"""The same command goes on with the same run, until that has ended well."""

import pytest

from flows.experiments.run_marker import begun


def test_a_note_stays_where_a_training_did_not_end_well(tmp_path):
    with pytest.raises(RuntimeError), begun(tmp_path, "a" * 64) as note:
        assert note.run_id is None
        note.write("run1")
        raise RuntimeError

    with begun(tmp_path, "b" * 64) as other:
        assert other.run_id is None
    with begun(tmp_path, "a" * 64) as again:
        assert again.run_id == "run1"
    with begun(tmp_path, "a" * 64) as fresh:
        assert fresh.run_id is None


def test_the_same_training_twice_at_once_is_refused_with_a_remedy(tmp_path):
    with begun(tmp_path, "a" * 64) as note:
        note.write("run1")
        with pytest.raises(ValueError, match="is running: wait for it"), begun(tmp_path, "a" * 64):
            pass
        with begun(tmp_path, "b" * 64) as other:
            assert other.run_id is None
        assert note.run_id == "run1"  # whoever was refused took nothing away

    with begun(tmp_path, "a" * 64) as again:
        assert again.run_id is None
