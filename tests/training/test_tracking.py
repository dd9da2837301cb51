"""Tracking: what a run keeps, programs that load anywhere, and the gate to champion."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from avc_fixtures import tone
from real_servers import REPOSITORY, tracking_server, wait_for

from schemas.waveforms import INT16_SCALE
from training.estimates import GateScore
from training.models import load_model
from training.tracking import runs
from training.tracking.registry import Scorer, compare, measure_champion, promote, register
from training.tracking.runs import History, RunSpec, Store, VersionSource, experiment_run, has_run

NAME = "mcgurk-test"
CARD = "Paper: of nobody"
# Loads by the address that the registry gives, in a Python that sees neither this repository nor its paths.
LOADER = """
import importlib.abc, json, os, sys
class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in ("training", "schemas", "tasks", "flows"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Without())
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
import mlflow, mlflow.pytorch, numpy, torch
mlflow.set_tracking_uri(sys.argv[1])
inputs = dict(numpy.load(sys.argv[3]))
program = mlflow.pytorch.load_model(sys.argv[2])
logits = program(torch.from_numpy(inputs["frames"]), torch.from_numpy(inputs["audio"]))
scored = mlflow.pyfunc.load_model(sys.argv[2]).predict(inputs)
print(json.dumps({"program": logits.tolist(), "pyfunc": scored.tolist()}))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def model(trained):
    return load_model(trained)


@pytest.fixture(scope="module")
def server(store, registered, tmp_path_factory):
    """The address of a tracking server over the store."""
    with tracking_server(store.root, tmp_path_factory.mktemp("state")) as address:
        yield address


@pytest.fixture(scope="module")
def registered(store, model):
    """(run id, version): one run with everything a run has, and its model."""
    source = VersionSource("d" * 64, "/somewhere")
    params = {"train": {"seed": 3}, "model": "contrastive"}
    with experiment_run(store, RunSpec("first", params, source, {"lineage": "l"})) as run:
        for step in range(1, 6):
            run.log_step({"step": step, "seconds": step / 10, "loss": 5.0 / step, "broken": float("nan")})
        run.log_results({"correspondence": {"random": {"auc": {"value": 0.7}}, "per_group": [1]}})
        version = register(run, model, NAME, GateScore(0.7, "e1"), CARD)
    return run.run_id, version


