"""A dataset version is named by what it holds, and never changes once it is written."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import DataError
from schemas.feature import Profile
from schemas.segment import VIDEO_ID, segment_key
from schemas.shard import (
    HISTORY_LINES,
    Shard,
    index_path,
    latest_digest,
    make_version,
    published,
    read_history,
    read_version,
    shard_name,
    shorten_history,
    tar_path,
    write_version,
)
from tasks.features import member_suffixes
from tasks.versions.records import check_records


def shard(part=0, split="train", content="a"):
    sha256 = content * 64
    return Shard(shard_name(split, part, sha256), split, part, sha256, 10_240, 3)


VERSION = make_version(Profile(), member_suffixes(Profile()), [shard(1, "val", "b"), shard(0)])


@pytest.mark.parametrize("content", ["{}", "[1]", '{"digest": 5}', "null"])
def test_a_file_that_names_no_version_is_damage(tmp_path, content):
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "latest.json").write_text(content)

    with pytest.raises(DataError, match="latest.json is damaged: it names no version; .* --mend"):
        latest_digest(tmp_path)
    assert [one.where for one in check_records(tmp_path).differences] == ["versions/latest.json"]


@given(st.from_regex(VIDEO_ID, fullmatch=True), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_member_name_splits_at_its_first_dot_into_key_and_suffix(video_id, start_ms, end_ms):
    key = segment_key(video_id, start_ms, end_ms)

    for suffix in member_suffixes(Profile()):
        assert tuple(f"{key}.{suffix}".split(".", 1)) == (key, suffix)
        assert len(f"{key}.{suffix}") <= 100  # what a USTAR header holds without a prefix


def test_a_sample_has_its_frames_sound_mel_and_facts():
    assert member_suffixes(Profile(length_ms=2000)) == ["000.jpg", "001.jpg", "json", "log_mel.npy", "wav"]


@pytest.mark.parametrize("rate_hz", [0.5, 1.0, 4.0, 29.97])
def test_a_profile_has_the_frames_whose_middles_lie_inside_the_segment(rate_hz):
    profile = Profile(frame_rate_hz=rate_hz)

    assert (profile.num_frames - 0.5) / rate_hz <= 10.0 < (profile.num_frames + 0.51) / rate_hz


def test_names_sort_by_split_and_part():
    assert shard_name("train", 7, "0123456789abcdef") == "train-000007-01234567"


@pytest.mark.parametrize(
    "other",
    [
        make_version(Profile(jpeg_quality=84), member_suffixes(Profile(jpeg_quality=84)), VERSION.shards),
        make_version(Profile(length_ms=9000), member_suffixes(Profile(length_ms=9000)), VERSION.shards),
        make_version(Profile(), member_suffixes(Profile()), VERSION.shards[:1]),
        make_version(Profile(), member_suffixes(Profile()), [shard(0, content="c"), VERSION.shards[1]]),
    ],
)
def test_other_fields_settings_or_bytes_are_another_version(other):
    assert other.digest != VERSION.digest


def test_shards_stand_in_part_order():
    assert [one.part for one in VERSION.shards] == [0, 1]
    assert VERSION.of_split("val") == [shard(1, "val", "b")]
    assert VERSION.of_split("eval") == []


def test_a_version_comes_back_as_it_was_written(tmp_path):
    write_version(tmp_path, VERSION, {"funnel": {"segments": 6}})

    assert read_version(tmp_path) == read_version(tmp_path, VERSION.digest) == VERSION
    assert latest_digest(tmp_path) == VERSION.digest


def test_the_list_of_tars_points_at_them_from_where_it_lies(tmp_path):
    path = write_version(tmp_path, VERSION, {})

    listed = [path.parent / line for line in path.with_suffix(".txt").read_text().splitlines()]

    assert [one.resolve() for one in listed] == [tar_path(tmp_path, one).resolve() for one in VERSION.shards]
    assert (path.parent / "latest.txt").read_text() == path.with_suffix(".txt").read_text()
    assert index_path(tmp_path, VERSION.shards[0]).stem == VERSION.shards[0].name


def test_what_is_written_is_never_changed_and_latest_points_back(tmp_path):
    path = write_version(tmp_path, VERSION, {"funnel": 1})
    before = path.read_bytes()
    other = make_version(Profile(), member_suffixes(Profile()), VERSION.shards[:1])
    write_version(tmp_path, other, {})
    assert latest_digest(tmp_path) == other.digest

    write_version(tmp_path, VERSION, {"funnel": 2})

    assert path.read_bytes() == before
    assert latest_digest(tmp_path) == VERSION.digest


def test_no_version_is_told_with_those_there_are_and_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"there: none.*mcgurk build --root"):
        read_version(tmp_path)
    write_version(tmp_path, VERSION, {})

    with pytest.raises(ValueError, match=VERSION.digest):
        read_version(tmp_path, "0" * 64)
    assert latest_digest(tmp_path / "nowhere") is None


def test_a_profile_that_a_version_was_made_with_comes_back(tmp_path):
    profile = replace(Profile(), name="other", frame_rate_hz=2.5)
    write_version(tmp_path, make_version(profile, member_suffixes(profile), [shard()]), {})

    assert read_version(tmp_path).profile == profile


NAMES = st.sampled_from("abcdefg")


@given(st.lists(st.tuples(NAMES, st.none() | NAMES), max_size=30), st.sets(NAMES), st.integers(0, 5))
def test_a_short_history_gives_the_versions_that_stand_the_same_order(lines, standing, most):
    with TemporaryDirectory() as name:
        root = Path(name)
        folder = root / "versions"
        folder.mkdir()
        for digest in standing:
            (folder / f"{digest}.json").write_text("{}")
        history = [{"digest": d, "published_at": "", "replaces": r} for d, r in lines if d != r]
        (folder / "history.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in history))
        order = published(root)

        shorten_history(root, most)

        kept = read_history(root)
        assert published(root) == order
        assert (
            kept[len(kept) - min(most, len(history)) :] == history[len(history) - min(most, len(history)) :]
        )


def test_a_year_of_versions_leaves_a_short_history(tmp_path):
    for number in range(3 * HISTORY_LINES):
        _append(tmp_path, f"{number:064x}")
    write_version(tmp_path, VERSION, {})

    shorten_history(tmp_path)

    assert len(read_history(tmp_path)) == HISTORY_LINES
    assert published(tmp_path) == [VERSION.digest]


def _append(root, digest):
    (root / "versions").mkdir(exist_ok=True)
    with (root / "versions" / "history.jsonl").open("a") as file:
        file.write(json.dumps({"digest": digest, "published_at": "", "replaces": None}) + "\n")
