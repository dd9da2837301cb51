"""A version is published only if no segment is lost and every sample is whole."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt
from roots import fates
from small_roots import PROFILE, RECIPE, extract_all, fetch, indexed, key_of, media, passed

from schemas.manifest import PartHeader, part_path, read_part, write_part
from schemas.receipt import Settings
from schemas.rules import Rules
from schemas.shard import SHARDS, latest_digest, read_version
from tasks import pack
from tasks.funnel import main_loss, measure_funnel
from tasks.pack import PackConfig
from tasks.publish import NotPublished, publish
from tasks.validate import GateError

LABELS = {"/m/09x0r": (0, "Speech | <b>talk</b>")}
CONFIG = PackConfig(PROFILE, LABELS)
FUNNEL = {
    "segments": 3,
    "in_shards": 2,
    "quarantined": {},
    "unavailable": {},
    "waiting": {"removed": 1},
    "forgotten": 0,
}


@pytest.fixture(scope="module")
def packed_once(tmp_path_factory):
    """Two clips in two parts and one that is gone; packed, not published."""
    folder = media(tmp_path_factory.mktemp("media"), {"a": RECIPE, "b": replace(RECIPE, seconds=2.1)})
    root = indexed(tmp_path_factory.mktemp("root"), ["a", "b", "gone"], part_size=2)
    fetch(root, f"folder:{folder}")
    passed(root, "clips")
    extract_all(root)
    passed(root, "features")
    pack.run(pack.stage(root, CONFIG), [0, 1], CONFIG)
    return root


@pytest.fixture
def root(packed_once, tmp_path):
    return shutil.copytree(packed_once, tmp_path / "root")


def change_shards(root, change):
    """Part 0 of the manifest `shards` with its rows changed."""
    path = part_path(root / "shards", 0)
    write_part(path, change(read_part(path)), SHARDS, PartHeader("pack", "", {}))


def test_a_version_holds_all_samples_and_its_funnel(root):
    version = publish(root, Settings(PROFILE, Rules(), LABELS))

    stored = json.loads((root / "versions" / f"{version.digest}.json").read_text())
    assert stored["facts"]["funnel"] == FUNNEL
    assert sum(shard.num_samples for shard in version.shards) == 2
    assert read_version(root) == version


def test_publishing_twice_gives_the_same_version(root):
    first = publish(root, Settings(PROFILE, Rules(), LABELS))
    files = {path.name: path.read_bytes() for path in (root / "versions").iterdir()}

    assert publish(root, Settings(PROFILE, Rules(), LABELS)) == first
    assert {path.name: path.read_bytes() for path in (root / "versions").iterdir()} == files


def test_the_card_shows_counts_and_escapes_labels(root):
    version = publish(root, Settings(PROFILE, Rules(), LABELS))

    card = (root / "versions" / f"{version.digest}.md").read_text()
    assert "| Speech \\| &lt;b>talk&lt;/b> | 2 |" in card
    assert "| /m/04rlf | 2 |" in card
    assert "3 segments = 2 in shards" in card
    assert "+ 1 waiting (removed 1)" in card


def test_a_sample_that_lacks_a_member_stops_publishing(root):
    def lose_one(rows):
        return [{**row, "members": row["members"][1:] if row["members"] else None} for row in rows]

    change_shards(root, lose_one)

    with pytest.raises(GateError, match="all_members fails for"):
        publish(root, Settings(PROFILE, Rules(), LABELS))
    assert latest_digest(root) is None


def test_a_lost_segment_stops_publishing(root):
    change_shards(root, lambda rows: rows[1:])

    with pytest.raises(RuntimeError, match="the index has 3 segments, the manifests 2"):
        publish(root, Settings(PROFILE, Rules(), LABELS))
    assert latest_digest(root) is None


def test_a_segment_that_is_counted_twice_stops_the_funnel(root):
    change_shards(root, lambda rows: [rows[0], rows[0]])

    with pytest.raises(RuntimeError, match="the index has 3 segments"):
        measure_funnel(root)


def test_what_has_not_reached_a_shard_is_pending(root):
    for path in (root / "shards").glob("000000.parquet"):
        path.unlink()

    counts = measure_funnel(root)

    assert counts["segments"] == 3
    assert counts["waiting"]["pending"] >= 1
    assert counts["waiting"]["pending"] + counts["in_shards"] == 2


def test_a_root_with_an_index_only_waits_as_a_whole(tmp_path):
    root = indexed(tmp_path, ["a", "b"])

    assert fates(root) == {
        key_of("a"): ("waiting", "pending"),
        key_of("b"): ("waiting", "pending"),
    }
    assert measure_funnel(root)["waiting"] == {"pending": 2}


def lose(root):
    """Part 0 without its sample, as a build would leave it."""
    change_shards(
        root,
        lambda rows: [{**row, **LOST, "members": None} if row["outcome"] == "ok" else row for row in rows],
    )


LOST = {"outcome": "unavailable", "reason": "removed", "detail": "HTTP 404"}


def test_a_version_smaller_than_the_last_is_not_published(root):
    first = publish(root, Settings(PROFILE, Rules(), LABELS))
    lose(root)

    with pytest.raises(
        NotPublished, match=rf"1 sample\(s\) fewer than version {first.digest[:12]} \(1 instead of 2\)"
    ):
        publish(root, Settings(PROFILE, Rules(), LABELS))

    assert read_version(root) == first


def test_a_version_is_smaller_if_the_user_accepts_other_rules_or_chose_another_profile(root, caplog):
    first = publish(root, Settings(PROFILE, Rules(), LABELS))
    lose(root)

    rules = Settings(PROFILE, Rules(min_rows=21), LABELS)
    with pytest.raises(
        NotPublished, match="the rules of its preset changed with mcgurk; to accept them, build"
    ):
        publish(root, rules)
    assert latest_digest(root) == first.digest
    second = publish(root, rules, accepts_rules=True)

    assert (first.num_samples, second.num_samples, latest_digest(root)) == (2, 1, second.digest)
    assert "1 sample(s) fewer than version" in caplog.text
    publish(root, Settings(replace(PROFILE, name="other"), Rules(), LABELS))
    assert latest_digest(root) != second.digest


def test_without_a_sample_there_is_no_version_and_the_reason_is_told(root):
    for part in (0, 1):
        path = part_path(root / "shards", part)
        rows = [{**row, **LOST, "members": None} for row in read_part(path)]
        write_part(path, rows, SHARDS, PartHeader("pack", "", {}))

    with pytest.raises(
        NotPublished, match=r"no sample, so no version: 3 of 3: HTTP 404 \(unavailable: removed\)"
    ):
        publish(root, Settings(PROFILE, Rules(), LABELS))

    assert not (root / "versions").exists()
    assert main_loss(root) == "3 of 3: HTTP 404 (unavailable: removed)"


NASTY = [
    "a\\|b", "a | b | c", "line\nbreak | x", "[x](javascript:alert(1))", "![x](http://tracker/x.png)", "<img src=x>",
    "`code` *bold* _it_ ~~gone~~", "https://evil.example/x", "&lt;b&gt;", "# head", "x\\", "\u202e\u0007 \u2028",
]  # fmt: skip


@pytest.mark.parametrize("label", NASTY)
def test_a_label_does_not_break_out_of_the_card(root, label):
    version = publish(root, Settings(PROFILE, Rules(), {"/m/09x0r": (0, label)}))

    card = (root / "versions" / f"{version.digest}.md").read_text()
    tokens = MarkdownIt("commonmark").enable("table").parse(card[card.index("## Labels") :])
    cells = [token.children for before, token in pairwise(tokens) if before.type == "td_open"]
    assert len(cells) == 4  # two labels and their counts, in two columns
    assert {child.type for children in cells for child in children or ()} <= {"text", "text_special"}
    shown = {"".join(child.content for child in children or ()) for children in cells}
    assert "".join(char if char.isprintable() else " " for char in label).strip() in shown
    assert "://" not in card[card.index("## Labels") : card.index("## Reading it")]
