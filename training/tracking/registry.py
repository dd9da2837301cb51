"""Registered models and the champion.

A registered version is an exported program (pt2): it loads without this repository, and nothing pickled is loaded.
"""

import logging
import math
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow import pytorch as mlflow_pytorch
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModelOutput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model as MlflowModel
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec
from torch import Tensor, nn

from schemas import waveforms
from schemas.errors import DataError, RequestError
from training.estimates import GateScore
from training.interface import AvcModel
from training.learning.state import BEST
from training.networks.frontend import LogMel
from training.tracking import program
from training.tracking.connection import all_pages, connect, without_bars
from training.tracking.runs import PROCESS, Run
from training.tracking.store import Store

log = logging.getLogger(__name__)

CHAMPION = "champion"
CHALLENGER = "challenger"
LAST_RUN = "last_run"  # tag of a registered model
ABSENT = "RESOURCE_DOES_NOT_EXIST"
# In the folder of an MLflow model
MLMODEL = "MLmodel"
DATA = "data"
CODE = "code"
LOADER = "mcgurk_program"
FORGOTTEN = "trained_on_forgotten"  # a tag of a model version: `yes`, or `possibly` if its shards are gone
# Tags of a model version that the gate compares
EVALUATION_DIGEST = "evaluation_digest"
SCORE = "score"


@dataclass(frozen=True)
class Verdict:
    """Whether a version became champion, and why."""

    is_promoted: bool
    reason: str


def require_registry(run: Run, model_name: str) -> None:
    """Checks, before a training begins, what its registration needs: registry, champion, the right to write.

    Raises MlflowException if one of them is refused.
    """
    client = run.client
    _ensure_registered_model(client, model_name)
    champion = _champion(client, model_name)
    if champion:
        log.info("register: %s, whose champion is version %s", model_name, champion.version)
        if reason := incomparable(champion.tags):
            log.warning("register: %s", reason)
    client.set_registered_model_tag(model_name, LAST_RUN, run.run_id)


def register(run: Run, model: AvcModel, model_name: str, score: GateScore, card: str) -> str:
    """Registers the model as an exported program and makes it `@challenger`; returns its version.

    The gate compares `score` and nothing else. The `card`, in Markdown, is part of the version's description.
    """
    client = run.client
    stored = run.client.get_run(run.run_id)
    _ensure_registered_model(client, model_name)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "model"
        described = MlflowModel(run_id=run.run_id)
        write_program(files, model, described)
        logged = client.create_logged_model(stored.info.experiment_id, "model", run.run_id, model_type="avc")
        described.model_id = logged.model_id
        described.save(str(files / MLMODEL))
        client.log_model_artifacts(logged.model_id, str(files))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run.run_id, [LoggedModelOutput(logged.model_id, 0)])
    run.log_results_of(logged.model_id)
    tags = {EVALUATION_DIGEST: score.evaluation_digest, SCORE: repr(float(score.value))}
    tags |= {key: value for key, value in stored.data.tags.items() if "." not in key and key != PROCESS}
    version = client.create_model_version(
        model_name,
        logged.model_uri,
        run.run_id,
        tags=tags,
        description=(
            f"[{stored.info.run_name}]({run.page}), AUC {score.value:.4f} on evaluation "
            f"`{score.evaluation_digest[:12]}`\n\n{card}"
        ),
        model_id=logged.model_id,
    )
    client.set_registered_model_alias(model_name, CHALLENGER, version.version)
    return str(version.version)


