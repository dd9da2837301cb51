"""Trains a model on a dataset version: a generator of metrics that knows no logger.

Budgets are steps or seconds. With seconds, schedule and validations follow the share of time that has passed,
so that a slow machine trains less but still anneals.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from schemas.shard import LOG_MEL_SUFFIX
from schemas.signal import HOP_MS
from training import losses, statistics
from training.augment import Augmentation, augment_images, augment_log_mel, generator_for
from training.checkpoint import num_parameters, save_checkpoint
from training.data import Dataset
from training.embeddings import Embeddings, embed, pictures
from training.models import AvcModel, configure, load
from training.optimizer import Average, learning_rate, parameter_groups
from training.precision import autocast, has_fast_bf16, pick_device
from training.sampling import Batch, Epoch, Sampling, usable
from training.streaming import batches

log = logging.getLogger(__name__)

BEST = "best.pt"
PLATEAU_SHARE = 0.01  # of the chance loss: closer than this is no learning
PLATEAU_HELP = (
    "the loss stands at chance. Usual causes: learning rate, too few clips or pictures that don't show what "
    "sounds, pairs shuffled by mistake, BatchNorm in the wrong mode, vectors normalised over the wrong axis"
)


@dataclass(frozen=True)
class TrainConfig:
    """How long and how to train; give `steps` or `seconds`, the other None."""

    steps: int | None = None
    seconds: float | None = 120.0
    sampling: Sampling = field(default_factory=Sampling)
    augmentation: Augmentation = field(default_factory=Augmentation)
    learning_rate: float = 3e-3  # 1e-3 after as many steps on generated scenes: AUC 0.68 instead of 0.74
    weight_decay: float = 0.05
    warmup_share: float = 0.05
    max_grad_norm: float = 1.0
    ema_decay: float = 0.99
    num_validations: int = 10
    validation_steps: int = 3  # per clip
    validation_clips: int = 128  # of each side of the train-dev gap: all-pairs validation stays cheap
    seed: int = 0
    device: str = "auto"
    num_threads: int | None = None  # of torch on CPU; None leaves the process's setting
    reader_threads: int | None = None  # None: none for mapped shards, some for remote ones

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError(f"give steps or seconds, not both or none: {self.steps}, {self.seconds}")


def train(
    dataset: Dataset, model_name: str, model_config: Any, config: TrainConfig, folder: Path
) -> Iterator[dict[str, float]]:
    """Trains on split `train`, validates on `val`, keeps the best averaged weights in `folder/best.pt`.

    Yields one dict a training step (`loss`, `learning_rate`, `grad_norm`, ...), some of them with the
    validation's numbers (`train_loss`, `val_loss`, `val_auc`, ...) added. Raises ValueError before the first
    step where the dataset lacks what the model needs.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    trainer = Trainer(dataset, model_name, model_config, config)
    best = -np.inf
    for metrics in trainer.run():
        if metrics.get("val_auc", -np.inf) > best:
            best = metrics["val_auc"]
            trainer.save(folder / BEST, metrics)
        yield metrics


class Clock:
    """How much of the budget is spent, in steps or in seconds."""

    def __init__(self, config: TrainConfig) -> None:
        self._config, self._begin, self.step = config, time.monotonic(), 0

    @property
    def seconds(self) -> float:
        """Since the training began."""
        return time.monotonic() - self._begin

    @property
    def progress(self) -> float:
        """0 to 1."""
        if self._config.steps is not None:
            return min(1.0, self.step / self._config.steps)
        return min(1.0, self.seconds / (self._config.seconds or 1.0))


