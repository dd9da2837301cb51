"""Models and evaluations are one file each: what every file defines, and what becomes of a new one."""

import json
import sys
from dataclasses import asdict, fields

import pytest
from avc_fixtures import corresponding, written

from flows.commands.text import scores_text
from schemas.errors import InternalError
from training import evaluation, models
from training.evaluation import EvaluationOptions, evaluate_all, headlines, results_json, sections
from training.interface import AvcModel, ModelCard, Needs
from training.loop import TrainConfig
from training.models import load_model
from training.networks.checkpoint import num_parameters
from training.networks.offsets import OffsetModel
from training.report.page import ReportInputs, write_report
from training.tracking import runs
from training.tracking.runs import RunSpec, Store, VersionSource, experiment_run

FUNNEL = {"segments": 1, "in_shards": 1}
ESTIMATE = {"value", "low", "high", "chance"}
SCORES = {"num_clips", "accuracy", "balanced_accuracy", "auc", "clip_accuracy", "clip_auc"}
RECALLS = {
    "num_queries", "mean_candidates", "recall_at_1", "recall_at_5", "recall_at_10", "median_rank",
}  # fmt: skip
# The keys of `results.json` and, joined by dots, the names of MLflow's metrics: old and new runs are compared by them.
CORRESPONDENCE = {
    "question", "num_clips", "num_videos", "num_pairs", "evaluation_digest", "pairs_digest", "calibration", "random",
    "same_group", "shifted", "probes", "family_oracle", "per_group", "held_out",
}  # fmt: skip
LOUDNESS = '''"""How loud is it? A number that any model has.

More about it."""

from dataclasses import dataclass

from training.estimates import Estimate
from training.evaluation import Evaluation


@dataclass(frozen=True)
class Loudness(Evaluation):
    level: Estimate


def applies(model, dataset):
    return not model.learns_offsets


def evaluate(model, dataset, options):
    return Loudness("loudness", len(dataset.split("eval")), Estimate(0.625, 0.5, 0.75, 0.25))


def headline(result):
    return [("loudness, as ears have it", result.level)]
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Adds a file to the folder of a package for one test."""
    added = []

    def add(package, name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        added.append(f"{package.__name__}.{name}")

    yield add
    for name in added:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def model(trained):
    return load_model(trained)


@pytest.fixture(scope="module")
def results(dataset, model):
    held_out = frozenset({"/kind/1", "/kind/2"})
    return evaluate_all(model, dataset, EvaluationOptions(held_out=held_out))


def test_the_names_of_results_stay(results):
    found = results_json(results)

    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"correspondence", "retrieval"}
    pairs = found["correspondence"]
    assert set(pairs) == CORRESPONDENCE
    for scores in (pairs["random"], pairs["same_group"], pairs["shifted"], pairs["held_out"]["random"]):
        assert set(scores) == SCORES
        assert all(set(scores[name]) == ESTIMATE for name in SCORES - {"num_clips"})
    assert set(pairs["held_out"]) == {"groups", "random", "same_group"}
    assert set(pairs["probes"]) == {"frame_only", "audio_only"}
    assert set(pairs["family_oracle"]) == {"random", "same_group"}
    assert [set(row) for row in pairs["per_group"]] == [{"group", "num_videos", "accuracy"}] * 4
    found = found["retrieval"]
    assert set(found) == {"question", "num_clips", "num_steps", "image_to_audio", "audio_to_image"}
    for direction in (found["image_to_audio"], found["audio_to_image"]):
        assert set(direction) == RECALLS | {"within_group"} and set(direction["within_group"]) == RECALLS


def test_what_has_no_pairs_says_so_in_a_number(tmp_path, model):
    few = written(tmp_path, corresponding({"train": 2, "val": 2, "eval": 4}))  # four kinds, one clip of each

    found = results_json(evaluate_all(model, few))

    assert found["correspondence"]["same_group"] == {"num_clips": 0}
    assert "held_out" not in found["correspondence"]
    assert found["retrieval"]["image_to_audio"]["within_group"] == {"num_queries": 0}


@pytest.mark.parametrize("name", evaluation.names())
def test_every_evaluation_keeps_the_contract(name):
    module = evaluation.load(name)

    assert (module.__doc__ or "").partition("?")[1], "it asks a question"
    assert all(callable(getattr(module, required)) for required in evaluation.REQUIRED)
    # `question` is the file's name, which is data; the class of results is the one that the file defines.
    own = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__
    ]
    assert any(issubclass(kind, evaluation.Evaluation) for kind in own)


def test_results_are_named_as_their_files_and_have_a_headline(results):
    for name, result in results.items():
        assert result.question == name
        rows = evaluation.load(name).headline(result)
        assert rows and all(estimate.low <= estimate.value <= estimate.high for _, estimate in rows)
    labels = [label for label, _ in headlines(results)]
    assert len(set(labels)) == len(labels)


def test_a_new_evaluation_is_one_file(folder, dataset, model, tmp_path):
    folder(evaluation, "loudness", LOUDNESS)

    results = evaluate_all(model, dataset)

    rows = [(label, asdict(estimate)) for label, estimate in headlines(results)]
    line = "loudness, as ears have it                          62.5 %  (50.0 to 75.0; chance 25.0)"
    assert line in scores_text({"headline": rows}).splitlines()
    assert results_json(results)["loudness"]["level"]["value"] == 0.625
    page = write_report(tmp_path / "page.html", ReportInputs(results, [], FUNNEL, {})).read_text()
    assert "<h3>How loud is it?</h3>" in page and "loudness, as ears have it" in page and "62.5 %" in page
    store = Store(tmp_path / "store")
    with experiment_run(store, RunSpec("one", {}, VersionSource("d", ""), {})) as run:
        run.log_results(results_json(results))
    logged = runs.MlflowClient(store.tracking_uri).get_run(run.run_id).data.metrics
    assert logged["evaluation/loudness.level.value"] == 0.625
    assert logged["evaluation/correspondence.random.auc.value"] == results["correspondence"].random.auc.value


def test_an_evaluation_that_does_not_apply_is_left_out(folder, dataset, model, monkeypatch):
    folder(evaluation, "loudness", LOUDNESS)
    monkeypatch.setattr(model, "learns_offsets", True)

    found = evaluate_all(model, dataset)

    assert "loudness" not in found and not isinstance(model, OffsetModel) and "synchrony" not in found
    assert len(sections(found)) == 2


@pytest.mark.parametrize(
    ("package", "missing"),
    [(models, "Config, CARD, needs, build"), (evaluation, "applies, evaluate, headline")],
)
def test_a_file_that_is_no_plug_in_is_refused_with_what_it_lacks(folder, package, missing):
    folder(package, "stray", '"""A helper that landed in the wrong folder."""\n')

    with pytest.raises(
        InternalError, match=rf"stray\.py is not a plug-in of {package.__name__}: it lacks {missing}\."
    ):
        package.load("stray")


@pytest.mark.parametrize("name", models.names())
def test_every_model_keeps_the_contract_and_its_card_is_true(name):
    module = models.load(name)
    config = module.Config()
    network = module.build(config)
    needs = module.needs(config)

    assert isinstance(network, AvcModel) and isinstance(needs, Needs)
    assert all(isinstance(preset, module.Config) for preset in getattr(module, "PRESETS", {}).values())
    assert set(models.training_overrides(name)) <= {field.name for field in fields(TrainConfig)}
    card = models.card(name)
    assert isinstance(card, ModelCard) and card.paper and card.weights
    assert card.num_parameters == num_parameters(network)
    assert f"{network.view.frame_px} px" in card.input
    assert f"{network.view.sound_ms / 1000:g} s of sound at {needs.sample_rate_hz} Hz" in card.input
    assert f"{needs.channels} channel" in card.input
    assert ("log-mel" if network.view.sound == "log_mel" else "wave") in card.input
