"""One optimiser step's gradients over the full combination of a batch, however it is cut up.

Ranks share a batch, and each may encode its share in pieces, so that memory holds the graph of one piece only
(GradCache, Gao et al. 2021): every piece is encoded without a graph, the loss of all vectors gives the gradient
of each, and every piece is encoded again to hand it on.
"""

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

Key = tuple[int, ...]  # what a step's random numbers depend on: seed, epoch, step, rank


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
        if is_compiled:  # these alone: augmentation and front end have shapes that depend on data
            require_compiler(next(model.parameters()).device)
            self._encode_image = torch.compile(self._encode_image)
            self._encode_audio = torch.compile(self._encode_audio)

    def forward(self, frames: Tensor, sound: Tensor, draws_BU: Tensor) -> tuple[Tensor, Tensor]:
        """`vector`s of pictures and of sounds; what a frozen side gave of them before is taken as it is."""
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
        """Leaves the gradient of the loss in the parameters; returns the loss and what chance would give."""
        steps = self._steps(batch)
        # Every piece is a collective of BatchNorm's: ranks with other numbers of pieces would wait for ever.
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
            with nullcontext() if is_last else self._unsent():
                encoded = self._encoded(piece, (*key, n))
                surrogate = torch.stack([(x * g).sum() for x, g in zip(encoded, slopes, strict=True)]).sum()
                # The loss itself once, for the parameters that stand in it and not in the encoders.
                (surrogate + loss if is_last else surrogate).backward()
        return loss.item(), self.model.chance_loss(steps)

    def _loss(self, V: Tensor, A: Tensor, steps: Steps) -> Tensor:
        return self.model.loss(self._ranks.gathered(V), self._ranks.gathered(A), steps)

    def _encoded(self, batch: Batch, key: Key) -> tuple[Tensor, Tensor]:
        """Vectors; what is random in the model is keyed, so that a piece can be encoded again."""
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1)))
        return self._encode(batch.frames, batch.sound, batch.draws)

    def _steps(self, batch: Batch) -> Steps:
        rows = (batch.clips, batch.videos, batch.classes, batch.seen_ms, batch.heard_ms)
        return Steps(*(self._ranks.gathered(row) for row in rows), policy=self._policy)

    def _unsent(self):
        encode = self._encode
        return encode.no_sync() if isinstance(encode, DistributedDataParallel) else nullcontext()


@contextmanager
def unmoved_statistics(model: nn.Module) -> Iterator[None]:
    """BatchNorms normalize by the batch as in training, and remember nothing of it."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