def write_program(files: Path, model: AvcModel, described: MlflowModel) -> None:
    """Writes the folder of an MLflow model: the exported program, and what `mlflow.pyfunc` needs to score arrays.

    It contains no path of this machine, and nothing that is unpickled.
    """
    scorer = Scorer(model).eval()
    for parameter in scorer.parameters():
        parameter.requires_grad_(False)
    example = tuple(tensor.numpy() for tensor in examples(model))
    mlflow_pytorch.save_model(
        scorer,
        str(files),
        mlflow_model=described,
        input_example=example,
        signature=_signature(example),
        serialization_format="pt2",
        # Given, because MLflow would determine them by loading the model in a separate process (30 s).
        pip_requirements=[f"torch=={installed_version('torch')}", f"mlflow=={installed_version('mlflow')}"],
    )
    _strip(files / DATA / "model.pt2")
    (files / CODE).mkdir()
    shutil.copyfile(program.__file__, files / CODE / f"{LOADER}.py")
    described.add_flavor(
        "python_function",
        loader_module=LOADER,
        python_version=platform.python_version(),
        data=DATA,
        code=CODE,
        env={"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
    )
    described.save(str(files / MLMODEL))


def _strip(path: Path) -> None:
    """Removes stack traces from a program: they contain paths of the machine that trained it."""
    exported = torch.export.load(path)
    for module in exported.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    torch.export.save(exported, path)


def promote(store: Store, model_name: str, version: str) -> Verdict:
    """Makes `version` `@champion` if there is none, or if it scores higher on the same evaluation.

    Not atomic: promotions of two versions at the same time must be serialized by the caller.
    """
    connect(store)
    client = MlflowClient()
    new = client.get_model_version(model_name, version)
    current = _champion(client, model_name)
    if current and current.version == new.version:
        return Verdict(False, f"version {version} is champion already")
    verdict = compare(dict(new.tags), dict(current.tags) if current else None)
    if verdict.is_promoted:
        client.set_registered_model_alias(model_name, CHAMPION, version)
    log.info("version %s of %s: %s", version, model_name, verdict.reason)
    return verdict


def measure_champion(store: Store, model_name: str, digest: str, measure: Callable[[Path], GateScore]) -> str:
    """Measures the champion on evaluation `digest` unless that is already done; returns why, if it is impossible.

    The score that `measure` returns for a checkpoint becomes tags of the champion, which the gate compares.
    """
    connect(store)
    client = MlflowClient()
    champion = _champion(client, model_name)
    if champion is None or champion.tags.get(EVALUATION_DIGEST) == digest:
        return ""
    if not champion.run_id:
        return (
            f"the champion, version {champion.version}, was registered without a run, so it has no checkpoint to "
            "measure"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = _checkpoint(client, str(champion.run_id), folder)
        if path is None:
            return f"{BEST} of the champion is not among the artefacts of run {champion.run_id}"
        try:
            score = measure(path)
        except (RequestError, DataError, OSError) as error:
            return f"the champion cannot be measured on these clips: {error}"
    for key, value in ((EVALUATION_DIGEST, score.evaluation_digest), (SCORE, repr(float(score.value)))):
        client.set_model_version_tag(model_name, str(champion.version), key, value)
    log.info("champion of %s: %.4f on evaluation %s", model_name, score.value, score.evaluation_digest[:12])
    return ""


def tag_forgotten(store: Store, held: Mapping[str, bool]) -> list[str]:
    """Tags the model versions trained on the dataset versions `held` (digest -> certain or not); returns them."""
    connect(store)
    client = MlflowClient()
    tagged = []
    for model in all_pages(client.search_model_versions):
        is_sure = held.get(model.tags.get("dataset_version", ""))
        if is_sure is not None:
            value = "yes" if is_sure or model.tags.get(FORGOTTEN) == "yes" else "possibly"
            client.set_model_version_tag(model.name, str(model.version), FORGOTTEN, value)
            tagged.append(f"{model.name} version {model.version}: {FORGOTTEN} = {value}")
    return sorted(tagged)


def _signature(example: Sequence[np.ndarray]) -> ModelSignature:
    inputs: list[Any] = [
        TensorSpec(array.dtype, (-1, *array.shape[1:]), name)
        for array, name in zip(example, ("frames", "audio"), strict=True)
    ]
    return ModelSignature(Schema(inputs), Schema([TensorSpec(np.dtype(np.float32), (-1,), "logit")]))


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != ABSENT:
            raise
        client.create_registered_model(name)


def _champion(client: MlflowClient, model_name: str) -> ModelVersion | None:
    aliases = client.get_registered_model(model_name).aliases
    return client.get_model_version(model_name, str(aliases[CHAMPION])) if CHAMPION in aliases else None


def _checkpoint(client: MlflowClient, run_id: str, folder: str) -> Path | None:
    try:
        if BEST not in [file.path for file in client.list_artifacts(run_id)]:
            return None
        with without_bars():
            return Path(download_artifacts(run_id=run_id, artifact_path=BEST, dst_path=folder))
    except MlflowException:  # for a run that was deleted
        return None


def compare(new: Mapping[str, str], champion: Mapping[str, str] | None) -> Verdict:
    """The gate's verdict on the tags of two model versions; a champion that was not registered here may have none."""
    score = float(new[SCORE])
    if not math.isfinite(score):
        return Verdict(False, f"refused: its score is {score}")
    if champion is None:
        return Verdict(True, f"promoted: the first champion, with {score:.4f}")
    if reason := incomparable(champion):
        return Verdict(False, f"refused: {reason}")
    if new[EVALUATION_DIGEST] != champion[EVALUATION_DIGEST]:
        return Verdict(
            False,
            f"refused: measured on evaluation {new[EVALUATION_DIGEST][:12]}, the champion on "
            f"{champion[EVALUATION_DIGEST][:12]}; evaluate both on the same",
        )
    theirs = float(champion[SCORE])
    if score > theirs:
        return Verdict(True, f"promoted: {score:.4f} beats the champion's {theirs:.4f}")
    return Verdict(False, f"not promoted: {score:.4f} does not beat the champion's {theirs:.4f}")


def incomparable(champion: Mapping[str, str]) -> str:
    """Why this champion cannot be compared, according to its tags; empty if it can."""
    missing = [name for name in (EVALUATION_DIGEST, SCORE) if not champion.get(name)]
    if missing:
        return (
            f"the champion has no tag {' and no '.join(missing)}, so its score is unknown; give the alias "
            "`champion` to a version that mcgurk registered, or to none"
        )
    try:
        is_number = math.isfinite(float(champion[SCORE]))
    except ValueError:
        is_number = False
    return "" if is_number else f"the champion's score is {champion[SCORE]!r}, which is not a number"


EXAMPLE_BATCH = 2  # torch.export treats a dimension of size 1 as a constant


class Scorer(nn.Module):
    """`forward(frames, audio)` gives the logit that each frame, or run of frames, belongs to its sound."""

    def __init__(self, model: AvcModel) -> None:
        super().__init__()
        self.model = model
        # A model of stored log-mels computes them from the wave here.
        self.front_end = LogMel() if model.view.sound == "log_mel" else model.front_end

    def forward(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Logits (B,) of uint8 frames and waves in [-1, 1], shaped as in `examples`."""
        images = frames.transpose(-1, -2).transpose(-2, -3).float() / 255
        V = self.model.encode_image(images)["vector"]
        A = self.model.encode_audio(self.front_end(audio))["vector"]
        return self.model.calibrated(self.model.paired(V, A))


def examples(model: AvcModel) -> tuple[Tensor, Tensor]:
    """Frames (B, [frames,] px, px, 3) and waves (B, samples), or (B, channels, samples), of silence and black."""
    view = model.view
    constants = model.front_end.constants
    run = (view.num_frames,) if view.num_frames > 1 else ()
    frames = torch.zeros(EXAMPLE_BATCH, *run, view.frame_px, view.frame_px, 3, dtype=torch.uint8)
    if view.sound == "log_mel":
        return frames, torch.zeros(EXAMPLE_BATCH, waveforms.SAMPLE_RATE_HZ * view.sound_ms // 1000)
    samples = round(constants["sample_rate_hz"] * view.sound_ms / 1000)
    return frames, torch.zeros(EXAMPLE_BATCH, int(constants.get("channels", 1)), samples)
