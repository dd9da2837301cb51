"""Trains a model on a dataset version: a generator of metrics, which its caller logs.

Budgets are steps or seconds. With seconds, schedule and validations follow the share of time that has passed, so that a
slow machine trains less but still anneals. A training that was killed resumes from its last checkpoint; under torchrun
all ranks train one model.
"""

import logging
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from schemas.environment import restored
from schemas.errors import RequestError
from training.interface import AvcModel
from training.learning.augment import Augmentation
from training.learning.plateau import has_room, is_plateau, probe_towers, require_finite
from training.learning.ranks import Ranks, open_ranks
from training.learning.state import BEST, LAST, Clock, Progress, binding_settings, facts_of, read_last
from training.learning.step import Average, Encoder, Gradients, learning_rate, make_optimizer
from training.learning.validation import all_pairs, combine, fit_calibration, loss_of, require_pairs
from training.models import configure, load
from training.networks.checkpoint import num_parameters, save_checkpoint
from training.networks.embeddings import embed, hear_moved
from training.networks.frontend import learn_sound_statistics
from training.networks.frozen import Features, FrozenModel, cached_batches, compute_features
from training.networks.precision import (
    Precision,
    channels_last,
    computes_in_bf16,
    pick_device,
    require_precision,
)
from training.reading.dataset import Dataset
from training.reading.decoding import Batch
from training.reading.negatives import Negatives
from training.reading.sampling import Epoch, Sampling, Share, even_plan, usable
from training.reading.streaming import batches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainConfig:
    """The budget and the settings of a training; give `steps` or `seconds`, the other None."""

    steps: int | None = None
    seconds: float | None = 120.0
    sampling: Sampling = field(default_factory=Sampling)
    negatives: Negatives = field(default_factory=Negatives)
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 3e-3  # 1e-3 after as many steps on generated scenes: AUC 0.68 instead of 0.74
    weight_decay: float = 0.05
    warmup_share: float = 0.05
    max_grad_norm: float = 1.0
    ema_decay: float = 0.99
    num_pieces: int = 1  # pieces of a batch for encoding, if its graph exceeds the memory (GradCache)
    num_validations: int = 10
    patience: int | None = None  # validations without a better AUC, which needs no label, until training ends
    validation_steps: int = 3  # per clip
    validation_clips: int = 128  # of each side of the train-dev gap: all-pairs validation stays cheap
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"  # of the encoders; losses are computed in float32
    is_compiled: bool = False  # the encoders, by torch.compile: meant for GPUs
    is_deterministic: bool = False  # bit-exact on the CPU with the same number of threads
    num_threads: int | None = None  # of torch on CPU; None leaves the process's setting
    reader_threads: int | None = None  # None: none for mapped shards, some for remote ones
    checkpoint_s: float = 60.0  # between two checkpoints to resume from

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise RequestError(f"give either steps or seconds: they are {self.steps} and {self.seconds}")
        require_precision(self.precision)

    def sampled_for(self, model: AvcModel) -> Sampling:
        """The sampling for a training of `model`: its view, and the steps per clip that it and its negatives need."""
        steps = max(model.steps_per_clip, self.negatives.steps_per_clip)
        return replace(self.sampling.with_steps(steps), view=model.view)


def train(
    dataset: Dataset, model_name: str, model_config: Any, config: TrainConfig, folder: Path
) -> Iterator[dict[str, float]]:
    """Trains on split `train`, validates on `val`, keeps the best averaged weights in `folder/best.pt`.

    Resumes from `folder/last.pt`. Yields a dict for each training step (`loss`, `learning_rate`, `grad_norm`, ...),
    some of them with the numbers of a validation (`train_loss`, `val_loss`, `val_auc`, ...). Raises RequestError before
    the first step if the dataset lacks what the model needs, and ResumeError if the checkpoint is of another training.
    """
    with _torch_set(config), open_ranks(pick_device(config.device)) as ranks:
        trainer = Trainer(dataset, model_name, model_config, config, ranks)
        yield from trainer.run(ranks.agreed(folder))


@contextmanager
def _torch_set(config: TrainConfig) -> Iterator[None]:
    """Sets torch's threads and determinism for a training, and restores both after it."""
    threads = torch.get_num_threads()
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        with restored(["TORCHINDUCTOR_CACHE_DIR"]):  # torch sets it if it is unset
            torch.set_num_threads(config.num_threads or threads)
            torch.use_deterministic_algorithms(config.is_deterministic)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(was_deterministic)


