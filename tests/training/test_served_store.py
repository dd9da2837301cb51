"""Runs, models and the champion on a real tracking server, where MLflow checks what a file takes as it is."""

import base64
import json
import signal
import subprocess
import sys
import time
from urllib.error import HTTPError
from urllib.request import Request

import pytest
from real_servers import REPOSITORY, answered, free_port, tracking_server

from flows.services.servers import login
from training.estimates import GateScore
from training.models import load_model
from training.tracking import runs
from training.tracking.connection import all_pages, connect
from training.tracking.registry import measure_champion, promote, register, require_registry, tag_forgotten
from training.tracking.runs import RunSpec, VersionSource, commit, experiment_run
from training.tracking.store import Store

NAME = "mcgurk-served"
CARD = "Paper: of nobody"
DIGEST = "d" * 64
SPEC = RunSpec(
    "contrastive-dddddddd-seed0", {"seed": 0}, VersionSource(DIGEST, "/r"), {"model": "contrastive"}
)
BEGINS = """
import sys
from training.tracking.runs import RunSpec, Store, VersionSource, experiment_run
with experiment_run(Store(uri=sys.argv[1]), RunSpec("killed", {}, VersionSource("d", ""), {})) as run:
    print(run.run_id, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    with tracking_server(root, root / "state") as address:
        yield Store(uri=address)


@pytest.fixture(scope="module")
def client(store):
    connect(store)
    return runs.MlflowClient(store.uri)


@pytest.fixture(scope="module")
def model(trained):
    return load_model(trained)


@pytest.fixture(scope="module")
def registered(store, model, trained):
    """(run id, version) of a model that was registered and became champion."""
    with experiment_run(store, SPEC) as run:
        require_registry(run, NAME)
        run.log_results({"correspondence": {"random": {"auc": {"value": 0.7}}}})
        run.log_artifact(trained)
        version = register(run, model, NAME, GateScore(0.7, "e1"), CARD)
        verdict = promote(store, NAME, version)
    assert verdict.is_promoted and "the first champion" in verdict.reason
    return run.run_id, version


def offered(store, model, score=0.8, digest="e1"):
    """The verdict on a model."""
    with experiment_run(store, SPEC) as run:
        require_registry(run, NAME)
        return promote(store, NAME, register(run, model, NAME, GateScore(score, digest), CARD))


def test_a_version_says_what_it_is_and_where_it_comes_from(client, registered):
    run_id, number = registered

    version = client.get_model_version(NAME, number)
    run = client.get_run(run_id)

    assert version.run_id == run_id and version.source == f"models:/{run.outputs.model_outputs[0].model_id}"
    assert version.description.startswith(
        f"[{SPEC.name}](#/experiments/{run.info.experiment_id}/runs/{run_id}), AUC"
    )
    assert version.description.endswith(CARD)
    assert version.tags == {
        "evaluation_digest": "e1", "score": "0.7", "dataset_version": DIGEST, "exclusions": "", "model": "contrastive",
    }  # fmt: skip
    assert run.info.run_name == SPEC.name and run.data.tags["mlflow.source.git.commit"] == commit()
    experiment = client.get_experiment(run.info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.tags["mlflow.experiment.primaryMetric.name"] == "val_auc"


def test_what_was_evaluated_names_the_dataset(client, registered):
    run = client.get_run(registered[0])
    key = "evaluation/correspondence.random.auc.value"

    (metric,) = client.get_logged_model(run.outputs.model_outputs[0].model_id).metrics

    assert [one.dataset.name for one in run.inputs.dataset_inputs] == ["training", "evaluation"]
    assert (metric.key, metric.value) == (key, 0.7)
    assert (metric.dataset_name, metric.dataset_digest) == ("evaluation", DIGEST[:36])
    assert [one.value for one in client.get_metric_history(registered[0], key)] == [0.7]


def test_among_more_than_a_hundred_models_ours_is_found(store, client, registered, model):
    for number in range(101):
        client.create_registered_model(f"a-model-{number:03d}")
    assert NAME not in [one.name for one in client.search_registered_models()]

    verdict = offered(store, model, score=0.6)

    assert verdict.reason == "not promoted: 0.6000 does not beat the champion's 0.7000"
    assert len(all_pages(client.search_registered_models)) == 102
    assert f"{NAME} version {registered[1]}: trained_on_forgotten = yes" in tag_forgotten(
        store, {DIGEST: True}
    )


def test_a_champion_that_somebody_else_registered_ends_in_a_verdict(store, client, registered, model, caplog):
    theirs = client.create_model_version(NAME, "s3://elsewhere/model")
    client.set_registered_model_alias(NAME, "champion", theirs.version)
    try:
        with caplog.at_level("WARNING", "training.tracking.registry"):
            verdict = offered(store, model)
        lacking = measure_champion(store, NAME, "e1", lambda _: GateScore(0.5, "e1"))
    finally:
        client.set_registered_model_alias(NAME, "champion", registered[1])

    assert not verdict.is_promoted
    assert verdict.reason.startswith(
        "refused: the champion has no tag evaluation_digest and no score, so its score is unknown"
    )
    assert "the champion has no tag" in caplog.text, "told before the training, too"
    assert (
        lacking
        == f"the champion, version {theirs.version}, was registered without a run, so it has no checkpoint to measure"
    )


def test_a_champion_whose_run_was_deleted_is_measured_as_long_as_its_files_are_there(
    store, client, registered
):
    client.delete_run(registered[0])
    try:
        assert measure_champion(store, NAME, "e2", lambda _: GateScore(0.7, "e1")) == ""
    finally:
        client.restore_run(registered[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_is_killed_and_not_failed(store, client, number):
    with subprocess.Popen(
        [sys.executable, "-c", BEGINS, store.uri],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        run_id = process.stdout.readline().strip()
        assert client.get_run(run_id).info.status == "RUNNING"
        process.send_signal(number)
        process.wait(60)

    with experiment_run(store, SPEC):
        pass

    assert client.get_run(run_id).info.status == "KILLED"


def test_a_server_that_is_away_is_told_at_once_and_without_its_password():
    port = free_port()
    begin = time.monotonic()

    with (
        pytest.raises(
            RuntimeError, match=rf"MLflow at http://127.0.0.1:{port}: API request .* failed"
        ) as told,
        experiment_run(Store(uri=f"http://user:hunter2@127.0.0.1:{port}"), SPEC),
    ):
        pass

    assert time.monotonic() - begin < 60
    assert "hunter2" not in str(told.value)


def refusal(address: str, **headers: str) -> int:
    """The status with which a server refuses to search its experiments; 0 where it does not."""
    body = json.dumps({"max_results": 1}).encode()
    headers = {"Content-Type": "application/json", **headers}
    try:
        with answered(Request(f"{address}/api/2.0/mlflow/experiments/search", body, headers)):
            return 0
    except HTTPError as error:
        return error.code


def test_a_page_of_another_name_or_origin_is_refused(store):
    assert refusal(store.uri) == 0
    assert refusal(store.uri, Host="10.evil.example") == 403
    assert refusal(store.uri, Origin="http://evil.example") == 403


def test_with_a_login_a_stranger_is_refused_and_its_owner_is_not(tmp_path):
    with tracking_server(tmp_path / "root", tmp_path / "state", with_login=True) as address:
        secret = base64.b64encode(login(tmp_path / "state").encode()).decode()

        assert refusal(address) == 401
        assert refusal(address, Authorization=f"Basic {secret}") == 0
