"""One optimiser step: gradients over the full combination of a batch, the optimizer, and averaged weights.

Ranks share a batch, and each may encode its share in pieces, so that memory holds the graph of one piece only
(GradCache, Gao et al. 2021): every piece is encoded without a graph, the loss of all vectors gives the gradient
of each, and every piece is encoded again to propagate it.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training.interface import AvcModel
from training.learning.augment import Augmentation, augment_images, augment_log_mel, augment_wave
from training.learning.ranks import Ranks
from training.networks.embeddings import pictures
from training.networks.frontend import sounds
from training.networks.frozen import FEATURES_NDIM, FrozenModel
from training.networks.precision import autocast, require_compiler
from training.reading.decoding import Batch
from training.reading.negatives import Negatives, Steps

Key = tuple[int, ...]  # seeds a step's random numbers: seed, epoch, step, rank


class Encoder(nn.Module):
    """Pixels and sounds in, vectors out, augmented on the device."""

    def __init__(
        self, model: AvcModel, augmentation: Augmentation, is_bf16: bool, *, is_compiled: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self._augmentation = augmentation
        self._is_bf16 = is_bf16
        self._encode_image = model.encode_image
        self._encode_audio = model.encode_audio
        if is_compiled:  # only these: augmentation and front end have data-dependent shapes
            require_compiler(next(model.parameters()).device)
            self._encode_image = torch.compile(self._encode_image)
            self._encode_audio = torch.compile(self._encode_audio)

    def forward(self, frames: Tensor, sound: Tensor, draws_BU: Tensor) -> tuple[Tensor, Tensor]:
        """`vector`s of pictures and of sounds; features of a frozen side are passed on as they are."""
        image_draws, sound_draws = draws_BU.chunk(2, dim=1)
        return self._seen(frames, image_draws), self._heard(sound, sound_draws)

    def _seen(self, frames: Tensor, draws_BU: Tensor) -> Tensor:
        model = self.model
        if isinstance(model, FrozenModel) and frames.ndim == FEATURES_NDIM:
            return model.head("image", frames)
        images = augment_images(pictures(frames), self._augmentation, draws_BU)
        with autocast(frames.device, self._is_bf16):
            return self._encode_image(images)["vector"]

    def _heard(self, sound: Tensor, draws_BU: Tensor) -> Tensor:
        model = self.model
        if isinstance(model, FrozenModel) and sound.ndim == FEATURES_NDIM:
            return model.head("audio", sound)
        augment = augment_log_mel if model.front_end.is_spectrum else augment_wave
        heard = augment(model.front_end(sounds(sound)), self._augmentation, draws_BU)
        with autocast(sound.device, self._is_bf16):
            return self._encode_audio(heard)["vector"]


class Gradients:
    """Computes gradients of the model's loss; `encoder` may be wrapped for several ranks."""

    def __init__(self, encoder: Encoder, policy: Negatives, ranks: Ranks) -> None:
        self.model = encoder.model
        self._policy = policy
        self._ranks = ranks
        self._encode: nn.Module = encoder
        if ranks.size > 1:
            # BatchNorms see all ranks, so buffers are equal without being sent.
            self._encode = DistributedDataParallel(encoder, forward_sync_buffers=False)

    def backward(self, batch: Batch, num_pieces: int, key: Key) -> tuple[float, float]:
        """Leaves the gradient of the loss in the parameters; returns the loss and the loss at chance."""
        steps = self._steps(batch)
        # BatchNorm synchronizes at every piece: ranks with different numbers of pieces would wait forever.
        pieces = batch.chunks(min(num_pieces, self._ranks.fewest(batch.videos)))
        if len(pieces) == 1:
            V, A = self._encoded(batch, (*key, 0))
            loss = self._loss(V, A, steps)
            loss.backward()
            return loss.item(), self.model.chance_loss(steps)
        with torch.no_grad(), unmoved_statistics(self.model):
            vectors = [self._encoded(piece, (*key, n)) for n, piece in enumerate(pieces)]
        V, A = (torch.cat(side).requires_grad_() for side in zip(*vectors, strict=True))
        loss = self._loss(V, A, steps)
        dV, dA = torch.autograd.grad(loss, (V, A), retain_graph=True)
        sizes = [len(piece.videos) for piece in pieces]
        for n, (piece, *slopes) in enumerate(zip(pieces, dV.split(sizes), dA.split(sizes), strict=True)):
            is_last = n == len(pieces) - 1
            with nullcontext() if is_last else self._without_sync():
                encoded = self._encoded(piece, (*key, n))
                surrogate = torch.stack([(x * g).sum() for x, g in zip(encoded, slopes, strict=True)]).sum()
                # The loss itself once, for parameters that belong to it and not to the encoders.
                (surrogate + loss if is_last else surrogate).backward()
        return loss.item(), self.model.chance_loss(steps)

    def _loss(self, V: Tensor, A: Tensor, steps: Steps) -> Tensor:
        return self.model.loss(self._ranks.gathered(V), self._ranks.gathered(A), steps)

    def _encoded(self, batch: Batch, key: Key) -> tuple[Tensor, Tensor]:
        """Vectors; random numbers of the model are seeded by `key`, so that a piece can be encoded again."""
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1)))
        return self._encode(batch.frames, batch.sound, batch.draws)

    def _steps(self, batch: Batch) -> Steps:
        rows = (batch.clips, batch.videos, batch.classes, batch.seen_ms, batch.heard_ms)
        return Steps(*(self._ranks.gathered(row) for row in rows), policy=self._policy)

    def _without_sync(self):
        encode = self._encode
        return encode.no_sync() if isinstance(encode, DistributedDataParallel) else nullcontext()


@contextmanager
def unmoved_statistics(model: nn.Module) -> Iterator[None]:
    """In the block, BatchNorms normalize by the batch, as in training, but keep their running statistics unchanged."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Weight decay for weights only: decayed norms, biases and temperatures drift to useless values."""
    weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def make_optimizer(kind: str, model: nn.Module, rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """`adamw`, or `sgd` with momentum 0.9 as in the papers of 2018."""
    groups = parameter_groups(model, weight_decay)
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9)
    return torch.optim.AdamW(groups, lr=rate)


def learning_rate(progress: float, warmup_share: float) -> float:
    """The share of the peak rate: a linear warm-up, then half a cosine to zero."""
    if progress < warmup_share:
        # Never zero: the first step of a long warm-up should move something.
        return max(progress / warmup_share, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup_share) / (1 - warmup_share)))


class Average:
    """The exponential moving average of a model: weights and BatchNorm statistics alike."""

    def __init__(self, model: AvcModel, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average towards `model`; quickly at first, when there is little to average."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        own = self.model.state_dict()
        for name, tensor in model.state_dict().items():
            if name == "calibration":  # fitted for the average, not learnt
                continue
            if tensor.is_floating_point():
                own[name].lerp_(tensor, 1 - decay)
            else:
                own[name].copy_(tensor)
