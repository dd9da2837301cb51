"""Policies: which pairs do not match, by the law of each."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.reading.negatives import Negatives, Steps

CLIPS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(-1, 2), st.integers(0, 9)),
    min_size=1,
    max_size=24,
)


def steps_of(rows: list[tuple[int, int, int, int]], policy: Negatives) -> Steps:
    """Steps (video, clip of it, class of the video, second): a video has the class that it is first given."""
    class_of: dict[int, int] = {}
    classes = [class_of.setdefault(video, kind) for video, _, kind, _ in rows]
    clips = torch.tensor([10 * video + clip for video, clip, *_ in rows])
    seen_ms = torch.tensor([1000.0 * second for *_, second in rows])
    videos = torch.tensor([video for video, *_ in rows])
    return Steps(clips, videos, torch.tensor(classes), seen_ms, seen_ms + 50.0, policy)


@given(CLIPS, st.sets(st.sampled_from(["other_clip", "same_class", "shifted"]), min_size=1))
def test_every_policy_is_its_law(rows, kinds):
    policy = Negatives(tuple(sorted(kinds)), tolerance_ms=2000.0)
    steps = steps_of(rows, policy)

    found = steps.negatives.numpy()

    for n, m in np.ndindex(found.shape):
        is_other = bool(steps.videos[n] != steps.videos[m])
        is_alike = bool(steps.classes[n] == steps.classes[m] >= 0)
        apart_ms = min(abs(float(steps.seen_ms[a] - steps.heard_ms[b])) for a, b in ((n, m), (m, n)))
        law = {
            "other_clip": is_other,
            "same_class": is_other and is_alike,
            "shifted": bool(steps.clips[n] == steps.clips[m]) and apart_ms >= 2000.0,
        }
        assert found[n, m] == (n != m and any(law[kind] for kind in kinds))


def test_a_step_never_is_its_own_negative_however_far_its_sound_was_moved():
    steps = Steps(*torch.zeros(4, 1), torch.tensor([5000.0]), Negatives(("shifted",)))

    assert not steps.negatives.any()
