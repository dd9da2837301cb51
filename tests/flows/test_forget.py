"""A take-down reaches everything that shows, holds or was made from a video, and later builds obey it."""

import base64
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pyarrow.parquet as pq
import pytest
import timecode
from real_servers import REPOSITORY, run_mcgurk, snapshot
from roots import write_clips
from timecode import Recipe

from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.builds.plan import plan_all
from flows.builds.takedown import Forgotten, forget
from schemas.files import read_json, write_json, write_text
from schemas.layout import MANIFESTS
from schemas.manifest import read_manifest
from schemas.shard import (
    duplicates_path,
    exclude_path,
    latest_digest,
    published,
    read_superseded,
    read_version,
    tar_path,
)
from tasks.acquisition.ledger import latest
from tasks.funnel import measure_funnel
from tasks.tombstones import FILE, read_tombstones, write_tombstones
from tasks.versions.prune import prune
from tasks.versions.verify import read_samples, verify
from training.tracking.store import KEPT

VIDEO = "-dash_and"
KEY = f"{VIDEO}_0_2000"
KILLER = """
import os, sys
from pathlib import Path
from flows.builds.takedown import forget
from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
left = int(sys.argv[2])
def count(event, arguments):
    global left
    if event in ("os.rename", "os.remove") and sys.argv[1] in str(arguments[0]):
        left -= 1
        if left < 0:
            os._exit(9)
pipeline = resolve(BuildOptions(sys.argv[1]))
sys.addaudithook(count)
forget(pipeline, [sys.argv[3]])
"""


@pytest.fixture(scope="module")
def original(prefect_server, tmp_path_factory):
    """Two versions of two parts, built through the command line; VIDEO is in part 0 of both."""
    folder = tmp_path_factory.mktemp("original")
    (first,) = write_clips(folder / "media", [VIDEO, "plain", "-dash"])
    (second,) = write_clips(folder / "more", ["other", "later"])
    second.write_text(second.read_text().splitlines()[1] + "\n")
    shutil.copy(folder / "more" / "later.mp4", folder / "media")
    # Time-code clips show the same; what is searched for must be in one of them only.
    timecode.write(folder / "media" / f"{VIDEO}.mp4", Recipe(seconds=2.2, sample_rate=22_050))
    for path, preset in ((first, "standard"), (second, "standard"), (second, "demo")):
        options = ["--preset", preset, "--source", f"folder:{folder / 'media'}", "--compute", "threads"]
        options += ["--segments", str(path), "--with-media"]
        run_mcgurk("build", "--root", str(folder / "root"), *options)
    return folder / "root"


@pytest.fixture
def root(original, tmp_path):
    return shutil.copytree(original, tmp_path / "root")


def pipeline_of(root):
    return resolve(BuildOptions(str(root)))


def forgotten(root, *video_ids) -> Forgotten:
    return forget(pipeline_of(root), list(video_ids) or [VIDEO])


def sample(root, digest=None):
    """The members of KEY in a version."""
    for shard in read_version(root, digest).shards:
        samples = read_samples(tar_path(root, shard))
        if KEY in samples:
            return {suffix: content for suffix, (_, content) in samples[KEY].items()}
    return {}