class Trainer:
    """One training run: model, optimiser and averaged weights, from the first step to the last."""

    def __init__(self, dataset: Dataset, model_name: str, model_config: Any, config: TrainConfig) -> None:
        module = load(model_name)
        self.model_name, self.config = model_name, config
        self.model_config = configure(model_name, model_config)
        module.needs(self.model_config).check(dataset.profile, model_name)
        self.dataset = dataset
        self.train_clips, self.val_clips = (usable(dataset.split(name)) for name in ("train", "val"))
        for name, clips in (("train", self.train_clips), ("val", self.val_clips)):
            if len(np.unique(clips.videos)) < 2:
                raise ValueError(f"split {name!r} has {len(clips)} usable clips: pairing needs two videos")
        self.device = pick_device(config.device)
        self.is_bf16 = has_fast_bf16(self.device)
        torch.manual_seed(config.seed)
        self.model: AvcModel = module.build(self.model_config)
        _learn_mel_statistics(self.model, self.train_clips)
        self.model.to(self.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.average = Average(self.model, config.ema_decay)
        groups = parameter_groups(self.model, config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)

    def run(self) -> Iterator[dict[str, float]]:
        """Trains until the budget is spent; validates evenly along it and at its end."""
        clock, validations, losses_seen = Clock(self.config), 0, []
        log.info(
            "%s: %d parameters, %d clips", self.model_name, num_parameters(self.model), len(self.train_clips)
        )
        for metrics in self._steps(clock):
            losses_seen.append(metrics["loss"] / metrics["chance_loss"])
            due = int(clock.progress * self.config.num_validations)
            if due > validations:
                validations = due
                metrics |= self._validate() | {"is_plateau": float(_is_plateau(losses_seen, clock.progress))}
            metrics["seconds"] = clock.seconds
            yield metrics
            if clock.progress >= 1.0 and validations >= self.config.num_validations:
                return

    def save(self, path: Path, metrics: dict[str, float]) -> None:
        """Writes the averaged weights with the calibration that belongs to them."""
        facts = {
            "dataset": self.dataset.version.digest,
            "lineage": self.dataset.lineage,
            "train": asdict(self.config),
            "metrics": dict(metrics),
        }
        save_checkpoint(path, self.model_name, self.model_config, self.average.model.state_dict(), facts)

    def _steps(self, clock: Clock) -> Iterator[dict[str, float]]:
        """One optimiser step after the other, without end."""
        for number in count():
            epoch = Epoch(self.train_clips, self.config.sampling, self.config.seed, number)
            begin = time.perf_counter()
            with closing(batches(epoch, self.model.frame_px, self.config.reader_threads)) as loaded:
                for index, batch in enumerate(loaded):
                    waited_s = time.perf_counter() - begin
                    metrics = self._step(batch, number, index, clock.progress)
                    clock.step += 1
                    total_s = time.perf_counter() - begin
                    yield metrics | {
                        "step": clock.step,
                        "epoch": number,
                        "progress": clock.progress,
                        "samples_per_s": len(batch.videos) / total_s,
                        "data_wait_share": waited_s / total_s,
                    }
                    begin = time.perf_counter()

    def _step(self, batch: Batch, epoch: int, index: int, progress: float) -> dict[str, float]:
        rate = self.config.learning_rate * learning_rate(progress, self.config.warmup_share)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        batch, generator = batch.to(self.device), generator_for(self.config.seed, epoch, index)
        strength = self.config.augmentation
        images = augment_images(pictures(batch.frames), strength, generator)
        log_mel = augment_log_mel(batch.log_mel, strength, generator)
        with autocast(self.device, self.is_bf16):
            V = self.model.encode_image(images)["vector"]
            A = self.model.encode_audio(log_mel)["vector"]
        loss = self.model.loss(V, A, batch.videos)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        self.optimizer.step()
        self.average.update(self.model)
        return {
            "loss": loss.item(),
            "chance_loss": self.model.chance_loss(batch.videos),
            "grad_norm": float(grad_norm),
            "learning_rate": rate,
        } | self.model.watched()

    def _validate(self) -> dict[str, float]:
        """The averaged weights' numbers on as many clips of each side; fits their calibration on `val`."""
        model, config, metrics = self.average.model, self.config, {}
        num_clips = min(config.validation_clips, len(self.train_clips), len(self.val_clips))
        for name, clips in (("val", self.val_clips), ("train", self.train_clips)):
            some = clips.take(np.random.default_rng(config.seed).permutation(len(clips))[:num_clips])
            encoded = embed(model, some, config.validation_steps, is_bf16=self.is_bf16)
            if name == "val":
                model.calibration.copy_(torch.tensor(fit_calibration(model, encoded)))
            metrics |= {f"{name}_{key}": value for key, value in all_pairs(model, encoded).items()}
        return metrics


def all_pairs(model: AvcModel, encoded: Embeddings) -> dict[str, float]:
    """Loss, AUC and balanced accuracy over every step of every clip against every other video's."""
    similarity, matches, videos = _pairs(model, encoded)
    counted = torch.isfinite(losses.masked(similarity, videos))
    scale, bias = model.calibration.tolist()
    logits = (scale * similarity + bias)[counted].numpy()
    labels = matches[counted].numpy()
    return {
        "loss": _loss(model, encoded),
        "auc": statistics.auc(logits, labels),
        "accuracy": statistics.balanced_accuracy(logits, labels),
    }


def fit_calibration(model: AvcModel, encoded: Embeddings) -> tuple[float, float]:
    """The affine that makes balanced logits of the model's similarities on these clips."""
    similarity, matches, videos = _pairs(model, encoded)
    counted = torch.isfinite(losses.masked(similarity, videos))
    return statistics.platt(similarity[counted].double().numpy(), matches[counted].numpy())


@torch.no_grad()
def _loss(model: AvcModel, encoded: Embeddings) -> float:
    device = model.calibration.device
    V, A = encoded.image.flatten(0, 1).to(device), encoded.audio.flatten(0, 1).to(device)
    videos = torch.from_numpy(encoded.videos).repeat_interleave(encoded.num_steps).to(device)
    return float(model.loss(V, A, videos))


@torch.no_grad()
def _pairs(model: AvcModel, encoded: Embeddings) -> tuple[Tensor, Tensor, Tensor]:
    V, A = encoded.image.flatten(0, 1), encoded.audio.flatten(0, 1)
    device = model.calibration.device
    similarity = model.similarity(V.to(device), A.to(device)).cpu()
    videos = torch.from_numpy(encoded.videos).repeat_interleave(encoded.num_steps)
    return similarity, torch.eye(len(V), dtype=torch.bool), videos


def _learn_mel_statistics(model: AvcModel, dataset: Dataset, num_clips: int = 256) -> None:
    """Mean and deviation of each mel bin over the valid sound of some clips, as the model's buffers."""
    rows = np.linspace(0, len(dataset) - 1, min(num_clips, len(dataset))).astype(int)
    dataset = dataset.holding((row, LOG_MEL_SUFFIX) for row in rows.tolist())
    ends = (dataset.clips.valid_ms[rows] // HOP_MS).tolist()
    sounds = [dataset.log_mel(row)[:, :end].astype(np.float32) for row, end in zip(rows, ends, strict=True)]
    joined = np.concatenate(sounds, axis=1)
    model.audio_mean.copy_(torch.from_numpy(joined.mean(1, keepdims=True)))
    # A bin that never changes carries nothing: it may not be blown up either.
    model.audio_std.copy_(torch.from_numpy(joined.std(1, keepdims=True)).clamp_min(0.1))


def _is_plateau(relative_losses: list[float], progress: float) -> bool:
    recent = relative_losses[-max(1, len(relative_losses) // 10) :]
    is_flat = progress >= 0.5 and abs(np.mean(recent) - 1.0) < PLATEAU_SHARE
    if is_flat:
        log.warning("after %.0f %% of the training %s", 100 * progress, PLATEAU_HELP)
    return bool(is_flat)
