"""The main job on real input: every segment gets its outcome, nothing is done twice, anybody reads the shards."""

import csv
import io
import json
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_servers import hosting, run_mcgurk, snapshot
from roots import fates

from schemas.manifest import read_manifest
from schemas.shard import read_version

BROWSER = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")

IN_SHARDS = {
    "Chop_wood01_0_8000",
    "HitBag_0002_0_6000",
    "HitMetal_03_0_6000",
    "GRIDbbaf2n5_0_3000",
    "GRIDbrbk7n6_0_3000",
    "GRIDlbax4n7_0_3000",
    "GRIDlwbsza8_0_3000",
    "GRIDpwij3p9_0_3000",
    "_GRIDsbia10_0_3000",
    "Bento_lawn1_0_1100",
    "BBBtrailr12_0_10000",
    "BBBtrailr12_10000_20000",
    "BBBtrailr12_20000_30000",
    "BBBforest13_0_5000",
    "NASA_13013A_2000_12000",
}
OUTCOMES = {key: ("ok", "") for key in IN_SHARDS} | {
    "Gone_404_15_30000_40000": ("waiting", "removed"),
    "Late_end_16_50000_60000": ("waiting", "too_short"),
    "-NoSoundT04_0_5750": ("quarantined", "has_audio"),
}
STATUS = {
    "segments": 18,
    "in_shards": 15,
    "quarantined": {"has_audio": 1},
    "unavailable": {},
    "waiting": {"removed": 1, "too_short": 1},
    "forgotten": 0,
}


@pytest.fixture(scope="module")
def built(shared, prefect_server, tmp_path_factory):
    """A root that was built from the real clips through an HTTP host: (root, options, host, output)."""
    root = tmp_path_factory.mktemp("real") / "root"
    with (shared / "videos.csv").open() as lines:
        files = {row["video_id"]: shared / row["file"] for row in csv.DictReader(lines)}
    with hosting(files) as host:
        source = f"{host.address}/{{video_id}}"
        options = ["--root", str(root), "--segments", str(shared / "segments.csv"), "--source", source]
        output = run_mcgurk("build", "--preset", "standard", *options)
        yield root, options, host, output


def test_every_segment_has_its_outcome(built):
    root, *_ = built

    assert fates(root) == OUTCOMES


def test_what_waits_is_confirmed_on_other_days(built):
    root, *_ = built

    rows = {row["key"]: row for _, row in read_manifest(root / "clips")}
    gone = rows["Gone_404_15_30000_40000"]
    late = rows["Late_end_16_50000_60000"]

    assert (gone["attempts"], gone["detail"]) == (1, "HTTP 404")
    assert gone["next_attempt_at"]
    assert late["next_attempt_at"] and late["attempts"] == 1  # to be confirmed on another day
    assert late["detail"] == "the video ends at 6.01 s, the segment is 50 to 60 s"


def test_a_video_is_fetched_once_for_all_its_segments(built):
    _, _, host, _ = built

    # Two requests a video: yt-dlp looks at the head of an answer before it takes the whole.
    assert host.asked["BBBtrailr12"] == host.asked["BBBforest13"] <= 2


def test_sound_that_ends_early_is_padded_and_recorded(built):
    root, *_ = built

    rows = {row["key"]: row for _, row in read_manifest(root / "features")}

    assert rows["Bento_lawn1_0_1100"]["valid_ms"] == pytest.approx(998, abs=5)
    assert rows["Bento_lawn1_0_1100"]["audio_short_ms"] == pytest.approx(102, abs=5)
    assert {row["num_frames"] for row in rows.values() if row["outcome"] == "ok"} == {10}
    assert {row["num_samples"] for row in rows.values() if row["outcome"] == "ok"} == {160_000}


def test_the_funnel_adds_up_and_is_machine_readable(built):
    root, *_ = built

    status = json.loads(run_mcgurk("status", "--root", str(root), "--json"))

    assert {name: status[name] for name in STATUS} == STATUS
    assert status["dataset_version"] == read_version(root).digest


def test_a_second_build_does_nothing_and_says_so(built):
    root, options, host, _ = built
    before = snapshot(root)
    asked = sum(host.asked.values())

    plan = json.loads(run_mcgurk("plan", *options, "--preset", "standard", "--json"))
    output = run_mcgurk("build", *options, "--preset", "standard")

    assert all(counts == {"done": 1, "stale": 0, "failed": 0, "missing": 0} for counts in plan.values())
    assert "nothing to do" in output
    assert snapshot(root) == before
    assert sum(host.asked.values()) == asked


def test_a_root_remembers_what_it_was_built_with(built):
    root, *_ = built

    plan = json.loads(run_mcgurk("plan", "--root", str(root), "--json"))

    assert sum(counts["done"] for counts in plan.values()) == 8


