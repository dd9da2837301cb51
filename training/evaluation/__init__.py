"""One file a question that an evaluation answers."""

from schemas.feature import Profile
from training.reading.sampling import View

SPLIT = "eval"  # whose clips no model has learnt from
MOST_STEPS = 5


def steps_a_clip(profile: Profile, view: View) -> int:
    """With how many steps a clip is asked: as many as lie side by side, at most MOST_STEPS."""
    return max(1, min(MOST_STEPS, profile.length_ms // view.sound_ms))