def clips_for(dataset: Dataset, model: AvcModel, config: TrainConfig) -> tuple[Dataset, Dataset]:
    """The clips of `train` and `val` that steps of `model` can be cut from.

    Raises RequestError if they are too few to pair, or if no pair is a negative by the policy.
    """
    view = model.view
    sampling = config.sampled_for(model)
    train_clips, val_clips = (usable(dataset.split(name), view) for name in ("train", "val"))
    for name, clips in (("train", train_clips), ("val", val_clips)):
        if (num_videos := len(np.unique(clips.videos))) < 2:
            raise RequestError(
                f"split {name!r} has {len(clips)} usable clips of {num_videos} video(s), and "
                "pairing needs two videos: build a version of more segments, or give `val` a larger share of them "
                "(IndexConfig.val_share) in another root"
            )
    val = _drawn(val_clips, min(config.validation_clips, len(train_clips), len(val_clips)), config.seed)
    even = even_plan(val, np.arange(len(val)), config.validation_steps, view)
    require_pairs(train_clips, Epoch(train_clips, sampling, config.seed, 0), view, config.negatives)
    require_pairs(val, [even], view, config.negatives)
    return train_clips, val_clips


def _drawn(clips: Dataset, num_clips: int, seed: int) -> Dataset:
    return clips.take(np.random.default_rng(seed).permutation(len(clips))[:num_clips])