def test_a_run_keeps_parameters_metrics_dataset_and_tags(store, registered):
    client = runs.MlflowClient(store.tracking_uri)

    run = client.get_run(registered[0])

    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.seed": "3", "model": "contrastive"}
    assert [m.value for m in client.get_metric_history(registered[0], "loss")] == [
        5.0 / k for k in range(1, 6)
    ]
    assert run.data.metrics["evaluation/correspondence.random.auc.value"] == 0.7
    assert [name for name in run.data.metrics if "/" not in name] == ["loss"]
    assert "training/broken" not in run.data.metrics and "training/seconds" in run.data.metrics
    assert {(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs} == {
        ("training", "d" * 36),
        ("evaluation", "d" * 36),
    }
    assert run.data.tags["dataset_version"] == "d" * 64
    assert [a.path for a in client.list_artifacts(registered[0])] == ["results.json", "settings.json"]


def test_everything_lies_below_the_root(store, registered):
    names = {path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file()}

    assert "mlruns/mlflow.db" in names
    assert all(name.startswith(("mlruns/artifacts/", "mlruns/mlflow.db")) for name in names)
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pth"))]


def test_no_registered_file_names_a_folder_of_the_trainer_s(store, registered):
    (file,) = store.root.rglob("model.pt2")
    folders = [REPOSITORY, Path(sys.prefix), store.root, Path(gettempdir()), Path.home()]

    contents = [path.read_bytes() for path in file.parents[1].rglob("*") if path.is_file()]
    with ZipFile(file) as archive:
        contents += [archive.read(name) for name in archive.namelist()]

    assert len(contents) > 8 and any(b"training.tracking.registry.Scorer" in one for one in contents)
    for content in contents:
        assert not any(str(folder).encode() in content for folder in folders)


def test_a_run_that_breaks_is_marked_failed_and_keeps_its_metrics(store):
    with (
        pytest.raises(RuntimeError, match="broke"),
        experiment_run(store, RunSpec("bad", {}, VersionSource("d", ""), {})) as run,
    ):
        run.log_step({"step": 1, "loss": 2.0})
        raise RuntimeError("broke")

    kept = runs.MlflowClient(store.tracking_uri).get_run(run.run_id)
    assert kept.info.status == "FAILED" and kept.data.metrics == {"loss": 2.0}


def test_a_run_is_gone_on_with(store):
    spec = RunSpec("long", {"seed": 1}, VersionSource("d", ""), {})
    with pytest.raises(KeyboardInterrupt), experiment_run(store, spec) as first:
        first.log_step({"step": 1, "loss": 2.0})
        raise KeyboardInterrupt

    with experiment_run(store, replace(spec, run_id=first.run_id)) as second:
        second.log_step({"step": 2, "loss": 1.0})

    client = runs.MlflowClient(store.tracking_uri)
    assert second.run_id == first.run_id
    assert [m.value for m in client.get_metric_history(first.run_id, "loss")] == [2.0, 1.0]
    assert client.get_run(first.run_id).info.status == "FINISHED"
    assert has_run(store, first.run_id) and not has_run(store, "0" * 32)


def test_after_a_kill_each_step_stands_in_a_run_once(store, tmp_path):
    spec = RunSpec("killed", {"seed": 1}, VersionSource("d", ""), {})
    path = tmp_path / "history.jsonl"
    told = [
        {"step": step, "seconds": step / 10, "loss": 1.0 / step, **dict.fromkeys("abcdefgh", 1.0)}
        for step in range(1, 301)
    ]
    history = History(path)
    client = runs.MlflowClient(store.tracking_uri)
    with experiment_run(store, spec) as first:
        for metrics in told[:250]:
            first.log_step(metrics)
            history.add(metrics)
        sent = {m.step for m in client.get_metric_history(first.run_id, "loss")}
        first._queue.clear()  # what a kill loses
    assert max(sent) < 250, "some were still in the queue"

    with experiment_run(store, replace(spec, run_id=first.run_id)) as second:
        resumed = told[200:]  # from the last checkpoint on
        resumed[4] |= {"val_auc": 0.7}  # due by the clock, at a step whose loss was sent before
        for metrics in [*History(path).before(resumed[0]["step"]), *resumed]:
            second.log_step(metrics)

    logged = client.get_metric_history(first.run_id, "loss")
    assert [m.step for m in logged] == list(range(1, 301))
    begun_ms = client.get_run(first.run_id).info.start_time
    assert [m.timestamp - begun_ms for m in logged[:3]] == [100, 200, 300]
    assert len(client.get_metric_history(first.run_id, "training/h")) == 300
    assert [(m.step, m.value) for m in client.get_metric_history(first.run_id, "val_auc")] == [(205, 0.7)]


def test_each_run_goes_to_its_own_store_unless_the_user_names_one(store, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for where in (store, Store(tmp_path)):
        with experiment_run(where, RunSpec("own", {}, VersionSource("d", ""), {})) as run:
            assert "MLFLOW_TRACKING_URI" not in os.environ
        assert has_run(where, run.run_id)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert not has_run(Store(tmp_path), "0" * 32)
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:1"


def test_a_training_s_machine_is_watched_from_where_an_earlier_process_stopped(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    spec = RunSpec("watched", {}, VersionSource("d", ""), {})
    name = "system/cpu_utilization_percentage"
    client = runs.MlflowClient(store.tracking_uri)

    def steps(run):
        return [metric.step for metric in client.get_metric_history(run.run_id, name)]

    with experiment_run(store, spec) as first, runs.system_metrics(first):
        wait_for(lambda: len(steps(first)) >= 2, "a second look")
    before = steps(first)
    with experiment_run(store, replace(spec, run_id=first.run_id)) as second, runs.system_metrics(second):
        wait_for(lambda: len(steps(second)) > len(before), "a further look")

    assert steps(second) == list(range(len(steps(second))))


def test_a_registered_model_loads_without_this_repository(server, registered, model, tmp_path):
    random = np.random.default_rng(0)
    frames = random.integers(0, 255, (3, 112, 112, 3)).astype(np.uint8)
    waves = np.stack([tone(pitch, 1)[:16_000] for pitch in (200, 800, 2000)]).astype(np.float32) / INT16_SCALE
    np.savez(tmp_path / "inputs.npz", frames=frames, audio=waves)
    address = f"models:/{NAME}/{registered[1]}"

    command = [sys.executable, "-I", "-c", LOADER, server, address, str(tmp_path / "inputs.npz")]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stderr
    with torch.inference_mode():
        expected = Scorer(model)(torch.from_numpy(frames), torch.from_numpy(waves))
    for logits in json.loads(told.stdout.splitlines()[-1]).values():
        np.testing.assert_allclose(logits, expected.numpy(), atol=1e-3)


def test_the_program_scores_stored_clips_as_the_model_does(model, dataset):
    """Wave in, against the stored log-mel: equal but for the window's ends, which saw their neighbours."""
    clips = dataset.split("eval")
    frames = torch.from_numpy(np.stack([clips.frame(row, 4)[8:120, 24:136] for row in range(8)]))
    waves = np.stack([clips.wave(row)[0, 64_000:80_000] for row in range(8)]).astype(np.float32) / INT16_SCALE
    log_mel = torch.from_numpy(
        np.stack([clips.log_mel(row)[:, 400:500] for row in range(8)]).astype(np.float32)
    )

    with torch.inference_mode():
        logits = Scorer(model)(frames, torch.from_numpy(waves))
        V = model.encode_image(frames.permute(0, 3, 1, 2).float() / 255)["vector"]
        stored = model.score(V, model.encode_audio(log_mel)["vector"]).diagonal()

    torch.testing.assert_close(logits, stored, atol=0.25, rtol=0)


def test_the_gate_of_the_registry(store, registered, model):
    def challenge(score, digest):
        source = VersionSource("d" * 64, "")
        with experiment_run(store, RunSpec("next", {}, source, {})) as run:
            version = register(run, model, NAME, GateScore(score, digest), CARD)
        return version, promote(store, NAME, version)

    client = runs.MlflowClient(store.tracking_uri)
    assert "champion" not in client.get_registered_model(NAME).aliases
    first = promote(store, NAME, registered[1])
    assert first.is_promoted and "first" in first.reason
    version, better = challenge(0.8, "e1")
    assert better.is_promoted and "beats" in better.reason
    aliases = client.get_registered_model(NAME).aliases
    assert {alias: str(v) for alias, v in aliases.items()} == {"champion": version, "challenger": version}
    assert "already" in promote(store, NAME, version).reason


def test_a_champion_of_other_clips_is_measured_on_these(tmp_path, model, trained):
    store = Store(tmp_path)
    asked = []

    def offered(score, digest, artefact=True):
        with experiment_run(store, RunSpec("next", {}, VersionSource("d" * 64, ""), {})) as run:
            if artefact:
                run.log_artifact(trained)
            return promote(store, NAME, register(run, model, NAME, GateScore(score, digest), CARD))

    def measure(path):
        asked.append(load_model(path))
        return GateScore(0.6, "e2")

    assert offered(0.8, "e1").is_promoted
    assert measure_champion(store, NAME, "e1", measure) == "" and not asked
    assert measure_champion(store, NAME, "e2", measure) == "" and len(asked) == 1
    assert offered(0.7, "e2", artefact=False).is_promoted  # 0.6 there, whatever it was elsewhere
    assert "best.pt of the champion is not among the artefacts" in measure_champion(
        store, NAME, "e3", measure
    )
    assert "refused" in offered(0.9, "e3").reason


def test_the_gate_compares_only_what_can_be_compared():
    def tags(score, digest="e1"):
        return {"score": repr(score), "evaluation_digest": digest}

    assert compare(tags(0.5), None).is_promoted
    assert compare(tags(0.8), tags(0.7)).is_promoted
    assert not compare(tags(0.7), tags(0.7)).is_promoted
    assert not compare(tags(0.6), tags(0.7)).is_promoted
    other = compare(tags(0.9, "e2"), tags(0.7))
    assert not other.is_promoted and "refused" in other.reason
    assert not compare(tags(float("nan")), None).is_promoted
