"""Experiments on a version that stands: which run they go on with, and what they offer for promotion."""

import subprocess
import sys
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import avc_fixtures as shards
import pytest
import torch
from real_servers import answering, tracking_server

from flows import compare_models as comparison
from flows.compare_models import compare_variants
from flows.experiments.experiment import ExperimentOptions, prepare
from flows.experiments.studies import Variant
from flows.run_experiment import run_experiment
from schemas.files import write_text
from schemas.shard import latest_digest
from training.learning.state import LAST
from training.networks.checkpoint import read_checkpoint
from training.tracking import runs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture
def root(tmp_path):
    shards.write_dataset(tmp_path, shards.corresponding({"train": 12, "val": 6, "eval": 12}, num_kinds=3))
    return tmp_path


def options(root, **changes) -> ExperimentOptions:
    return replace(ExperimentOptions(str(root), preset="demo", steps=2, with_media=False), **changes)


@pytest.fixture
def unfinished(root):
    """A run that seems not to have ended, of code with other defaults; and the note about it."""
    first = run_experiment(options(root))
    experiment = prepare(options(root))
    note = experiment.pipeline.state / "trainings" / experiment.identity[:16]
    note.write_text(f"{first['run_id']}\n")
    last = root / "reports" / first["run_id"][:12] / LAST
    content = read_checkpoint(last)
    content["facts"]["train"]["learning_rate"] = 1.0  # what was the default then
    torch.save(content, last)
    return first, note


def test_several_ranks_end_at_a_run_of_other_code_and_leave_it(root, unfinished):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python")
    mcgurk = (
        Path(sys.executable).parent / "mcgurk",
        "train",
        "--root",
        root,
        "--preset",
        "demo",
        "--set",
        "steps=2",
    )

    done = subprocess.run([sys.executable, *launcher, *mcgurk], capture_output=True, text=True, timeout=400)

    assert done.returncode != 0
    assert "was trained on another setting (learning_rate: 1.0 there" in done.stderr
    assert not unfinished[1].exists(), "the same command begins a new run"


def test_an_unfinished_run_of_other_code_is_left_and_a_new_one_begun(root, unfinished):
    first, note = unfinished
    experiment = prepare(options(root))

    second = run_experiment(options(root))

    assert second["run_id"] != first["run_id"] and second["steps"] == 2
    assert not note.exists()
    assert runs.has_run(experiment.store, first["run_id"])


def test_a_champion_of_an_earlier_version_is_measured_on_the_latest(root):
    compared = run_experiment(options(root, is_offered=False))
    first = run_experiment(options(root, seed=1))
    shards.write_dataset(root, shards.corresponding({"train": 12, "val": 6, "eval": 15}, num_kinds=3))

    second = run_experiment(options(root, seed=2))

    assert "not offered" in compared["reason"]
    assert first["is_promoted"] and "first champion" in first["reason"]
    assert "the champion's" in second["reason"]  # compared, and not refused
    digests = [one["correspondence"]["evaluation_digest"] for one in (first, second)]
    assert digests[0] != digests[1]
    versions = runs.MlflowClient(prepare(options(root)).store.tracking_uri).search_model_versions()
    assert [one.tags["evaluation_digest"] for one in versions] == [digests[1]] * 2


def test_a_comparison_goes_on_after_the_trainings_that_have_ended(root, monkeypatch):
    monkeypatch.setattr(comparison, "SEEDS", (0, 1))
    small = Variant("small", "contrastive")
    paper = Variant("paper", "l3/paper")
    with pytest.raises(ValueError, match="sample_rate_hz"):  # of a version at another rate
        compare_variants(options(root), [small, paper])

    compared = compare_variants(options(root), [small, Variant("shallow", "contrastive/shallow")])

    store = prepare(options(root)).store
    client = runs.MlflowClient(store.tracking_uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    models = [run.data.params["model"] for run in client.search_runs(experiments)]
    assert sorted(models) == ["contrastive"] * 2 + ["contrastive/shallow"] * 2 + ["l3/paper"]
    assert [one.name for one in compared] == ["small", "shallow"] and compared[0].steps == 2
    assert not list((root / "state" / "trainings").glob("*.json"))


def test_a_run_says_once_what_it_was_and_what_can_be_opened(root):
    write_text(root / "versions" / f"{latest_digest(root)}.md", "# Dataset version")

    results = run_experiment(
        options(root, model="contrastive/within_clip", seed=4, settings={"learning_rate": 2e-3})
    )

    client = runs.MlflowClient(prepare(options(root)).store.tracking_uri)
    run = client.get_run(results["run_id"])
    params = run.data.params
    assert run.info.run_name == f"contrastive-within_clip-{latest_digest(root)[:8]}-seed4"
    assert params["model"] == "contrastive/within_clip" and params["model.within_clip"] == "0.2"
    assert (params["seed"], params["steps"], params["learning_rate"]) == ("4", "2", "0.002")
    assert params["sampling.steps_per_clip"] == "4", "what the model needs, and not the default"
    assert "seconds" not in params, "the budget is in steps"
    last = [name.rsplit(".", 1)[-1] for name in params]
    assert len(set(last)) == len(last), sorted(name for name in last if last.count(name) > 1)
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == {
        "best.pt", "card.md", "report.html", "results.json", "settings.json",
    }  # fmt: skip
    page = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifactPath"
    assert run.data.tags["mlflow.note.content"] == (
        f"- [report]({page}/report.html)\n- [data card]({page}/card.md)\n"
        "- [mcgurk-avc version 1](#/models/mcgurk-avc/versions/1)"
    )


class _Guarded(BaseHTTPRequestHandler):
    """A tracking server whose registry this user may read and not write."""

    behind = ""

    def do_GET(self):
        self._answer(None)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "registered-models" in self.path or "model-versions" in self.path:
            self.send_error(403, "Permission denied")
        else:
            self._answer(body)

    def _answer(self, body):
        headers = {"Content-Type": "application/json"}
        request = Request(f"{self.behind}{self.path}", body, headers, method=self.command)
        try:
            with urlopen(request, timeout=30) as answer:
                status = answer.status
                content = answer.read()
        except HTTPError as error:
            status = error.code
            content = error.read()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PATCH = do_PUT = do_POST  # noqa: N815  (names of the standard library's)

    def log_message(self, *_):
        """Quiet."""


def test_who_may_not_register_is_told_before_step_1(root, tmp_path, monkeypatch):
    with (
        tracking_server(tmp_path / "store", tmp_path / "logs") as _Guarded.behind,
        answering(_Guarded) as address,
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)

        with pytest.raises(
            RuntimeError, match=rf"MLflow at {address}: .*registered-models.* failed with error code 403"
        ):
            run_experiment(options(root))

        compared = run_experiment(options(root, is_offered=False))
    assert len(list((root / "reports").glob("*/history.jsonl"))) == 1, (
        "of the one that was not to be registered"
    )
    assert "not offered" in compared["reason"]