def everything(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rows(root, manifest):
    return {row["key"]: row for _, row in read_manifest(root / manifest)}


def assert_complete(root):
    """Nothing of it is anywhere, what stands is whole, and a build has nothing to do."""
    assert verify(root, map).differences == []
    assert all(one.is_done for one in read_tombstones(root).values())
    assert {row[KEY]["outcome"] for row in (rows(root, name) for name in MANIFESTS)} == {"forgotten"}
    assert not any(plan.due() for plan in plan_all(pipeline_of(root)).values())
    assert measure_funnel(root)["forgotten"] == 1
    names = [str(path.relative_to(root)) for path in root.rglob("*") if KEY in path.name]
    assert names == []


def test_nothing_of_it_is_left_on_disk(root):
    traces = [sample(root, digest) for digest in published(root)]
    clip = next((root / "clips" / "media").glob(f"*/{KEY}.*")).read_bytes()
    cards = [root / "versions" / f"{digest}.html" for digest in published(root)]
    assert all(KEY in card.read_text() for card in cards)  # three or four clips: all are drawn

    forgotten(root)

    assert_complete(root)
    cards = [root / "versions" / f"{digest}.html" for digest in published(root)]
    assert all("data:audio" in card.read_text() for card in cards)  # of the others
    secrets = [clip, *(content for members in traces for content in members.values())]
    secrets += [base64.b64encode(secret) for secret in secrets]
    assert len(secrets) > 20 and all(len(secret) > 300 for secret in secrets)
    for path, content in everything(root).items():
        assert not [True for secret in secrets if secret in content], path


def test_its_rows_keep_the_slot_and_say_no_more(root):
    before = rows(root, "segments")

    forgotten(root)

    after = rows(root, "segments")
    assert list(after) == list(before)
    slot = {
        name: before[KEY][name] for name in ("key", "video_id", "start_ms", "end_ms", "split", "row", "csv")
    }
    marks = {"outcome": "forgotten", "reason": "taken_down", "detail": "", "digest": "", "labels": []}
    assert after[KEY] == {**before[KEY], **slot, **marks}
    clip = rows(root, "clips")[KEY]
    assert {name for name, value in clip.items() if value} == {"key", "outcome", "reason", "fingerprint"}
    assert KEY not in latest(root / "state", 0)


def test_every_kept_version_has_a_successor_without_it(root):
    old = published(root)
    latest_before = latest_digest(root)

    done = forgotten(root)

    held = [digest for digest in old if digest in done.versions]
    assert held == old
    assert published(root) == [done.versions.get(digest, digest) for digest in old]
    assert latest_digest(root) == done.versions[latest_before]
    for digest, successor in done.versions.items():
        assert not list((root / "versions").glob(f"{digest}.*"))
        assert sample(root, successor) == {}
        assert KEY not in exclude_path(root, successor).read_text()
        assert KEY not in str(pq.read_table(duplicates_path(root, successor)).to_pylist())
    assert {version.digest for version in read_superseded(root)} == set(held)
    facts = json.loads((root / "versions" / f"{latest_digest(root)}.json").read_text())["facts"]
    assert facts["funnel"] == measure_funnel(root)


def test_other_parts_are_not_touched(root):
    before = snapshot(root)

    forgotten(root)

    after = snapshot(root)
    other = {name: facts for name, facts in before.items() if "000001" in name}
    assert len(other) > 10
    assert {name: after[name] for name in other} == other


def test_parts_end_as_a_build_would_write_them(root):
    """Rebuilt from the tombstone alone, with every derived manifest gone: the same rows, the same version."""
    forgotten(root)
    done = {name: rows(root, name) for name in MANIFESTS}
    digest = latest_digest(root)
    for name in ("segments/checked", "clips/checked", "features", "shards"):
        shutil.rmtree(root / name)

    run_mcgurk("build", "--root", str(root), "--compute", "threads")

    assert {name: rows(root, name) for name in MANIFESTS} == done
    assert latest_digest(root) == digest


def test_a_build_never_fetches_it_again_whatever_list_names_it(root, original, tmp_path):
    forgotten(root)
    path = tmp_path / "new.csv"
    path.write_text(f'{VIDEO}, 0.500, 1.500, "/m/09x0r"\nplain, 0.500, 1.500, "/m/09x0r"\n')

    run_mcgurk("build", "--root", str(root), "--segments", str(path), "--compute", "threads")

    new = rows(root, "shards")[f"{VIDEO}_500_1500"]
    assert (new["outcome"], new["labels"]) == ("forgotten", [])
    assert rows(root, "shards")["plain_500_1500"]["outcome"] == "ok"
    assert measure_funnel(root)["forgotten"] == 2
    assert not [path for path in root.rglob("*") if path.name.startswith(VIDEO)]


def test_an_unknown_video_changes_nothing(root):
    before = everything(root)

    with pytest.raises(ValueError, match="no segment of nowhere under"):
        forgotten(root, VIDEO, "nowhere")

    assert everything(root) == before


def test_forgetting_twice_changes_nothing_more(root):
    forgotten(root)
    before = {path: content for path, content in everything(root).items() if "leases" not in path.parts}

    done = forgotten(root)

    assert (done.keys, done.removed, done.shards, done.versions) == ([KEY], {}, {}, {})
    after = {path: content for path, content in everything(root).items() if "leases" not in path.parts}
    assert after == before


@pytest.mark.parametrize("operations", [1, 2, 4, 7, 9, 11, 14, 17, 20, 23, 26, 30])
def test_a_kill_in_the_middle_is_completed_by_the_same_command(root, original, tmp_path, operations):
    command = [sys.executable, "-c", KILLER, str(root), str(operations), VIDEO]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    killed = subprocess.run(command, env=environment, capture_output=True, text=True)
    forgotten(root)

    assert killed.returncode == 9, killed.stderr
    assert_complete(root)
    whole = shutil.copytree(original, tmp_path / "whole")
    forgotten(whole)
    assert published(root) == published(whole)
    stones, of_whole = (read_tombstones(one)[VIDEO] for one in (root, whole))
    assert stones.versions == of_whole.versions


def test_a_build_completes_a_take_down_that_was_interrupted(root):
    write_tombstones(root, [VIDEO], {}, is_done=False)

    run_mcgurk("build", "--root", str(root), "--from", "publish", "--compute", "threads")

    assert_complete(root)


def test_a_segment_that_never_came_is_forgotten_too(original, tmp_path, prefect_server):
    root = tmp_path / "root"
    (tmp_path / "media").mkdir()
    (path,) = write_clips(tmp_path / "media", [VIDEO, "plain"])
    (tmp_path / "media" / f"{VIDEO}.mp4").unlink()
    source = ["--source", f"folder:{tmp_path / 'media'}", "--compute", "threads"]
    run_mcgurk("build", "--root", str(root), "--preset", "demo", "--segments", str(path), *source)
    digest = latest_digest(root)

    told = run_mcgurk("forget", VIDEO, "--root", str(root))

    assert "no registered model" in told
    assert latest_digest(root) == digest  # no shard held it
    assert_complete(root)


def test_a_video_is_forgotten_before_anything_was_published(root):
    for name in ("features", "shards", "versions"):
        shutil.rmtree(root / name)

    told = run_mcgurk("forget", VIDEO, "--root", str(root))

    assert f"segment   {KEY}: forgotten" in told
    assert rows(root, "clips/checked")[KEY]["outcome"] == "forgotten"
    assert not list((root / "clips" / "media").glob(f"*/{KEY}.*"))
    assert "nothing was changed" in run_mcgurk("forget", VIDEO, "--root", str(root / "no"), code=2)


def test_pages_that_name_or_show_it_are_cleaned(root):
    media = 'src="data:audio/wav;base64,AAAA"'
    held = latest_digest(root)
    reports = root / "reports"
    write_text(reports / "a" / "report.html", f"<h1>t</h1><audio controls {media}></audio>{held}")
    write_text(reports / "b" / "report.html", f"<h1>t</h1>other {media} {KEY} and -dash_0_2000")
    write_text(reports / "c" / "report.html", f"<h1>t</h1>other {media}")
    report = read_json(reports / "validation" / "clips.json")
    report["expectations"][0]["examples"] = {KEY: 1, "plain_0_2000": 2}
    write_json(reports / "validation" / "clips.json", report)

    done = forgotten(root)

    texts = {name: (reports / name / "report.html").read_text() for name in "abc"}
    assert "data:audio" not in texts["a"] and "media of this page were removed" in texts["a"]
    assert texts["b"] == f"<h1>t</h1>other {media} [taken down] and -dash_0_2000"
    assert texts["c"] == f"<h1>t</h1>other {media}"
    report = read_json(reports / "validation" / "clips.json")
    assert report["expectations"][0]["examples"] == {"plain_0_2000": 2}
    assert KEY not in (reports / "validation" / "index.html").read_text()
    assert {"reports/a/report.html", "reports/b/report.html", "reports/validation/clips.json"} <= set(
        done.pages
    )


def test_models_and_artefacts_of_a_version_that_held_it_are_found(root):
    from training.tracking.runs import MlflowClient, RunSpec, Store, VersionSource, experiment_run

    held = latest_digest(root)
    page = '<h1>t</h1><img src="data:image/jpeg;base64,AAAA">'
    store = Store(root)
    runs = []
    for digest in (held, "f" * 64):
        source = VersionSource(digest, str(root))
        with experiment_run(store, RunSpec("run", {}, source, {})) as run:
            run.client.log_text(run.run_id, page, "report.html")
        runs.append(run)
    client = MlflowClient(store.tracking_uri)
    client.create_registered_model("m")
    for run, digest in zip(runs, (held, "f" * 64), strict=True):
        client.create_model_version("m", "file:///nowhere", run.run_id, tags={"dataset_version": digest})

    done = forgotten(root)

    assert done.models == ["m version 1: trained_on_forgotten = yes"]
    assert client.get_model_version("m", "1").tags["trained_on_forgotten"] == "yes"
    assert "trained_on_forgotten" not in client.get_model_version("m", "2").tags
    assert done.artifacts == [f"{runs[0].run_id}/report.html"]
    folder = root / "mlruns" / "artifacts"
    pages = {path.parts[-3]: path.read_text() for path in folder.rglob("report.html")}
    assert "base64" not in pages[runs[0].run_id] and pages[runs[1].run_id] == page


def test_a_model_of_a_version_that_was_pruned_is_tagged_as_possible(root):
    *gone, kept = published(root)
    prune(root, root / "state", keep=1)

    forgotten(root)

    assert read_tombstones(root)[VIDEO].versions == {kept: True, **dict.fromkeys(gone, False)}


def test_the_command_says_what_it_did(root):
    told = run_mcgurk("forget", VIDEO, "--root", str(root))

    assert f"segment   {KEY}: forgotten" in told
    assert f"removed   clips/media/000000/{KEY}." in told
    assert "next: mcgurk verify" in told
    assert "nothing was changed" in run_mcgurk("forget", "--nobody", "--root", str(root), code=2)


def test_tombstones_name_what_must_stay_away(root):
    forgotten(root)

    stored = read_json(root / "segments" / FILE)
    assert set(stored) == {VIDEO} and stored[VIDEO]["is_done"]


def test_its_name_stays_in_private_manifests_and_tombstones_only(root):
    log = root / "state" / "logs" / "mcgurk.log"
    log.parent.mkdir(exist_ok=True)
    told = log.read_text() if log.is_file() else ""
    log.write_text(f"{told}decoded {KEY}\nfetched {VIDEO} and x{VIDEO}\n")
    path = root / "state" / "prefect" / "prefect.db"
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as server:  # which has it open meanwhile
        server.execute("PRAGMA journal_mode=WAL")
        server.execute("CREATE TABLE log (id TEXT, message TEXT, level INTEGER)")
        server.executemany(
            "INSERT INTO log VALUES (?, ?, ?)", [("1", f"extract: {KEY} stays", 20), ("2", "well", 20)]
        )
        server.commit()
        earlier = root / "mlruns" / KEPT  # what a store was before its addresses were made relative
        earlier.parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(earlier)) as store:
            store.execute("CREATE TABLE tags (value TEXT)")
            store.execute("INSERT INTO tags VALUES (?)", (f"of {KEY}",))
            store.commit()

        done = forgotten(root)

        rows = server.execute("SELECT id, message, level FROM log ORDER BY id").fetchall()
    assert rows == [("1", "extract: [taken down] stays", 20), ("2", "well", 20)]
    assert log.read_text() == f"{told}decoded [taken down]\nfetched [taken down] and x{VIDEO}\n"
    assert {"logs/mcgurk.log", "state/prefect/prefect.db", f"mlruns/{KEPT}"} <= set(done.pages)
    naming = {path for path, content in everything(root).items() if KEY.encode() in content}
    assert {str(path.relative_to(root)) for path in naming} <= SLOTS
    sidecars = [path for path in (root / "shards").glob("*-*.parquet")]
    assert len(sidecars) > 2
    for path in sidecars:
        table = pq.read_table(path, columns=["key", "video_id", "outcome"]).to_pylist()
        assert [
            row for row in table if row["outcome"] == "forgotten" and (row["key"] or row["video_id"])
        ] == []
        assert KEY not in {row["key"] for row in table}
    assert verify(root, map).differences == []


SLOTS = {
    f"{name}/{part:06d}.parquet"
    for name in (
        "segments",
        "segments/checked",
        "clips",
        "clips/checked",
        "features",
        "features/checked",
        "shards",
    )
    for part in (0, 1)
} | {"segments/forgotten.json"}


def test_a_file_that_still_names_it_fails_the_take_down(root):
    left = root / "reports" / "run" / "scores.bin"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"\0\1" + KEY.encode())

    with pytest.raises(
        RuntimeError, match="scores.bin still names what was taken down: remove it or its line"
    ):
        forgotten(root)

    left.unlink()
    assert forgotten(root).keys == [KEY]
    assert_complete(root)
