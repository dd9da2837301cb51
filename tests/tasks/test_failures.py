"""What the owner of a root reads of segments that are in no shard."""

import json

import pytest
from roots import PROFILE, Root, write_clips

from flows.commands.cli import main
from schemas.expectations import suite
from schemas.rules import Rules
from tasks.failures import REMEDIES, failures, remedy_for
from tasks.transport.failure_classes import CLASSES

MANIFESTS = ("segments", "clips", "features", "shards")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Root:
    """Three clips: one is whole, one is no film, one is not there."""
    folder = tmp_path_factory.mktemp("failures")
    lists = write_clips(folder / "videos", ["whole", "no-film", "nowhere"])
    (folder / "videos" / "no-film.mp4").write_bytes(b"no film " * 999)
    (folder / "videos" / "nowhere.mp4").unlink()
    root = Root(folder / "root", f"folder:{folder}/videos", lists)
    root.build()
    return root


def test_each_loss_is_named_with_its_evidence_and_a_remedy(root):
    found = {one.video_id: one for one in failures(root.path, root.state)}

    assert set(found) == {"no-film", "nowhere"}
    damaged = found["no-film"]
    missing = found["nowhere"]
    assert (damaged.key, damaged.outcome, damaged.reason) == ("no-film_0_2000", "quarantined", "decodable")
    assert "Invalid data found" in damaged.evidence and "the file is damaged" in damaged.remedy
    assert (missing.outcome, missing.file) == ("waiting", "")
    assert missing.evidence and missing.remedy


def test_the_command_prints_them_by_class_and_all_of_them_for_machines(root, capsys):
    def printed(*options: str) -> str:
        assert main(["failures", "--root", str(root.path), *options]) == 0
        return capsys.readouterr().out

    text = printed()
    table = printed("--csv").splitlines()

    assert "2 segment(s) in no shard" in text and "1 quarantined: decodable\n  -> the file is damaged" in text
    assert {row["video_id"] for row in json.loads(printed("--json"))} == {"no-film", "nowhere"}
    assert table[0] == "key,video_id,file,original,outcome,reason,evidence,remedy" and len(table) == 3


def test_a_root_without_segments_is_refused(tmp_path, capsys):
    assert main(["failures", "--root", str(tmp_path)]) == 2
    assert "has no segments" in capsys.readouterr().err


def test_every_class_and_every_expectation_has_a_remedy():
    expectations = {
        (one.meta or {})["name"] for name in MANIFESTS for one in suite(name, Rules(), PROFILE).expectations
    }
    known = {*CLASSES, *expectations, "decodable", "pending", "queued", "refetch", "uncut", "bug"}

    assert all(remedy_for(reason) for reason in known)
    assert set(REMEDIES) <= known, "a remedy for a reason that nothing gives"
