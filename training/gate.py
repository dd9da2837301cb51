"""The gate to champion: what two model versions' tags say of each other."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

EVALUATION_DIGEST, SCORE = "evaluation_digest", "score"  # tags of a model version that the gate compares


@dataclass(frozen=True)
class Verdict:
    """Whether a version became champion, and why."""

    is_promoted: bool
    reason: str


def compare(new: Mapping[str, str], champion: Mapping[str, str] | None) -> Verdict:
    """The gate, on the tags of two model versions."""
    score = float(new[SCORE])
    if not math.isfinite(score):
        return Verdict(False, f"refused: its score is {score}")
    if champion is None:
        return Verdict(True, f"promoted: the first champion, with {score:.4f}")
    if new[EVALUATION_DIGEST] != champion[EVALUATION_DIGEST]:
        return Verdict(
            False,
            f"refused: measured on evaluation {new[EVALUATION_DIGEST][:12]}, the champion on "
            f"{champion[EVALUATION_DIGEST][:12]}; evaluate both on one",
        )
    if score > float(champion[SCORE]):
        return Verdict(True, f"promoted: {score:.4f} beats the champion's {float(champion[SCORE]):.4f}")
    return Verdict(
        False, f"not promoted: {score:.4f} does not beat the champion's {float(champion[SCORE]):.4f}"
    )
