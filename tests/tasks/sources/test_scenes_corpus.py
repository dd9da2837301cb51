"""A corpus of scenes: lists in AudioSet's format, media that say nothing, truth beside them."""

import csv
import multiprocessing
import os
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugin_copies import copied_with, run_in

from tasks.lists.labels import ONTOLOGY, machine_ids, read_ontology
from tasks.sources.scenes import corpus
from tasks.sources.scenes.corpus import GROUPS, CorpusConfig, render_scene, write_lists, write_truth
from tasks.sources.scenes.families import FAMILIES, HELD_OUT, LABELS, TRAINED
from tasks.sources.scenes.scene import render
from tasks.sources.scenes.synth import SAMPLE_RATE_HZ

ZITHERS = '''
"""One more."""

from tasks.sources.scenes.families import music
from tasks.sources.scenes.family import Family

FAMILIES = (Family("zither", "/m/0zither", "Zither", 120.0, music._guitar, music._struck, ("string",)),)
'''
# Where AudioSet's own label table lies, on machines that have it.
configs = st.builds(
    CorpusConfig, num_scenes=st.integers(1, 400), seed=st.integers(0, 10**6), eval_share=st.floats(0, 1)
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(folder, config, rows) of a corpus of which the first four scenes are rendered."""
    folder = tmp_path_factory.mktemp("corpus")
    config = CorpusConfig(num_scenes=48, seed=7)
    return folder, config, [render_scene(folder, config, index) for index in range(4)]


def read_segments(path):
    """(header lines, rows) of a list of segments."""
    lines = path.read_text().splitlines()
    return lines[:3], list(csv.reader(lines[3:], skipinitialspace=True))


@settings(deadline=None)
@given(configs)
def test_families_are_balanced_and_held_out_ones_are_never_trained_on(config):
    families = corpus.scene_families(config)
    splits = corpus.scene_splits(config)

    counts = [families.count(name) for name in FAMILIES]
    assert max(counts) - min(counts) <= 1 and sum(counts) == config.num_scenes
    for name in FAMILIES:
        num_eval = sum(1 for f, s in zip(families, splits, strict=True) if (f, s) == (name, "eval"))
        share = 1.0 if name in HELD_OUT else config.eval_share
        assert num_eval == round(share * families.count(name))


def test_families_stand_in_the_order_that_seeds_and_labels_count_by():
    assert list(FAMILIES) == [
        "ball", "hammer", "footsteps", "clapping", "typewriter", "bird", "face", "frog", "engine", "siren", "train",
        "saw", "bell", "glockenspiel", "marimba", "guitar", "drum_kit", "metronome", "accordion", "wind_chime", "rain",
        "drip", "boiling", "fireworks",
    ]  # fmt: skip
    assert set(HELD_OUT) == {"marimba", "frog", "wind_chime", "clapping"}


def test_a_family_is_found_by_its_file(tmp_path):
    added = {
        "tasks/sources/scenes/families/zithers.py": ZITHERS,
        "tasks/sources/scenes/families/zz_helpers.py": '"""Helpers."""\n',
    }
    script = "from tasks.sources.scenes.families import FAMILIES; print(list(FAMILIES)[-1])"
    folder = "tasks/sources/scenes/families"

    assert run_in(copied_with(tmp_path / "one", dict(list(added.items())[:1])), script) == "zither\n"
    refused = copied_with(tmp_path / "two", added)
    told = run_in(
        refused, f"try:\n    {script.split(';')[0]}\nexcept RuntimeError as error:\n    print(error)"
    )
    assert told.startswith(f"{refused}/{folder}/zz_helpers.py is not a plug-in")
    assert "it lacks FAMILIES" in told


@settings(max_examples=20, deadline=None)
@given(configs)
def test_ids_look_like_any_and_are_unique(config):
    ids = corpus.scene_ids(config)

    assert len(set(ids)) == config.num_scenes
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{11}", video_id) for video_id in ids)
    assert set(ids).isdisjoint(corpus.scene_ids(CorpusConfig(config.num_scenes, config.seed + 1)))


def test_ids_do_not_depend_on_the_family_or_the_length_of_the_corpus():
    assert corpus.scene_ids(CorpusConfig(50, 3)) == corpus.scene_ids(CorpusConfig(90, 3))[:50]


def test_order_does_not_tell_the_family():
    families = corpus.scene_families(CorpusConfig(num_scenes=480))

    assert families[:24] != families[24:48]
    assert families[: len(FAMILIES)] != tuple(FAMILIES)


def test_lists_are_in_audiosets_format_and_their_counts_are_true(tmp_path):
    config = CorpusConfig(num_scenes=100, seed=4)

    train, evaluation, labels, _ = write_lists(tmp_path, config)

    for path in (train, evaluation):
        head, rows = read_segments(path)
        mids = [row[3] for row in rows]
        assert all(line.startswith("# ") for line in head)
        assert head[1] == (
            f"# num_ytids={len(rows)}, num_segs={len(rows)}, "
            f"num_unique_labels={len(set(mids))}, num_positive_labels={len(rows)}"
        )
        assert head[2] == "# YTID, start_seconds, end_seconds, positive_labels"
        assert {tuple(row[1:3]) for row in rows} == {("0.000", "10.000")}
    with labels.open() as file:
        table = list(csv.DictReader(file))
    assert {row["mid"]: row["display_name"] for row in table} == LABELS
    assert [row["index"] for row in table] == [str(n) for n in range(len(LABELS))]


def test_lists_give_every_scene_once_and_train_on_no_held_out_label(tmp_path):
    config = CorpusConfig(num_scenes=100, seed=4)

    train, evaluation, *_ = write_lists(tmp_path, config)
    _, trained = read_segments(train)
    _, evaluated = read_segments(evaluation)

    held_out = {FAMILIES[name].mid for name in HELD_OUT}
    assert sorted(row[0] for row in trained + evaluated) == sorted(corpus.scene_ids(config))
    assert {row[3] for row in trained} == {FAMILIES[name].mid for name in TRAINED}
    assert held_out <= {row[3] for row in evaluated}


def test_every_family_has_a_label_of_its_own():
    assert len(LABELS) == len(FAMILIES)


def test_labels_are_audiosets(shared):
    with (shared / "audioset" / "class_labels_indices.csv").open() as file:
        published = {row["mid"]: row["display_name"] for row in csv.DictReader(file)}

    assert {mid: published.get(mid) for mid in LABELS} == LABELS


def test_every_family_stands_below_a_category(tmp_path):
    write_lists(tmp_path, CorpusConfig(num_scenes=1))
    ontology = read_ontology(tmp_path / ONTOLOGY)

    below = machine_ids([name for name, _ in GROUPS.values()], {}, ontology)
    instruments = machine_ids(["Musical instrument"], {}, ontology)

    assert below == ontology.keys() and below > LABELS.keys()
    assert {LABELS[mid] for mid in instruments & LABELS.keys()} == {
        "Accordion", "Church bell", "Drum kit", "Glockenspiel", "Guitar", "Marimba, xylophone", "Wind chime",
    }  # fmt: skip


def test_the_ontology_is_a_part_of_audiosets(shared):
    published = read_ontology(shared / "audioset" / ONTOLOGY)

    for mid, (name, children) in GROUPS.items():
        assert published[mid]["name"] == name
        assert machine_ids([mid], {}, published) > set(children)


def test_the_same_seed_gives_the_same_bytes_and_truth(small, tmp_path):
    folder, config, rows = small

    assert render_scene(tmp_path, config, 2) == rows[2]

    name = f"media/{rows[2]['video_id']}.mp4"
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert [path.name for path in (tmp_path / "media").iterdir()] == [Path(name).name]


@pytest.mark.parametrize("filling", ["1", "165"])
def test_bytes_do_not_depend_on_what_memory_held_before(small, tmp_path, filling):
    """x264's macroblock tree did; glibc fills fresh memory with a pattern when asked to."""
    folder, config, rows = small
    call = (
        "import sys; from pathlib import Path; from tasks.sources.scenes import corpus; corpus.render_scene("
        f"Path(sys.argv[1]), corpus.CorpusConfig({config.num_scenes}, {config.seed}), 0)"
    )

    environment = {**os.environ, "MALLOC_PERTURB_": filling, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", call, str(tmp_path)], env=environment, check=True, timeout=120)

    name = f"media/{rows[0]['video_id']}.mp4"
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_scenes_made_in_two_processes_are_those_made_in_one(small, tmp_path):
    folder, config, rows = small

    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        made = list(pool.map(partial(render_scene, tmp_path, config), range(len(rows))))

    assert made == rows
    for path in (tmp_path / "media").iterdir():
        assert path.read_bytes() == (folder / "media" / path.name).read_bytes()


def test_another_seed_gives_other_media(small, tmp_path):
    folder, config, rows = small

    other = render_scene(tmp_path, CorpusConfig(config.num_scenes, config.seed + 1), 2)

    ours = folder / "media"
    theirs = tmp_path / "media"
    assert (ours / f"{rows[2]['video_id']}.mp4").read_bytes() != (
        theirs / f"{other['video_id']}.mp4"
    ).read_bytes()


def test_media_are_ten_seconds_of_h264_and_aac_and_say_nothing(small):
    folder, _, rows = small
    said = set()
    for row in rows:
        with av.open(str(folder / "media" / f"{row['video_id']}.mp4")) as media:
            video = media.streams.video[0]
            audio = media.streams.audio[0]
            said.add(str([media.metadata, video.metadata, audio.metadata, media.chapters()]))
            assert (video.codec.canonical_name, audio.codec.canonical_name) == ("h264", "aac")
            assert (video.width, video.height, video.frames) == (320, 240, 120)
            assert float(video.average_rate) == row["frame_rate_hz"] == 12.0
            assert (audio.rate, audio.channels) == (SAMPLE_RATE_HZ, 1)
            assert media.duration / av.time_base == pytest.approx(10.0, abs=0.05)

    assert len({row["family"] for row in rows}) > 1
    assert len(said) == 1
    assert "encoder" not in said.pop() and "creation_time" not in said


def test_what_is_decoded_is_what_was_rendered_at_the_same_time(small):
    folder, config, rows = small
    frames, wave, _ = render(corpus.corpus_scene(config, 1))

    with av.open(str(folder / "media" / f"{rows[1]['video_id']}.mp4")) as media:
        decoded = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in media.decode(video=0)]
        media.seek(0)
        audio = [(frame.time, frame.to_ndarray()[0]) for frame in media.decode(audio=0)]

    assert [time for time, _ in decoded] == pytest.approx([k / 12 for k in range(120)])
    error = np.abs(np.stack([picture for _, picture in decoded]).astype(int) - frames).mean()
    assert error < 6.0
    first_s = audio[0][0]
    heard = np.concatenate([samples for _, samples in audio])
    assert round(first_s * SAMPLE_RATE_HZ) + lag_samples(heard, wave) == pytest.approx(0, abs=2)


def lag_samples(late, early):
    """How many samples `late` is behind `early`."""
    size = len(late) + len(early)
    product = np.fft.rfft(late, size) * np.conj(np.fft.rfft(early, size))
    lag = int(np.argmax(np.fft.irfft(product, size)))
    return lag - size if lag > size // 2 else lag


def test_the_truth_is_a_table_keyed_by_video_id(small):
    folder, _, rows = small

    table = pq.read_table(write_truth(folder, rows))

    assert table.schema.equals(corpus.TRUTH)
    read = table.to_pylist()
    assert [row["video_id"] for row in read] == sorted(row["video_id"] for row in rows)
    by_id = {row["video_id"]: row for row in rows}
    for row in read:
        told = {name: value for name, value in row["causes"].items() if value is not None}
        assert told == pytest.approx(by_id[row["video_id"]]["causes"])
        np.testing.assert_allclose(row["boxes"], by_id[row["video_id"]]["boxes"], atol=1e-6)
        assert row["onset_ms"] == by_id[row["video_id"]]["onset_ms"]


def test_a_corpus_without_cause_has_the_same_sounds_and_other_pictures():
    caused = CorpusConfig(num_scenes=24)
    removed = CorpusConfig(num_scenes=24, has_cause=False)

    for index in range(24):
        scene = corpus.corpus_scene(caused, index)
        without = corpus.corpus_scene(removed, index)
        assert without.heard == scene.heard and without.sound_seed == scene.sound_seed
        assert without.seen != scene.seen
