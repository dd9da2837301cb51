"""The page of a root: it shows what stands, works from a file on any screen, and obeys a take-down."""

import json
import re
from pathlib import Path

import pytest
from browser import browsing
from real_servers import wait_for
from roots import Root, write_clips

from flows.builds.overview import Renewal, page_of, write_overview
from flows.commands.cli import main
from schemas.layout import RUN_REPORT, run_folder
from schemas.shard import latest_digest
from schemas.storage import open_root
from training.tracking.listing import best_of, list_runs
from training.tracking.store import Store

HOSTILE = '<img src=x onerror="document.title=1">.mp4'
DAMAGED = "no-film-1"
SPEC = {"name": "run <b>one", "tags": {"model": "contrastive"}}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Root:
    """Two clips in shards, and one file that is no film, whose owner gave it a hostile name."""
    folder = tmp_path_factory.mktemp("page")
    lists = write_clips(folder / "videos", ["whole1", "whole2", DAMAGED])
    (folder / "videos" / f"{DAMAGED}.mp4").write_bytes(b"no film " * 999)
    root = Root(folder / "my <i>root", f"folder:{folder}/videos", lists)
    root.build()
    (root.state / "windows").mkdir(parents=True)
    quoted = HOSTILE.replace('"', '""')
    (root.state / "windows" / "videos.csv").write_text(f'video_id,file\n{DAMAGED},"{quoted}"\n')
    return root


@pytest.fixture(scope="module")
def trained(root) -> list[str]:
    """The ids of three runs in the store of that root: the champion, one with a higher score, and one that failed."""
    from mlflow.tracking import MlflowClient

    from training.tracking.runs import RunSpec, VersionSource, experiment_run

    store = Store.of(root.path)
    digest = latest_digest(root.path) or ""
    ids = []
    for score in (0.8, 0.9, None):
        spec = RunSpec(params={}, dataset=VersionSource(digest, str(root.path)), **SPEC)
        with experiment_run(store, spec) as run:
            ids.append(run.run_id)
            if score is None:
                continue
            client = MlflowClient()
            if score == 0.8:
                client.create_registered_model("mcgurk-avc")
            tags = {"score": repr(score), "evaluation_digest": "e" * 64}
            experiment = client.get_run(run.run_id).info.experiment_id
            logged = client.create_logged_model(experiment, "model", run.run_id)
            version = client.create_model_version("mcgurk-avc", logged.model_uri, run.run_id, tags=tags)
            if score == 0.8:
                client.set_registered_model_alias("mcgurk-avc", "champion", version.version)
    report = root.path / run_folder(ids[0]) / RUN_REPORT
    report.parent.mkdir(parents=True)
    report.write_text("a report")
    return ids


def test_runs_are_read_from_the_database_with_what_the_gate_compares(root, trained):
    found = list_runs(Store.of(root.path)) or []

    last, better, champion = found
    assert [run.run_id for run in found] == trained[::-1]
    assert (champion.is_champion, champion.score, champion.model) == (True, 0.8, "contrastive")
    assert (better.is_champion, better.version, last.version) == (False, "2", "")
    assert best_of(found) == better


def test_a_store_without_a_database_has_no_runs_and_a_server_is_not_asked(tmp_path):
    assert list_runs(Store(root=tmp_path)) == []
    assert list_runs(Store(uri="http://127.0.0.1:9")) is None


def test_the_page_shows_what_stands_and_escapes_what_strangers_wrote(root, trained):
    text = page_of(root.path, root.state, root.now, {})
    digest = latest_digest(root.path)

    assert "2 of 3 usable; " in text and "is damaged" in text
    assert f'href="versions/{digest}.html"' in text
    assert f'href="{run_folder(trained[0])}/report.html"' in text
    assert 'class="mark champion"' in text and 'class="mark best"' in text and 'class="mark last"' in text
    assert "mcgurk serve --root" in text  # how its servers are started
    assert "<img" not in text and "<i>root" not in text and "<b>one" not in text
    assert not re.search(r'(src|href)="(?!versions/|reports/|https?://127)', text)


@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_works_from_a_file_on_a_desk_and_on_a_phone(root, trained, width, chromium):
    write_overview(root.path, root.state)
    with browsing(chromium) as page:
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
        )
        page.open((root.path / "index.html").as_uri())
        page.await_text("What became of every segment")

        assert page.value("document.documentElement.scrollWidth") <= width
        assert HOSTILE in page.value("document.body.innerText")
        assert page.value("document.title") == "my <i>root · mcgurk"
        assert page.value("performance.getEntriesByType('resource').length") == 0
        page.open(page.value("document.querySelector('a[href^=versions]').href"))
        page.await_text("Dataset")


def test_who_leaves_says_that_nothing_is_served(root):
    served = {"Prefect": "http://127.0.0.1:4200", "MLflow": "http://127.0.0.1:5000"}
    page = Renewal(root.path, root.state)
    page.look()
    write_overview(root.path, root.state, served)
    text = (root.path / "index.html").read_text()
    assert (
        "ssh -L 4200:127.0.0.1:4200 -L 5000:127.0.0.1:5000 " in text
        and 'href="http://127.0.0.1:5000"' in text
    )

    page.leave()

    assert "127.0.0.1" not in (root.path / "index.html").read_text()


def test_a_root_without_anything_has_a_page_too(tmp_path):
    write_overview(tmp_path, tmp_path / "state")

    text = (tmp_path / "index.html").read_text()
    assert "Nothing has been built here yet." in text and "None yet: mcgurk train" in text


def test_the_page_of_a_root_on_a_store_names_no_verb_that_refuses_it(tmp_path):
    write_overview(open_root("memory://bucket/page"), tmp_path)

    text = (tmp_path / "index.html").read_text()
    assert "None yet: mcgurk train --root memory://bucket/page" in text
    assert "mcgurk serve --root" not in text


def test_where_the_page_can_t_be_written_nothing_else_fails(tmp_path, caplog):
    (tmp_path / "index.html").mkdir()

    write_overview(tmp_path, tmp_path / "state")

    assert "index.html was not written" in caplog.text


def test_while_it_is_served_the_page_follows_what_changes_but_not_at_every_look(root, monkeypatch):
    monkeypatch.setattr("flows.builds.overview.EVERY_S", 0.2)
    monkeypatch.setattr("flows.builds.overview.SHARE", 1000.0)
    path = root.path / "index.html"
    page = Renewal(root.path, root.state)
    page.look()
    written_ns = path.stat().st_mtime_ns

    page.look()
    assert path.stat().st_mtime_ns == written_ns
    (root.path / "versions" / "note.txt").write_text("")

    def is_renewed() -> bool:
        page.look()
        return path.stat().st_mtime_ns > written_ns

    wait_for(is_renewed, "a new page")


def test_a_takedown_reaches_the_page(root, trained, capsys):
    write_overview(root.path, root.state)
    assert "no-film-1" not in (root.path / "index.html").read_text()  # its owner's name stands there
    (root.state / "windows" / "videos.csv").unlink()
    write_overview(root.path, root.state)
    assert DAMAGED in (root.path / "index.html").read_text()

    assert main(["forget", DAMAGED, "--root", str(root.path)]) == 0

    text = (root.path / "index.html").read_text()
    assert DAMAGED not in text and "1 was taken down" in text
    assert "index.html: cleaned" in capsys.readouterr().out
    assert json.loads(Path(root.path / "versions" / "latest.json").read_text())
