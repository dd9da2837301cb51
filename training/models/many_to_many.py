"""CNN-CNN-ManyToMany: a recurrent network over the steps of a clip decides for each whether its sound belongs to it.

A **reconstruction**: of the poster (Chen & Wu, Audio-Video Correspondence Study with Deep Learning Networks,
Stanford) only the name, "1 clip -> full-combination data" and its wishes survive. The reading here: a CNN for
pictures and another for sounds, steps of one second, any sound of the clip put beside any picture of it, and a
many-to-many recurrent network over the pairs in their order. Its wish for "multi-dimension, MSE instead of sigmoid
entropy" is `output="vector"`: all steps of a sequence regressed at once. Its sequences here: aligned; rolled by k
steps (which the offset head must name); permuted; of another clip; spliced. Aligned against another clip is
correspondence itself, so that a score is never only the noisy task within clips, to which about half of the wrong
steps belong; moments of a clip closer than the policy's tolerance are left out. Lengths and beginnings are drawn, so
that a step's place says nothing, and a sequence of one step is a pair like any other: what `similarity` scores. With
`trunk` a checkpoint of a model that encodes either side alone, its vectors are taken, computed once, and training
takes seconds.

B clips, N steps of each, L of them in a sequence, D embedding, F fused features.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.errors import RequestError
from schemas.waveforms import FRAMES_PER_S, N_MELS
from training.interface import AvcModel, ModelCard, Needs
from training.models import load_model, needs_of
from training.networks.frozen import FrozenModel, Side
from training.networks.trunks import SeedTrunks, projection
from training.reading.negatives import Steps
from training.reading.sampling import Sampling, View

LENGTH_MS = 4000
MAX_ROLL = 4  # steps either way that the offset head can distinguish
PAIRS_AT_ONCE = 4096
KINDS_ALONE = ("aligned", "rolled", "permuted")  # orders of a clip's own sounds
KINDS = (*KINDS_ALONE, "other", "spliced")

TRAINING_OVERRIDES = {
    "sampling": Sampling(24, 6, apart_ms=1000),
    "validation_steps": 6,
    "validation_clips": 32,  # 37,000 pairs, each of which costs a network
    "learning_rate": 1e-3,  # at 3e-3, the usual one, it fell back to chance on generated scenes
}

CARD = ModelCard(
    paper=(
        "a reconstruction of the poster of Chen, Wu, Audio-Video Correspondence Study with Deep Learning "
        "Networks, Stanford"
    ),
    weights=(
        "none ship with mcgurk: all are learnt from the dataset version that a run names; those of "
        "`trunk` are under the licence of its checkpoint"
    ),
    input=(
        "a picture of 112 px, and 1 s of sound at 16000 Hz, 1 channel, as the stored log-mel, of each of "
        "several seconds"
    ),
    num_parameters=1_084_618,
)


@dataclass(frozen=True)
class Config:
    """The size of the network; `trunk` is the path of a checkpoint whose encoders are used without training.

    The file has to be kept: it defines the encoders.
    """

    width: int = 16
    embedding: int = 128
    fused: int = 256
    recurrent: int = 128
    output: Literal["sigmoid", "vector"] = "sigmoid"
    offset_weight: float = 0.2
    trunk: str = ""
    frame_px: int = 112


PRESETS = {"small": Config(), "sigmoid": Config(), "vector": Config(output="vector")}


def needs(config: Config) -> Needs:
    """A few consecutive seconds of what its trunk needs; without one, frames with room for a random crop."""
    if not config.trunk:
        return Needs(config.frame_px, length_ms=LENGTH_MS)
    theirs = needs_of(Path(config.trunk))
    return replace(theirs, length_ms=max(theirs.length_ms, LENGTH_MS))


def build(config: Config) -> "ManyToMany":
    """The model, untrained except for a given trunk."""
    return ManyToMany(config)


class ManyToMany(FrozenModel):
    """Two encoders, [v; a; |v - a|; v a] of every step, a bidirectional GRU, a head a step and one for the offset."""

    def __init__(self, config: Config) -> None:
        trunk = _trunk(config.trunk)
        super().__init__(trunk.view if trunk else View(config.frame_px), trunk.front_end if trunk else None)
        self.config = config
        self.trunk = trunk
        self.frozen = ("image", "audio") if trunk else ()
        widths = 2 * [8 * config.width]
        if trunk is None:
            self.trunks = SeedTrunks(config.width, 2)
        else:
            widths = _vector_widths(trunk)
            trunk.requires_grad_(False)
        self.image_head, self.audio_head = (
            projection(width, config.embedding, proj_bn=True) for width in widths
        )
        self.fuse = nn.Sequential(nn.Linear(4 * config.embedding, config.fused), nn.ReLU())
        self.recurrent = nn.GRU(config.fused, config.recurrent, batch_first=True, bidirectional=True)
        self.step_head = nn.Linear(2 * config.recurrent, 1)
        self.offset_head = nn.Linear(2 * config.recurrent, 2 * MAX_ROLL + 1)

    def train(self, mode: bool = True) -> "ManyToMany":
        """As for any module, but a given trunk stays in evaluation mode."""
        super().train(mode)
        if self.trunk is not None:
            self.trunk.eval()
        return self

    def features(self, side: Side, inputs: Tensor) -> Tensor:
        """The trunk's vector, or the maximum of its map: (B, F)."""
        return self._encoded(side, inputs)[0]

    def head(self, side: Side, features_BF: Tensor) -> Tensor:
        """The embedding of one side: (B, D)."""
        return (self.image_head if side == "image" else self.audio_head)(features_BF).float()

    def encode_image(self, images: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D) and `map` (B, C, h, w), the trunk's."""
        features_BF, places_BCHW = self._encoded("image", images)
        return {"vector": self.head("image", features_BF), "map": places_BCHW}

    def encode_audio(self, audio_BFT: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D) and `map` (B, C, t), the trunk's."""
        features_BF, moments = self._encoded("audio", audio_BFT)
        return {"vector": self.head("audio", features_BF), "map": moments if self.trunk else moments.amax(2)}

    def sequence(self, V_BLD: Tensor, A_BLD: Tensor) -> tuple[Tensor, Tensor]:
        """A logit a step (B, L), and those of the offset in steps from -MAX_ROLL to MAX_ROLL, late positive."""
        fused = self.fuse(torch.cat([V_BLD, A_BLD, (V_BLD - A_BLD).abs(), V_BLD * A_BLD], -1))
        state, _ = self.recurrent(fused)
        return self.step_head(state)[..., 0], self.offset_head(state.mean(1))

    def similarity(self, V: Tensor, A: Tensor) -> Tensor:
        """The logit of every pair as a sequence of one step: (Nv, Na)."""
        block = max(1, PAIRS_AT_ONCE // len(A))
        rows = []
        for some in V.split(block):
            v, a = (x.flatten(0, 1) for x in torch.broadcast_tensors(some[:, None], A[None]))
            rows.append(self.paired(v, a).view(len(some), len(A)))
        return torch.cat(rows)

    def paired(self, V: Tensor, A: Tensor) -> Tensor:
        """The logit of each row of V with the same row of A, as sequences of one step: (N,)."""
        return self.sequence(V[:, None], A[:, None])[0][:, 0]

    def loss(self, V: Tensor, A: Tensor, steps: Steps) -> Tensor:
        """The loss of every step of sequences of all KINDS, and of the offset of rolled ones."""
        num_steps = _num_steps(steps)
        generator, length, begin = _window(steps)
        of_steps = (x.unflatten(0, (-1, num_steps)) for x in (V, A, steps.seen_ms))
        V_BLD, own_BLD, seen_BL = (x[:, begin : begin + length] for x in of_steps)
        stranger_B = strangers(steps.negatives[::num_steps, ::num_steps])
        logits = []
        targets = []
        offset_loss = V.new_zeros(())
        for kind in KINDS:
            rows_B = torch.arange(len(V_BLD), device=V.device)
            if kind not in KINDS_ALONE:
                rows_B = rows_B[stranger_B >= 0]
            if not len(rows_B):
                continue
            arrangement = arranged(kind, len(rows_B), length, generator)
            order_BL, is_other_BL, roll_B = (x.to(V.device) for x in arrangement)
            own_order_BLD = own_BLD[rows_B].gather(1, order_BL[..., None].expand(-1, -1, own_BLD.shape[2]))
            A_BLD = torch.where(is_other_BL[..., None], own_BLD[stranger_B[rows_B]], own_order_BLD)
            step_logits, offset_logits = self.sequence(V_BLD[rows_B], A_BLD)
            is_own_BL = matches(order_BL, is_other_BL)
            apart_BL = (seen_BL[rows_B].gather(1, order_BL) - seen_BL[rows_B]).abs()
            is_scored_BL = is_own_BL | is_other_BL | (apart_BL > steps.policy.tolerance_ms - 1)
            logits.append(step_logits[is_scored_BL])
            targets.append(is_own_BL[is_scored_BL].float())
            if kind == "rolled":
                offset_loss = _offset_loss(offset_logits, roll_B, length)
        loss = balanced(torch.cat(logits), torch.cat(targets), self.config.output)
        return loss + self.config.offset_weight * offset_loss

    def chance_loss(self, steps: Steps) -> float:
        """ln 2, or the squared error of always predicting one half; plus the weighted log of the number of offsets."""
        _, length, _ = _window(steps)
        step = math.log(2) if self.config.output == "sigmoid" else 0.25
        return step + self.config.offset_weight * math.log(2 * _most(length) + 1)

    def heat(self, image_map_BDHW: Tensor, audio_BD: Tensor) -> Tensor:
        """How strongly each place responds, whatever is heard: a recurrent score has no parts by place."""
        del audio_BD
        return image_map_BDHW.float().square().mean(1)

    def _encoded(self, side: Side, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Features and map from one pass through the trunk."""
        if self.trunk is not None:
            with torch.no_grad():
                encode = self.trunk.encode_image if side == "image" else self.trunk.encode_audio
                encoded = encode(inputs)
            return encoded["vector"], encoded["map"]
        if side == "image":
            places = self.trunks.image(inputs)
        else:
            places = self.trunks.audio((inputs - self.audio_mean) / self.audio_std)
        return places.amax((2, 3)), places


def strangers(is_negative_BB: Tensor) -> Tensor:
    """For each clip, the next one whose sounds do not match it: (B,); -1 if there is none."""
    clips_B = torch.arange(len(is_negative_BB), device=is_negative_BB.device)
    order_BB = (clips_B[:, None] + 1 + clips_B) % len(clips_B)  # the others, starting with the next
    in_order_BB = is_negative_BB.gather(1, order_BB)
    next_B = order_BB.gather(1, in_order_BB.int().argmax(1, keepdim=True))[:, 0]
    return torch.where(in_order_BB.any(1), next_B, -1)


def arranged(kind: str, batch: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Which of a clip's own sounds is at each step (B, L), whether the stranger's is, and the roll (B,).

    Every clip is arranged separately, and every place matches as often as any other. Rolls are in steps, positive if
    late.
    """
    place_L = torch.arange(length)
    roll_B = torch.zeros(batch, dtype=torch.long)
    order_BL = place_L.repeat(batch, 1)
    is_other_BL = torch.full((batch, length), kind == "other")
    if kind == "rolled":
        most = _most(length)
        roll_B = torch.randint(-most, most + 1, (batch,), generator=generator)
        order_BL = (place_L - roll_B[:, None]) % length
    elif kind == "permuted":
        order_BL = torch.rand(batch, length, generator=generator).argsort(1)
    elif kind == "spliced":
        cut_B1 = torch.randint(1, max(2, length), (batch, 1), generator=generator)
        is_first_B1 = torch.randint(0, 2, (batch, 1), generator=generator) == 1
        is_other_BL = (place_L < cut_B1) == is_first_B1
    return order_BL, is_other_BL, roll_B


def matches(order_BL: Tensor, is_other_BL: Tensor) -> Tensor:
    """Whether each step has its own sound: bool (B, L)."""
    return (order_BL == torch.arange(order_BL.shape[1], device=order_BL.device)) & ~is_other_BL


def _num_steps(steps: Steps) -> int:
    return int(torch.unique_consecutive(steps.clips, return_counts=True)[1].min())


def _window(steps: Steps) -> tuple[torch.Generator, int, int]:
    """The random numbers of a batch, the length of its sequences, and the step at which they begin.

    The same on every rank, and in every validation: derived from the content of the batch.
    """
    seed = int((steps.seen_ms.double().sum() * 7 + steps.videos.sum()).item())
    generator = torch.Generator().manual_seed(seed)
    num_steps = _num_steps(steps)
    length = int(torch.randint(1, num_steps + 1, (1,), generator=generator))
    return generator, length, int(torch.randint(0, num_steps - length + 1, (1,), generator=generator))


def _most(length: int) -> int:
    """The most steps by which a sequence is rolled, either way, so that no two rolls are the same."""
    return min(MAX_ROLL, (length - 1) // 2)


def _offset_loss(logits: Tensor, roll_B: Tensor, length: int) -> Tensor:
    """Cross-entropy of the offsets that a sequence of this length can have."""
    most = _most(length)
    return functional.cross_entropy(logits[:, MAX_ROLL - most : MAX_ROLL + most + 1], roll_B + most)


def balanced(logits: Tensor, targets: Tensor, output: str) -> Tensor:
    """Cross-entropy of sigmoids, or squared error of the vector of all steps; with equal weight for both classes."""
    if output == "sigmoid":
        losses = functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    else:
        # Its numbers are 0 to 1, and a logit's sign remains the answer: half is the threshold of both.
        losses = (logits.float() + 0.5 - targets).square()
    is_match = targets > 0.5
    parts = [losses[is_match], losses[~is_match]]
    return torch.stack([part.mean() for part in parts if len(part)]).mean()


def _trunk(path: str) -> AvcModel | None:
    """The model of a checkpoint. Raises RequestError for one that has no vector of either side alone."""
    trunk = load_model(Path(path)) if path else None
    if trunk is not None and trunk.is_early_fusion:
        raise RequestError(
            f"{path} fuses picture and sound before it has a vector of either: name another trunk"
        )
    return trunk


def _vector_widths(trunk: AvcModel) -> list[int]:
    """The widths of a picture's and a sound's vectors, measured on zeros."""
    view = trunk.view
    constants = trunk.front_end.constants
    shown = (
        (1, 3, view.frame_px, view.frame_px)
        if view.num_frames == 1
        else (1, view.num_frames, 3, view.frame_px, view.frame_px)
    )
    heard = (N_MELS, view.sound_ms * FRAMES_PER_S // 1000)
    if view.sound == "wave":
        heard = (int(constants.get("channels", 1)), int(view.sound_ms * constants["sample_rate_hz"] / 1000))
    with torch.inference_mode():
        image = trunk.encode_image(torch.zeros(shown))["vector"]
        return [
            image.shape[1],
            trunk.encode_audio(trunk.front_end(torch.zeros(1, *heard)))["vector"].shape[1],
        ]
