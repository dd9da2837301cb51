"""CNN-CNN-ManyToMany: a recurrent network over the steps of a clip says of each whether its sound belongs to it.

A **reconstruction**: of the poster (Chen & Wu, Audio-Video Correspondence Study with Deep Learning Networks, Stanford)
only the name, "1 clip -> full-combination data" and its wishes survive. Read so: a CNN for pictures and one for sounds,
steps of one second, any sound of the clip put beside any picture of it, and a many-to-many recurrent network over the
pairs in their order. Its wish for "multi-dimension, MSE instead of sigmoid entropy" is `output="vector"`: all steps of
a sequence regressed at once. Its sequences here: aligned; rolled by k steps (which the offset head must name);
permuted; of another clip; spliced. Aligned against another clip is correspondence itself, so that a score is never only
the noisy task within clips. Lengths and beginnings are drawn, so that a step's place says nothing, and a sequence of
one step is a pair like any other: that is what `similarity` scores. With `trunk` a checkpoint of any model, its
vectors are taken as they are, computed once, and training takes seconds.

B clips, N steps of each, L of them in a sequence, D embedding, F fused features.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.frozen import FrozenModel, Side
from training.models import Needs
from training.models.ave import projection
from training.negatives import Steps
from training.sampling import Sampling, View
from training.trunks import SeedTrunks

MAX_ROLL = 4  # steps either way that the offset head can name
PAIRS_AT_ONCE = 4096
KINDS_ALONE = ("aligned", "rolled", "permuted")  # of a clip's own sounds
KINDS = (*KINDS_ALONE, "other", "spliced")

TRAINING = {"sampling": Sampling(24, 6), "validation_steps": 6}


@dataclass(frozen=True)
class Config:
    """The size of the network; `trunk` is the path of a checkpoint whose encoders are taken and not trained.

    The file has to stay: it says what the encoders are.
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
    """Frames with room for a random crop, and a few seconds in a row."""
    return Needs(config.frame_px, length_ms=4000)


def build(config: Config) -> "ManyToMany":
    """The model, untrained but for a trunk that was given."""
    return ManyToMany(config)


