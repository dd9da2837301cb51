"""The weekly upkeep of a root: what nobody needs goes, and what somebody needs stays."""

import os
import shutil
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta

import avc_fixtures as shards
import pytest
from avc_fixtures import tiny_run
from mlflow.tracking import MlflowClient
from real_servers import tracking_server

from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.experiments.upkeep import KEEP_RUNS, LOGS_STAY, keep_up
from schemas.layout import run_folder
from schemas.shard import latest_digest, read_superseded, read_version, retire, write_version
from training.estimates import GateScore
from training.models import load_model
from training.tracking import pruning
from training.tracking.registry import promote, register
from training.tracking.runs import RunSpec, VersionSource, experiment_run
from training.tracking.store import Store

NAME = "mcgurk-avc"
GONE = "e" * 64  # a version that is there no more


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    dataset = shards.written(folder, shards.corresponding({"train": 12, "val": 6, "eval": 6}, num_kinds=3))
    return load_model(tiny_run(dataset, folder / "run", num_steps=2))


class Root:
    """A root with runs as trainings leave them: artefacts in MLflow, checkpoints in a folder of reports."""

    def __init__(self, path):
        shards.write_dataset(path, shards.corresponding({"train": 12, "val": 6, "eval": 6}, num_kinds=3))
        self.path = path
        self.digest = latest_digest(path)
        self.store = Store(path)

    def begin(self, stack, score=None, digest=None):
        """A run at work, until the stack ends."""
        source = VersionSource(digest or self.digest, str(self.path))
        run = stack.enter_context(experiment_run(self.store, RunSpec("run", {"seed": 1}, source, {})))
        if score is not None:
            run.log_results({"correspondence": {"random": {"auc": {"value": score}}}})
        folder = self.folder(run.run_id)
        folder.mkdir(parents=True)
        (folder / "best.pt").write_bytes(b"weights")
        run.log_artifact(folder / "best.pt")
        return run

    def train(self, score=None, digest=None, model=None):
        """A run that has ended, with its model registered where there is one; returns its id."""
        with ExitStack() as stack:
            run = self.begin(stack, score, digest)
            if model:
                promote(self.store, NAME, register(run, model, NAME, GateScore(score, "e1"), "card"))
        return run.run_id

    def fail(self, digest=None):
        """A run that a training has left half-finished, and the note of it."""
        with pytest.raises(ZeroDivisionError), ExitStack() as stack:
            run = self.begin(stack, digest=digest)
            raise ZeroDivisionError
        notes = self.path / "state" / "trainings"
        notes.mkdir(parents=True, exist_ok=True)
        (notes / run.run_id[:16]).write_text(f"{run.run_id}\n")
        return run.run_id

    def folder(self, run_id):
        return self.path / run_folder(run_id)

    def is_whole(self, run_id):
        """Whether artefacts and checkpoints of a run are there; they are both or neither."""
        client = MlflowClient(self.store.tracking_uri)
        is_there = bool(client.list_artifacts(run_id))
        assert self.folder(run_id).exists() == is_there
        return is_there

    def keep_up(self, **options):
        return keep_up(self.pipeline, **options)

    @property
    def pipeline(self):
        return resolve(BuildOptions(str(self.path), "demo"))


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path)


def test_the_best_runs_stay_and_others_keep_their_numbers_only(root):
    scores = [0.6, 0.9, 0.5, 0.8, 0.7, 0.95, 0.65]
    ids = [root.train(score) for score in scores]
    without = root.train()

    done = root.keep_up()

    best = sorted(scores)[-KEEP_RUNS:]
    assert [score for run_id, score in zip(ids, scores, strict=True) if root.is_whole(run_id)] == [
        score for score in scores if score in best
    ]
    assert not root.is_whole(without)
    assert set(done.runs) == {without, ids[0], ids[2]}
    run = MlflowClient(root.store.tracking_uri).get_run(ids[0])
    assert run.data.metrics[pruning.SCORE] == 0.6 and run.data.params["seed"] == "1"
    assert "were pruned at 20" in run.data.tags["mlflow.note.content"]
    assert root.keep_up().runs == []


def test_a_model_with_an_alias_stays_and_loads(root, model):
    champion = root.train(0.9, model=model)
    old = root.train(0.5, model=model)
    named = root.train(0.4, model=model)
    challenger = root.train(0.6, model=model)
    best = root.train(0.99)
    client = MlflowClient(root.store.tracking_uri)
    versions = {one.run_id: one for one in client.search_model_versions()}
    client.set_registered_model_alias(NAME, "mine", versions[named].version)

    assert root.keep_up(keep_runs=1).runs == [old]

    assert all(root.is_whole(run_id) for run_id in (champion, named, challenger, best))
    assert {one.run_id for one in client.search_model_versions()} == {champion, named, challenger}
    programs = list((root.path / "mlruns").rglob("model.pt2"))
    assert len(programs) == 3
    assert client.get_model_version_by_alias(NAME, "champion").run_id == champion


def test_what_a_training_goes_on_with_stays(root):
    half_finished = root.fail()
    of_a_version_that_is_gone = root.fail(digest=GONE)
    with ExitStack() as stack:
        at_work = root.begin(stack).run_id

        done = root.keep_up(keep_runs=0)

        assert root.is_whole(at_work)
    assert root.is_whole(half_finished)
    assert done.runs == [of_a_version_that_is_gone]
    assert not root.is_whole(of_a_version_that_is_gone)


def test_at_a_tracking_server_only_the_runs_of_this_root_are_looked_at(root, tmp_path, monkeypatch):
    ours = root.train()
    theirs = root.train()
    shutil.rmtree(root.folder(theirs))  # as of a training on another machine
    with tracking_server(tmp_path, tmp_path / "state") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)

        assert root.keep_up(keep_runs=0).runs == [ours]

    client = MlflowClient(root.store.tracking_uri)
    assert client.list_artifacts(ours) == [] and client.list_artifacts(theirs) != []
    assert not root.folder(ours).exists()


def test_the_record_of_a_retired_version_stays_as_long_as_a_run_or_a_model_names_it(root):
    version = read_version(root.path)
    retired = [replace(version, digest=digit * 64) for digit in "abc"]
    for one in (*retired, version):
        write_version(root.path, one, {"rules": one.digest, "funnel": {}})
    for one in retired:
        retire(root.path, one.digest)
    root.train(digest="b" * 64)

    assert root.keep_up(keep_runs=0).records == ["a" * 64, "c" * 64]

    assert [one.digest for one in read_superseded(root.path)] == ["b" * 64]


def test_without_a_training_no_record_stays(root):
    version = read_version(root.path)
    write_version(root.path, replace(version, digest="a" * 64), {})
    write_version(root.path, version, {})
    retire(root.path, "a" * 64)

    assert root.keep_up().records == ["a" * 64]


def test_logs_that_nobody_writes_any_more_go(root):
    logs = root.path / "state" / "logs"
    logs.mkdir(parents=True)
    pipeline = root.pipeline
    for name, age in (("old.log", LOGS_STAY + timedelta(days=1)), ("new.log", timedelta(days=1))):
        (logs / name).write_text("a line\n")
        then = (pipeline.now - age).timestamp()
        os.utime(logs / name, (then, then))

    assert keep_up(pipeline).logs == ["old.log"]

    assert [path.name for path in logs.iterdir()] == ["new.log"]
