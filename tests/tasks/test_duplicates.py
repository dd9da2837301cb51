"""Copies are found among real and generated clips, and the list excludes what training must not see."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timecode
from small_roots import extract_all, fetch, indexed, passed
from timecode import Recipe

from schemas.feature import PICTURE_PRINT, Profile, sound_print
from schemas.manifest import read_manifest
from schemas.receipt import Settings
from schemas.rules import Rules
from schemas.shard import DUPLICATES, duplicates_path, exclude_path, read_exclusions, retire
from tasks import pack
from tasks.index import IndexConfig, index
from tasks.media.decode import decode
from tasks.media.measure import measure_clip
from tasks.media.perceptual_hash import prints_of
from tasks.media.streams import ffmpeg_path
from tasks.pack import PackConfig
from tasks.publish import publish
from tasks.sources.scenes.corpus import CorpusConfig, media_path, render_scene, scene_families, scene_ids
from tasks.sources.scenes.faults import write_fault
from tasks.versions.duplicate_search import Prints, search
from tasks.versions.duplicates import described, exclusions, summarize_duplicates, write_duplicates
from training.reading.dataset import open_dataset

PROFILE = Profile()
REAL = {"bigbuckbunny.mp4": 5.0, "hitting_bag.mp4": 6.0, "bbaf2n.mpg": 3.0}
LOOKS_ALIKE = {"brbk7n.mpg": 3.0}  # another speaker before the same wall
ENCODED = {
    "soft": ["-vf", "scale=160:-2", "-b:v", "120k", "-b:a", "32k", "-af", "volume=-6dB"],
    "late": ["-ss", "0.2", "-b:a", "96k", "-af", "volume=6dB"],
}


def printed(path, length_s=10.0):
    decoded = decode(path, 0.0, length_s, PROFILE)
    return prints_of(decoded, measure_clip(decoded, PROFILE), PROFILE)


def found_among(printed_clips):
    """(first, second, kind) among clips by name."""
    names = sorted(printed_clips)
    sounds = np.concatenate(
        [np.frombuffer(printed_clips[n]["sound_print"], sound_print(PROFILE)) for n in names]
    )
    pictures = [np.frombuffer(printed_clips[n]["picture_print"], PICTURE_PRINT.base) for n in names]
    clips = pa.table({"key": names, "split": ["train"] * len(names)})
    pairs = described(clips, search(Prints(sounds, np.stack(pictures), np.arange(len(names)))))
    return {(row["first"], row["second"], row["kind"]) for row in pairs.to_pylist()}


def test_real_clips_are_known_again_after_encoding_gain_and_shift(shared, tmp_path):
    clips = {name: printed(shared / "clips" / name, length_s) for name, length_s in LOOKS_ALIKE.items()}
    for name, length_s in REAL.items():
        source = shared / "clips" / name
        clips[name] = printed(source, length_s)
        for kind, options in ENCODED.items():
            path = tmp_path / f"{name}.{kind}.mp4"
            command = [ffmpeg_path(), "-v", "error", "-i", source, "-t", str(length_s), *options]
            subprocess.run([*command, "-preset", "ultrafast", "-pix_fmt", "yuv420p", path], check=True)
            clips[f"{name}.{kind}"] = printed(path, length_s)

    found = found_among(clips)

    assert {(name, f"{name}.{kind}", "sound_and_picture") for name in REAL for kind in ENCODED} <= found
    assert all(first.split(".")[0] == second.split(".")[0] for first, second, _ in found)


CORPUS = CorpusConfig(num_scenes=80, seed=2)
FAMILIES = scene_families(CORPUS)
OF = next(n for n, family in enumerate(FAMILIES) if FAMILIES.count(family) > 2)
ALIKE = [n for n, family in enumerate(FAMILIES) if family == FAMILIES[OF] and n != OF + 1][:3]
ORIGINAL, COPY, OTHER = (scene_ids(CORPUS)[n] for n in (OF, OF + 1, ALIKE[1]))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder with scenes of one family, and the duplicate of one of them under another id."""
    folder = tmp_path_factory.mktemp("scenes")
    for n in ALIKE:
        render_scene(folder, CORPUS, n)
    write_fault("duplicate", folder, CORPUS, OF + 1)
    return folder


def test_a_duplicate_of_the_studio_is_found_and_its_family_is_not(scenes):
    paths = [media_path(scenes, CORPUS, n) for n in (*ALIKE, OF + 1)]

    found = found_among({path.stem: printed(path) for path in paths})

    assert found == {(*sorted((ORIGINAL, COPY)), "sound_and_picture")}


@pytest.mark.parametrize(("fault", "kinds"), [("silent", []), ("frozen", ["sound"]), ("black", ["sound"])])
def test_silence_stills_and_black_are_no_likeness(tmp_path, fault, kinds):
    prints = printed(write_fault(fault, tmp_path, CORPUS, OF))

    assert found_among({"a": prints, "b": prints}) == {("a", "b", kind) for kind in kinds}


def test_profiles_of_other_rates_know_a_sound_by_nearly_the_same_words(scenes):
    words = []
    for rate_hz, channels in ((16_000, 1), (48_000, 1), (21_000, 2)):
        profile = replace(PROFILE, sample_rate_hz=rate_hz, channels=channels)
        decoded = decode(media_path(scenes, CORPUS, OF), 0.0, 10.0, profile)
        data = prints_of(decoded, {"frozen_share": 0.0}, profile)["sound_print"]
        words.append(np.frombuffer(data, sound_print(profile))["words"][0])

    assert {len(one) for one in words} == {58}
    assert max(np.bitwise_count(words[0] ^ one).sum() for one in words) < 0.1 * 16 * 58