class ManyToMany(FrozenModel):
    """Two encoders, [v; a; |v - a|; v a] of every step, a bidirectional GRU, a head a step and one for the offset."""

    def __init__(self, config: Config) -> None:
        trunk = _trunk(config.trunk)
        super().__init__(trunk.view if trunk else View(config.frame_px), trunk.front_end if trunk else None)
        self.config, self.trunk = config, trunk
        self.frozen = ("image", "audio") if trunk else ()
        width = 8 * config.width
        if trunk is None:
            self.trunks = SeedTrunks(config.width, 2)
        else:
            width = _vector_width(trunk)
            trunk.requires_grad_(False)
        self.image_head = projection(width, config.embedding, proj_bn=True)
        self.audio_head = projection(width, config.embedding, proj_bn=True)
        self.fuse = nn.Sequential(nn.Linear(4 * config.embedding, config.fused), nn.ReLU())
        self.recurrent = nn.GRU(config.fused, config.recurrent, batch_first=True, bidirectional=True)
        self.step_head = nn.Linear(2 * config.recurrent, 1)
        self.offset_head = nn.Linear(2 * config.recurrent, 2 * MAX_ROLL + 1)

    def train(self, mode: bool = True) -> "ManyToMany":
        """As always, but a trunk that was given stays in evaluation mode."""
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

    def encode_audio(self, heard_BFT: Tensor) -> dict[str, Tensor]:
        """`vector` (B, D) and `map` (B, C, t), the trunk's."""
        features_BF, moments = self._encoded("audio", heard_BFT)
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
        """The loss of every step of sequences of all KINDS, and of the offset of aligned and rolled ones."""
        num_steps = int(torch.unique_consecutive(steps.clips, return_counts=True)[1].min())
        V_BND, A_BND = (x.unflatten(0, (-1, num_steps)) for x in (V, A))
        # The same on every rank, and in every validation: drawn by what the batch is.
        seed = int((steps.seen_ms.double().sum() * 7 + steps.videos.sum()).item())
        generator = torch.Generator().manual_seed(seed)
        length = int(torch.randint(1, num_steps + 1, (1,), generator=generator))
        begin = int(torch.randint(0, num_steps - length + 1, (1,), generator=generator))
        V_BLD, own_BLD = (x[:, begin : begin + length] for x in (V_BND, A_BND))
        stranger_B = strangers(steps.videos[::num_steps])
        kinds = KINDS if stranger_B is not None else KINDS_ALONE
        other_BLD = own_BLD if stranger_B is None else own_BLD[stranger_B]
        logits, targets, offsets, rolls = [], [], [], []
        for kind in kinds:
            A_BLD, target_BL, roll = sounds_of(kind, own_BLD, other_BLD, generator)
            step_logits, offset_logits = self.sequence(V_BLD, A_BLD)
            logits.append(step_logits)
            targets.append(target_BL.to(V.device))
            if roll is not None:
                offsets.append(offset_logits)
                rolls.append(torch.full((len(V_BLD),), roll + MAX_ROLL, device=V.device))
        loss = balanced(torch.stack(logits), torch.stack(targets), self.config.output)
        return loss + self.config.offset_weight * functional.cross_entropy(
            torch.cat(offsets), torch.cat(rolls)
        )

    def chance_loss(self, steps: Steps) -> float:
        """ln 2, or the squared error of always saying one half; and the log of the number of offsets, weighed."""
        del steps
        step = math.log(2) if self.config.output == "sigmoid" else 0.25
        return step + self.config.offset_weight * math.log(2 * MAX_ROLL + 1)

    def heat(self, image_map_BDHW: Tensor, audio_BD: Tensor) -> Tensor:
        """How strongly each place answers, whatever is heard: a recurrent score can't be taken apart by place."""
        del audio_BD
        return image_map_BDHW.float().square().mean(1)

    def _encoded(self, side: Side, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Features and map, of one pass through the trunk."""
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


def strangers(videos_B: Tensor) -> Tensor | None:
    """For each clip the next one that is of another video: (B,); None where all are of one video."""
    after_B = torch.arange(len(videos_B), device=videos_B.device) + 1
    order_BB = (after_B[:, None] + after_B - 1) % len(videos_B)  # the others, beginning with the next
    is_other_BB = videos_B[order_BB] != videos_B[:, None]
    if not is_other_BB.any():
        return None
    return order_BB.gather(1, is_other_BB.int().argmax(1, keepdim=True))[:, 0]


def sounds_of(
    kind: str, own_BLD: Tensor, other_BLD: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, int | None]:
    """The sounds of a sequence, which of its steps match (B, L), and by how many steps they are late, if at all."""
    batch, length = own_BLD.shape[:2]
    place_L = torch.arange(length)
    if kind == "aligned":
        return own_BLD, torch.ones(batch, length), 0
    if kind == "other":
        return other_BLD, torch.zeros(batch, length), None
    if kind == "spliced":
        is_own_L = place_L < length // 2
        mixed_BLD = torch.where(is_own_L[:, None].to(own_BLD.device), own_BLD, other_BLD)
        return mixed_BLD, is_own_L.float().expand(batch, -1), None
    most = min(MAX_ROLL, length - 1)
    roll = int(torch.randint(-most, most + 1, (1,), generator=generator))
    order_L = place_L.roll(roll) if kind == "rolled" else torch.randperm(length, generator=generator)
    target_BL = (order_L == place_L).float().expand(batch, -1)
    return own_BLD[:, order_L.to(own_BLD.device)], target_BL, roll if kind == "rolled" else None


def balanced(logits: Tensor, targets: Tensor, output: str) -> Tensor:
    """Cross-entropy of sigmoids, or squared error of the vector of all steps; both classes weigh the same."""
    if output == "sigmoid":
        losses = functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    else:
        # Its numbers are 0 to 1, and a logit's sign stays the answer: half is the threshold of both.
        losses = (logits.float() + 0.5 - targets).square()
    is_match = targets > 0.5
    parts = [losses[is_match], losses[~is_match]]
    return torch.stack([part.mean() for part in parts if len(part)]).mean()


def _trunk(path: str):
    from training.checkpoint import load_model  # which imports models

    return load_model(Path(path)) if path else None


def _vector_width(trunk) -> int:
    with torch.inference_mode():
        return trunk.encode_image(torch.zeros(1, 3, trunk.view.frame_px, trunk.view.frame_px))[
            "vector"
        ].shape[1]