class Trainer:
    """One training run: model, optimiser and averaged weights, from the first step to the last."""

    def __init__(
        self, dataset: Dataset, model_name: str, model_config: Any, config: TrainConfig, ranks: Ranks
    ) -> None:
        module = load(model_name)
        self.model_name = model_name
        self.model_config = configure(model_name, model_config)
        module.needs(self.model_config).check(dataset.profile, model_name)
        self.dataset = dataset
        self.ranks = ranks
        self.device = pick_device(config.device)
        self.is_bf16 = computes_in_bf16(config.precision, self.device)
        torch.manual_seed(config.seed)
        model: AvcModel = module.build(self.model_config)
        self.config = replace(config, sampling=config.sampled_for(model))
        self.train_clips, self.val_clips = clips_for(dataset, model, self.config)
        model.load_initial_weights()
        learn_sound_statistics(model, self.train_clips)
        model.to(self.device)
        channels_last(model)
        self.average = Average(model, config.ema_decay)
        ranks.synchronized(model, self.device)
        self.model = model
        self.progress = Progress()
        self._features: Features | None = None
        encoder = Encoder(model, config.augmentation, self.is_bf16, is_compiled=config.is_compiled)
        self.gradients = Gradients(encoder, config.negatives, ranks)
        self.optimizer = make_optimizer(config.optimizer, model, config.learning_rate, config.weight_decay)

    def run(self, folder: Path) -> Iterator[dict[str, float]]:
        """Trains until the budget or the patience is exhausted; validates at even intervals and at the end."""
        self.restore(folder / LAST)
        progress = self.progress
        config = self.config
        clock = Clock(config.steps, config.seconds, progress.seconds)
        message = "%s: %d parameters, %d clips, from step %d"
        log.info(message, self.model_name, num_parameters(self.model), len(self.train_clips), progress.step)
        saved_s = clock.seconds
        if self._is_over(clock):
            return
        for metrics in self._steps(clock):
            share = metrics["progress"]
            due = int(share * config.num_validations)
            if due > progress.validations:
                progress.validations = due
                metrics |= self._validated(folder, metrics)
            metrics["seconds"] = progress.seconds = clock.seconds
            is_over = self.ranks.agreed(self._is_over(clock))
            yield metrics  # before it is saved: a kill between the two repeats a step, and loses none
            if is_over or clock.seconds - saved_s >= config.checkpoint_s:
                self.save(folder / LAST)
                saved_s = clock.seconds
            if is_over:
                return

    def save(self, path: Path) -> None:
        """Writes all that another process needs to resume the training."""
        if not self.ranks.is_first:
            return
        average = self.average
        tensors = {
            "optimizer": self.optimizer.state_dict(),
            "average": average.model.state_dict(),
            "updates": average.updates,
        }
        facts = facts_of(self.config, self.dataset.lineage, self.progress, tensors)
        save_checkpoint(path, self.model_name, self.model_config, self.model, facts)

    def restore(self, path: Path) -> None:
        """Resumes from the checkpoint at `path`, if there is one. Raises ResumeError for one of another training."""
        ours = {
            "model": {"name": self.model_name, **asdict(self.model_config)},
            "front end": self.model.front_end.constants,
            "setting": binding_settings(asdict(self.config)),
            "dataset": {"lineage": self.dataset.lineage},
        }
        content = read_last(path, ours)
        if content is None:
            return
        facts = content["facts"]
        self.model.load_state_dict(content["state"])
        self.optimizer.load_state_dict(facts["optimizer"])
        self.average.model.load_state_dict(facts["average"])
        self.average.updates = facts["updates"]
        self.progress = Progress(**facts["progress"])

    def _is_over(self, clock: Clock) -> bool:
        config = self.config
        progress = self.progress
        is_spent = clock.progress(progress.step) >= 1.0 and progress.validations >= config.num_validations
        return is_spent or (config.patience is not None and progress.waited >= config.patience)

    def _steps(self, clock: Clock) -> Iterator[dict[str, float]]:
        """The metrics of one optimiser step after another, without end."""
        progress = self.progress
        ranks = self.ranks
        config = self.config
        for number in count(progress.epoch):
            progress.epoch = number
            share = Share(ranks.rank, ranks.size, progress.batch)
            epoch = Epoch(self.train_clips, config.sampling, config.seed, number, share)
            begin = time.perf_counter()
            with closing(self._batches(epoch)) as loaded:
                for batch in loaded:
                    waited_s = time.perf_counter() - begin
                    metrics = self._step(batch, ranks.agreed(clock.progress(progress.step)))
                    progress.step += 1
                    progress.batch += 1
                    if metrics["chance_loss"] > 0:  # 0: the batch has no negatives
                        progress.relative_losses.append(metrics["loss"] / metrics["chance_loss"])
                    total_s = time.perf_counter() - begin
                    yield metrics | {
                        "step": progress.step,
                        "epoch": number,
                        "progress": ranks.agreed(clock.progress(progress.step)),
                        "samples_per_s": ranks.size * len(batch.videos) / total_s,
                        "data_wait_share": waited_s / total_s,
                    }
                    begin = time.perf_counter()
            progress.batch = 0

    def _batches(self, epoch: Epoch) -> Generator[Batch, None, None]:
        """Decoded steps; for sides that do not learn, their features, computed once."""
        if not isinstance(self.model, FrozenModel) or not self.model.frozen:
            return batches(epoch, self.config.reader_threads)
        if self._features is None:
            self._features = compute_features(self.model, self.train_clips, is_bf16=self.is_bf16)
        return cached_batches(epoch, self._features)

    def _step(self, batch: Batch, share: float) -> dict[str, float]:
        config = self.config
        progress = self.progress
        rate = config.learning_rate * learning_rate(share, config.warmup_share)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        key = (config.seed, progress.epoch, progress.batch, self.ranks.rank)
        loss, chance = self.gradients.backward(batch.to(self.device), config.num_pieces, key)
        grad_norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm))
        require_finite(progress.step + 1, rate, loss, grad_norm, lambda: self._without_numbers(batch))
        self.optimizer.step()
        self.average.update(self.model)
        metrics = {"loss": loss, "chance_loss": chance, "grad_norm": grad_norm, "learning_rate": rate}
        return metrics | self.model.logged_scalars()

    def _without_numbers(self, batch: Batch) -> list[str]:
        """The clips of a batch whose sound is not finite, as `KEY in SHARD`."""
        is_broken = ~torch.isfinite(batch.sound.float()).flatten(1).all(1)
        clips = self.train_clips
        rows = sorted(set(batch.clips[is_broken.cpu()].tolist()))
        return [f"{clips.keys[row]} in {clips.shard_name(row)}.tar" for row in rows]

    def _validated(self, folder: Path, metrics: dict[str, float]) -> dict[str, float]:
        """The numbers of a validation; saves the averaged weights if they are the best so far."""
        progress = self.progress
        found = self.ranks.agreed(self._validate(metrics["progress"]) if self.ranks.is_first else {})
        progress.has_probed |= found["is_plateau"] > 0
        progress.waited += 1
        score = -found["val_loss"] if self.model.learns_offsets else found["val_auc"]
        if score > progress.best:
            progress.best = score
            progress.waited = 0
            if self.ranks.is_first:
                self._save_best(folder / BEST, metrics | found)
        return found

    def _save_best(self, path: Path, metrics: dict[str, float]) -> None:
        facts = {
            "dataset": self.dataset.version.digest,
            "lineage": self.dataset.lineage,
            "train": asdict(self.config),
            "metrics": dict(metrics),
        }
        save_checkpoint(path, self.model_name, self.model_config, self.average.model, facts)

    def _validate(self, share: float) -> dict[str, float]:
        """The averaged weights' numbers on equally many clips of both splits; fits their calibration on `val`."""
        model = self.average.model
        config = self.config
        metrics = {"is_plateau": float(is_plateau(self.progress.relative_losses, share))}
        if metrics["is_plateau"] and not self.progress.has_probed and has_room(self._steps_left(share)):
            metrics |= probe_towers(model, self.train_clips, self.val_clips, config.sampling, self.is_bf16)
        for name, clips in (("val", self.val_clips), ("train", self.train_clips)):
            some = self._some(clips)
            encoded = embed(model, some, config.validation_steps, is_bf16=self.is_bf16)
            combined = combine(model, encoded, config.negatives)
            if name == "val":
                model.calibration.copy_(torch.tensor(fit_calibration(combined)))
            numbers = all_pairs(model, encoded, combined)
            if model.learns_offsets:
                moved = hear_moved(model, some, encoded, config.sampling, is_bf16=self.is_bf16)
                numbers["loss"] = loss_of(model, moved, config.negatives)
            metrics |= {f"{name}_{key}": value for key, value in numbers.items()}
        return metrics

    def _steps_left(self, share: float) -> float:
        """How many steps the budget has left, at their average duration so far."""
        return self.progress.step * (1 - share) / share

    def _some(self, clips: Dataset) -> Dataset:
        """The clips of a split that validation uses: equally many from both."""
        num_clips = min(self.config.validation_clips, len(self.train_clips), len(self.val_clips))
        return _drawn(clips, num_clips, self.config.seed)