def pairs_of(*pairs):
    """DUPLICATES of (first, second, kind, cluster); a key begins with its split."""
    rows = [
        {
            "first": first,
            "second": second,
            "first_split": first.split("_")[0],
            "second_split": second.split("_")[0],
            "kind": kind,
            "cluster": cluster,
        }
        for first, second, kind, cluster in pairs
    ]
    return pa.Table.from_pylist(rows, schema=DUPLICATES)


@pytest.mark.parametrize(
    ("cluster", "excluded"),
    [
        (["train_a", "train_b", "train_c"], ["train_b", "train_c"]),
        (["train_a", "val_b", "val_c"], ["train_a", "val_c"]),
        (["eval_a", "eval_b", "train_c", "val_d"], ["train_c", "val_d"]),
        (["eval_a", "eval_b"], []),
    ],
)
def test_evaluation_stays_whole_and_one_clip_of_a_cluster_is_trained_on(cluster, excluded):
    pairs = zip(cluster, cluster[1:], strict=False)

    assert exclusions(pairs_of(*((*pair, "sound_and_picture", 0) for pair in pairs))) == excluded


def test_clips_that_share_their_sound_only_are_reported_and_not_excluded():
    assert exclusions(pairs_of(("train_a", "val_b", "sound", None))) == []


@pytest.fixture(scope="module")
def published(scenes, tmp_path_factory):
    """A root with a scene, the same again under another id, and one of its family; and its version."""
    root = tmp_path_factory.mktemp("root")
    ids = (ORIGINAL, COPY, OTHER)
    (root / "list.csv").write_text("".join(f'{video}, 0.000, 10.000, "/m/09x0r"\n' for video in ids))
    index(root, [root / "list.csv"], IndexConfig(part_size=2, val_share=0.0))
    passed(root, "segments")
    fetch(root, f"folder:{media_path(scenes, CORPUS, OF).parent}")
    passed(root, "clips")
    extract_all(root, PROFILE)
    passed(root, "features")
    config = PackConfig(PROFILE)
    pack.run(pack.stage(root, config), [0, 1], config)
    return root, publish(root, Settings(PROFILE, Rules(), {}))


def test_a_version_has_its_pairs_its_list_and_a_word_in_its_card(published):
    root, version = published
    first, second = sorted(f"{video}_0_10000" for video in (ORIGINAL, COPY))

    (pair,) = pq.read_table(duplicates_path(root, version.digest)).to_pylist()
    assert (pair["first"], pair["second"], pair["kind"]) == (first, second, "sound_and_picture")
    assert exclude_path(root, version.digest).read_text() == f"{second}\n"
    assert read_exclusions(root, version.digest) == {second}
    assert summarize_duplicates(root, version.digest).pairs == [("sound_and_picture", 1, 0), ("sound", 0, 0)]
    card = (root / "versions" / f"{version.digest}.md").read_text()
    assert "1 groups, 1 clips on the exclusion" in card
    assert f"- `{first}` (train), `{second}` (train, 0 ms later)" in card


def test_the_reader_skips_what_the_list_excludes(published):
    root, version = published

    dataset = open_dataset(root, version, read_exclusions(root, version.digest))

    assert {f"{OTHER}_0_10000"} < set(dataset.keys) and len(dataset) == 2
    assert dataset.lineage != open_dataset(root, version).lineage


def test_features_of_a_time_before_prints_equal_nothing(published, tmp_path):
    root, version = published
    old = shutil.copytree(root, tmp_path / "old")
    for path in (old / "features").glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["sound_print", "picture_print"]), path)

    write_duplicates(old, version)

    assert read_exclusions(old, version.digest) == frozenset()


def test_rows_say_how_far_a_container_is_from_what_decodes(published):
    root, _ = published
    rows = [row for _, row in read_manifest(root / "features")]

    assert [abs(row["duration_gap_ms"]) < 100 for row in rows] == [True] * 3


def test_a_file_that_holds_less_than_its_header_says_has_a_gap(tmp_path):
    path = timecode.write(tmp_path / "a.mkv", Recipe(seconds=4, frame_rate=10, sample_rate=16_000))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    root = indexed(tmp_path / "root", ["a"], seconds=4)
    fetch(root, f"folder:{tmp_path}")
    passed(root, "clips")

    extract_all(root, replace(PROFILE, length_ms=4000))

    ((_, row),) = read_manifest(root / "features")
    assert 1000 < row["duration_gap_ms"] < 3000
    assert row["duration_gap_ms"] == 4000 - row["valid_ms"]


def test_a_version_that_is_retired_takes_its_lists_along(published):
    root, version = published
    paths = [duplicates_path(root, version.digest), exclude_path(root, version.digest)]
    kept = {path: path.read_bytes() for path in [*paths, root / "versions" / f"{version.digest}.json"]}

    retire(root, version.digest)

    assert not any(path.exists() for path in paths)
    assert read_exclusions(root, version.digest) == frozenset()
    for path, content in kept.items():
        path.write_bytes(content)