def test_a_lost_clip_is_fetched_again_and_nothing_else_is_done(built):
    root, options, *_ = built
    before = snapshot(root)
    (lost,) = (root / "clips" / "media").glob("*/GRIDbbaf2n5_0_3000.mkv")
    lost.unlink()

    plan = run_mcgurk("plan", *options)
    run_mcgurk("build", *options)
    planned_now = run_mcgurk("plan", *options)

    assert "1 file(s) lost" in plan and "next: mcgurk build" in plan
    assert "nothing to do" in planned_now and "next:" not in planned_now
    changed = {name for name, facts in snapshot(root).items() if before.get(name) != facts}
    assert changed == {str(lost.relative_to(root)), "clips/000000.parquet"}


def test_another_profile_redoes_extraction_and_what_follows_only(built):
    root, options, host, _ = built
    before = snapshot(root)
    asked = sum(host.asked.values())
    digest = read_version(root).digest

    plan = json.loads(run_mcgurk("plan", *options, "--preset", "small", "--json"))
    run_mcgurk("build", *options, "--preset", "small", "--compute", "threads")
    run_mcgurk("build", *options, "--preset", "standard", "--compute", "threads")

    assert {stage: counts["done"] for stage, counts in plan.items()} == {
        **dict.fromkeys(("index", "validate-segments", "download", "validate-clips"), 1),
        **dict.fromkeys(("extract", "validate-features", "pack", "publish"), 0),
    }
    after = snapshot(root)
    kept = {name for name in before if name.startswith(("segments", "clips"))}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert sum(host.asked.values()) == asked
    assert read_version(root).digest == digest  # back where it was, byte for byte


def test_a_folder_of_the_same_files_gives_the_same_version(built, shared, tmp_path):
    root, *_ = built
    segments = str(shared / "segments.csv")
    source = f"folder:{shared / 'videos.csv'}"

    run_mcgurk("build", "--root", str(tmp_path), "--segments", segments, "--source", source)

    assert fates(tmp_path) == OUTCOMES | {
        "Late_end_16_50000_60000": ("unavailable", "too_short")
    }  # a disk is not asked twice
    assert read_version(tmp_path).digest == read_version(root).digest


# webdataset leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_reads_the_shards(built):
    import webdataset

    root, *_ = built
    versions = root / "versions"
    tars = [str(versions / line) for line in (versions / "latest.txt").read_text().split()]

    samples = list(webdataset.WebDataset(tars, shardshuffle=False))

    assert {sample["__key__"] for sample in samples} == IN_SHARDS
    for sample in samples:
        facts = json.loads(sample["json"])
        assert facts["key"] == sample["__key__"]
        assert min(Image.open(io.BytesIO(sample["009.jpg"])).size) == 256
        with wave.open(io.BytesIO(sample["wav"])) as sound:
            assert (sound.getframerate(), sound.getnchannels(), sound.getnframes()) == (16_000, 1, 160_000)
        assert np.load(io.BytesIO(sample["log_mel.npy"])).shape == (64, 1000)


def test_hugging_face_datasets_reads_the_shards(built, system_ffmpeg):
    """Its audio column needs torchcodec, which needs the system's ffmpeg libraries."""
    from datasets import Audio, load_dataset

    root, *_ = built
    tars = [str(path) for path in sorted((root / "shards").glob("*.tar"))][:1]

    rows = load_dataset("webdataset", data_files={"train": tars}, split="train", streaming=True)
    rows = rows.cast_column("wav", Audio(decode=False))

    assert {row["__key__"] for row in rows} == IN_SHARDS


def test_the_pages_of_a_build_work_offline(built, chromium, tmp_path):
    root, *_ = built
    page = root / "reports" / "validation" / "index.html"

    shown = subprocess.run(
        [chromium, *BROWSER, f"--user-data-dir={tmp_path}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout

    assert "<code>has_audio</code>" in shown and "-NoSoundT04_0_5750" in shown
    assert "http://" not in page.read_text() and "https://" not in page.read_text()


def test_bad_input_is_named_with_its_remedy(tmp_path, mcgurk):
    root = str(tmp_path / "root")

    assert "no such file" in mcgurk("build", "--root", root, "--segments", "nothing.csv", code=2)
    assert "name a list" in mcgurk("build", "--root", root, code=2)
    assert "use one of demo, small, standard" in mcgurk("plan", "--root", root, "--preset", "x", code=2)
    segments = str(tmp_path / "list.csv")
    Path(segments).write_text('abc, 0.000, 2.000, "/m/1"\n')
    build = ("build", "--root", root, "--segments", segments, "--source")
    assert "no such folder" in mcgurk(*build, f"folder:{tmp_path}/nowhere", code=2)
    assert "unknown source" in mcgurk(*build, "ftp://host/{video_id}", code=2)
    assert "with {video_id} in it" in mcgurk(*build, "http://host/video.mp4", code=2)
    assert "build a dataset there first" in mcgurk("status", "--root", root, code=2)
    assert not Path(root).exists()
