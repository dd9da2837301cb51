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
    """The gate, on the tags of two model versions; a champion that somebody else registered may have none."""
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
            f"{champion[EVALUATION_DIGEST][:12]}; evaluate both on one",
        )
    theirs = float(champion[SCORE])
    if score > theirs:
        return Verdict(True, f"promoted: {score:.4f} beats the champion's {theirs:.4f}")
    return Verdict(False, f"not promoted: {score:.4f} does not beat the champion's {theirs:.4f}")


def incomparable(champion: Mapping[str, str]) -> str:
    """Why nothing can be compared with this champion, from its tags; empty where it can."""
    lacking = [name for name in (EVALUATION_DIGEST, SCORE) if not champion.get(name)]
    if lacking:
        return (
            f"the champion has no tag {' and no '.join(lacking)}, so nothing says how good it is; give the alias "
            "`champion` to a version that mcgurk registered, or to none"
        )
    try:
        is_number = math.isfinite(float(champion[SCORE]))
    except ValueError:
        is_number = False
    return "" if is_number else f"the champion's score is {champion[SCORE]!r}, and no number"
