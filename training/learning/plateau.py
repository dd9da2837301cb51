"""Whether a training has learnt anything at all, and if not, which of its two towers is at fault."""

import copy
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.errors import OperationalError
from training.interface import AvcModel
from training.networks.embeddings import embed, pictures
from training.networks.frontend import sounds
from training.networks.precision import autocast
from training.reading.dataset import Dataset
from training.reading.decoding import Batch
from training.reading.sampling import Epoch, Sampling
from training.reading.streaming import batches

log = logging.getLogger(__name__)

PLATEAU_SHARE = 0.01  # of the chance loss: a model that is not better by that much has learnt nothing
PLATEAU_STEPS = 500  # checked from this step on, or from half of a shorter training
PLATEAU_HELP = (
    "the loss is still at chance. Check, in this order: learning rate; the sign of the scale of distances; vectors "
    "normalised over the wrong axis; softmax before a cross-entropy that has one; BatchNorm in the wrong mode; "
    "pairs shuffled by mistake; too few clips, or pictures that do not show what sounds"
)
SHOWN = 3  # broken clips that a message names
PROBE_STEPS = 60  # of each tower; a step of one tower costs less than a step of the training
PROBE_RATE = 3e-3
LEARNS_SHARE = 1.5  # of chance: a tower with less has learnt nothing about the labels


def is_plateau(relative_losses: Sequence[float], progress: float) -> bool:
    """Whether the last tenth of the losses is no better than chance, late enough to be meaningful.

    Warns with the usual causes if so.
    """
    recent = relative_losses[-max(1, len(relative_losses) // 10) :]
    is_due = progress >= 0.5 or len(relative_losses) >= PLATEAU_STEPS
    is_flat = is_due and len(recent) > 0 and np.mean(recent) > 1.0 - PLATEAU_SHARE
    if is_flat:
        log.warning("after %d steps %s", len(relative_losses), PLATEAU_HELP)
    return bool(is_flat)


def require_finite(
    step: int, rate: float, loss: float, grad_norm: float, broken: Callable[[], list[str]]
) -> None:
    """Raises OperationalError if a training has diverged, before that reaches the weights.

    `broken` names the clips of the step whose stored sound contains NaN or infinity; it is called only then.
    """
    if math.isfinite(loss + grad_norm):
        return
    clips = broken()
    why = f"{', '.join(clips[:SHOWN])} hold(s) sound that is not a number: `mcgurk verify --mend` restores it"
    remedy = why if clips else "use a lower rate (--set learning_rate=...)"
    raise OperationalError(
        f"the training has diverged: at step {step} and a learning rate of {rate:g} the loss is {loss:g} and the "
        f"gradient's norm {grad_norm:g}; {remedy}. The best weights so far are kept"
    )


def has_room(left: float) -> bool:
    """Whether a probe fits into the rest of a budget, in steps of the training."""
    steps_needed = 2 * PROBE_STEPS
    if left < steps_needed:
        message = "no probe of the towers: it takes as long as %d steps, and the budget has %d left"
        log.warning(message, steps_needed, int(left))
    return left >= steps_needed


def probe_towers(
    model: AvcModel, train: Dataset, val: Dataset, sampling: Sampling, is_bf16: bool = False
) -> dict[str, float]:
    """Balanced accuracy on `val` of each tower, trained on the classes for PROBE_STEPS, and its chance.

    A tower that cannot learn labels from its own side cannot learn correspondence: the message names it. Empty if the
    clips have fewer than two classes. The model is not changed.
    """
    known = np.intersect1d(train.classes, val.classes)
    known = known[known >= 0]
    if len(known) < 2:
        log.warning("no probe of the towers: it needs clips of two labels in both splits")
        return {}
    train, val = (clips.take(np.flatnonzero(np.isin(clips.classes, known))) for clips in (train, val))
    chance = 1 / len(known)
    found = {
        side: _accuracy(model, side, (train, val), sampling, is_bf16=is_bf16) for side in ("image", "audio")
    }
    blind = [side for side, accuracy in found.items() if accuracy < LEARNS_SHARE * chance]
    message = "a probe with labels gets %.0f %% from pictures and %.0f %% from sounds (chance %.0f %%): %s"
    verdict = (
        f"{' and '.join(blind)} tower cannot tell the classes apart" if blind else "both towers can learn"
    )
    log.warning(message, 100 * found["image"], 100 * found["audio"], 100 * chance, verdict)
    return {"probe_image": found["image"], "probe_audio": found["audio"], "probe_chance": chance}


def _accuracy(
    model: AvcModel, side: str, clips: tuple[Dataset, Dataset], sampling: Sampling, *, is_bf16: bool
) -> float:
    train, val = clips
    classes = np.unique(train.classes)
    tower = copy.deepcopy(model).requires_grad_(True).train()
    device = tower.calibration.device
    encoded = embed(model, val.take(np.arange(1)), 1)
    width = getattr(encoded, side).shape[-1]
    judge = nn.Sequential(nn.BatchNorm1d(width, affine=False), nn.Linear(width, len(classes))).to(device)
    optimizer = torch.optim.AdamW([*tower.parameters(), *judge.parameters()], lr=PROBE_RATE)
    for batch in islice(_forever(train, sampling), PROBE_STEPS):
        target = torch.from_numpy(np.searchsorted(classes, batch.classes.numpy())).to(device)
        with autocast(device, is_bf16):
            vectors = _vectors(tower, side, batch.to(device))
        loss = functional.cross_entropy(judge(vectors), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    vectors = getattr(embed(tower, val, 1, is_bf16=is_bf16), side)[:, 0].to(device)
    with torch.inference_mode():
        predicted = classes[judge.eval()(vectors).argmax(1).cpu().numpy()]
    return float(
        np.mean([(predicted[val.classes == label] == label).mean() for label in np.unique(val.classes)])
    )


def _forever(clips: Dataset, sampling: Sampling) -> Iterator[Batch]:
    for number in count():
        yield from batches(Epoch(clips, sampling, 0, number))


def _vectors(tower: AvcModel, side: str, batch: Batch) -> Tensor:
    if side == "image":
        return tower.encode_image(pictures(batch.frames))["vector"].float()
    return tower.encode_audio(tower.front_end(sounds(batch.sound)))["vector"].float()
