"""`mcgurk recheck` as a user types it: it marks and reports, and forgets only on request what is gone twice."""

import pytest
from real_servers import hosting
from roots import write_clips

from schemas.shard import read_version
from tasks.acquisition.recheck import Rechecked, read_marks
from tasks.index import IndexConfig, index
from tasks.tombstones import read_tombstones

IDS = [f"clip{n:02d}" for n in range(4)]


@pytest.mark.slow
def test_a_recheck_marks_what_is_gone_and_forgets_on_request(mcgurk, tmp_path):
    root = tmp_path / "root"
    (path,) = write_clips(tmp_path / "media", IDS)
    where = ("--root", str(root))
    with hosting({one: tmp_path / "media" / f"{one}.mp4" for one in IDS}) as host:
        source = f"{host.address}/{{video_id}}"
        mcgurk("build", *where, "--preset", "demo", "--segments", str(path), "--source", source)
        host.statuses |= {"clip01": 410}

        marked = mcgurk("recheck", *where)

        assert "gone  clip01  removed: HTTP 410  (marked)" in marked
        assert "3 video(s) are still there, 1 are gone" in marked and "--drop-removed" in marked
        assert read_version(root).num_samples == len(IDS) and read_tombstones(root) == {}
        assert "1 video(s) held here are removed at the source" in mcgurk("status", *where)
        failures = mcgurk("failures", *where)
        assert "1 video(s) held here are gone at their source" in failures
        assert "clip01  removed: HTTP 410" in failures
        host.statuses |= {"clip02": 451}

        dropped = mcgurk("recheck", *where, "--drop-removed")

    assert "gone  clip01  removed: HTTP 410  (taken down)" in dropped
    assert "gone  clip02  copyright: HTTP 451  (stays" in dropped
    assert set(read_tombstones(root)) == {"clip01"} and read_version(root).num_samples == len(IDS) - 1
    assert set(read_marks(root / "state")) == set(IDS) - {"clip01"}


def test_a_root_without_segments_has_nothing_to_ask_for(mcgurk, tmp_path):
    assert "nothing to check" in mcgurk("recheck", "--root", str(tmp_path))


def test_a_root_whose_clips_are_not_there_yet_has_nothing_to_ask_for(mcgurk, tmp_path):
    (path,) = write_clips(tmp_path / "media", ["clip00"])
    index(tmp_path, [path], IndexConfig(val_share=0.0))

    assert "nothing to check" in mcgurk("recheck", "--root", str(tmp_path))


def test_a_recheck_by_schedule_of_a_root_without_segments_completes(prefect_server, tmp_path):
    from flows.recheck_take_downs import RecheckOptions, recheck_take_downs

    assert recheck_take_downs(RecheckOptions(str(tmp_path))) == Rechecked()


def test_a_root_that_is_not_there_is_refused(mcgurk, tmp_path):
    told = mcgurk("recheck", "--root", str(tmp_path / "nowhere"), code=2)

    assert "has no segments: nothing was changed" in told
