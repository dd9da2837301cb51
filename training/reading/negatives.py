"""Which pairs of a batch do not belong together: the policies, and the rule of each.

| policy | a picture and a sound do not match where |
|---|---|
| `other_clip` | they are of different videos |
| `same_class` | they are of different videos of one class (the first label; clips without one have no such pairs) |
| `shifted` | they are of one clip, and either step's picture and the other's sound at least `tolerance_ms` apart |

A pair that is not the step's own and does not match any rule is neither: it is left out. Both classes consist of the
same pictures and the same sounds, so neither side alone tells to which class a pair belongs: every rule holds equally
for a picture and a sound and for the sound's own picture and the picture's own sound.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from schemas.errors import RequestError

NegativeKind = Literal["other_clip", "same_class", "shifted"]


@dataclass(frozen=True)
class Negatives:
    """The policies; a pair does not match if any of them says so."""

    kinds: tuple[NegativeKind, ...] = ("other_clip",)
    # Synchrony is visible to about 0.1 s, but many sounds last: with 1 s windows, half a second is still shared.
    tolerance_ms: float = 1000.0

    def __post_init__(self) -> None:
        if unknown := set(self.kinds) - set(get_args(NegativeKind)):
            raise RequestError(
                f"no negatives {', '.join(sorted(unknown))}; choose from {', '.join(get_args(NegativeKind))}"
            )

    @property
    def steps_per_clip(self) -> int:
        """How many steps of a clip a batch must have to contain such pairs."""
        return 2 if "shifted" in self.kinds else 1


@dataclass(frozen=True)
class Steps:
    """The steps of a batch, for a loss over all their combinations; each (N,)."""

    clips: Tensor  # int64: equal for the same clip; a video may have several, and each has its own times
    videos: Tensor  # int64: equal for the same video
    classes: Tensor  # int64: of the clip's first label, -1 without one
    seen_ms: Tensor  # float32: the time of what is seen, from the segment's start
    heard_ms: Tensor  # float32
    policy: Negatives = Negatives()

    @property
    def rows(self) -> dict[str, Tensor]:
        """All but the policy, by name."""
        return {name: value for name, value in vars(self).items() if name != "policy"}

    def to(self, device: torch.device) -> "Steps":
        """The same steps on `device`."""
        return replace(self, **{name: row.to(device) for name, row in self.rows.items()})

    @property
    def negatives(self) -> Tensor:
        """Which picture (row) and sound (column) do not match: bool (N, N)."""
        laws = {"other_clip": self._other_clip, "same_class": self._same_class, "shifted": self._shifted}
        is_negative = torch.stack([laws[kind]() for kind in self.policy.kinds]).any(0)
        return is_negative & ~torch.eye(len(self.videos), dtype=torch.bool, device=self.videos.device)

    def _other_clip(self) -> Tensor:
        return self.videos[:, None] != self.videos[None, :]

    def _same_class(self) -> Tensor:
        is_alike = (self.classes[:, None] == self.classes[None, :]) & (self.classes >= 0)[:, None]
        return self._other_clip() & is_alike

    def _shifted(self) -> Tensor:
        apart_ms = (self.seen_ms[:, None] - self.heard_ms[None, :]).abs()
        is_apart = apart_ms >= self.policy.tolerance_ms
        return (self.clips[:, None] == self.clips[None, :]) & is_apart & is_apart.T
