"""Which pairs an evaluation scores: lists in which neither side alone tells whether a pair matches."""

from dataclasses import dataclass, replace

import numpy as np

from training.reading.negatives import Negatives


@dataclass(frozen=True)
class PairConfig:
    """Which pairs are scored: `num_steps` seconds of each clip, each once with its own sound and once not."""

    num_steps: int = 5
    seed: int = 0
    tolerance_ms: float = Negatives.tolerance_ms  # from here on, a clip's own sound does not match it


@dataclass(frozen=True)
class Pairs:
    """A balanced list of pairs, by row of the embeddings; all int64 (pairs,), except `labels`."""

    image_rows: np.ndarray
    audio_rows: np.ndarray
    steps: np.ndarray  # the picture's index among the clip's evaluated steps
    labels: np.ndarray  # bool: whether the sound is the picture's own
    audio_steps: np.ndarray  # the sound's index

    def __len__(self) -> int:
        return len(self.labels)


def pair_lists(
    videos: np.ndarray, group_of: np.ndarray, chosen: np.ndarray, config: PairConfig
) -> tuple[Pairs, Pairs]:
    """The chosen clips paired with any other of them, and with others of their group.

    `videos`, `group_of`, `chosen` (bool): (clips,).
    """
    rows = np.flatnonzero(chosen)
    kinds = np.unique(group_of[rows], return_inverse=True)[1]
    lists = (make_pairs(videos[rows], kind, config) for kind in (np.zeros(len(rows)), kinds))
    first, second = (replace(p, image_rows=rows[p.image_rows], audio_rows=rows[p.audio_rows]) for p in lists)
    return first, second


def make_pairs(videos: np.ndarray, kinds: np.ndarray, config: PairConfig) -> Pairs:
    """Each step of each clip once with its own sound and once with that of another video of its kind.

    Clips whose kind has no second video are left out, of both classes. `videos`, `kinds`: (clips,).
    """
    own = []
    other = []
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        partner = derangement(videos[rows], np.random.default_rng([config.seed, len(own)]))
        has_partner = partner >= 0
        own.append(rows[has_partner])
        other.append(rows[partner[has_partner]])
    own_rows, other_rows = (np.concatenate(rows) if rows else np.zeros(0, np.int64) for rows in (own, other))
    image_rows = np.repeat(np.concatenate([own_rows, own_rows]), config.num_steps)
    audio_rows = np.repeat(np.concatenate([own_rows, other_rows]), config.num_steps)
    steps = np.tile(np.arange(config.num_steps), 2 * len(own_rows))
    return Pairs(image_rows, audio_rows, steps, np.arange(len(steps)) < len(steps) // 2, steps)


def shifted_pairs(seen_ms: np.ndarray, rows: np.ndarray, config: PairConfig) -> Pairs:
    """Each step of clips `rows` once with its own sound and once with that of another time of the clip.

    The other time is half of the steps further on, wrapping at the clip's end: the farthest possible for every step.
    Clips whose steps are closer than the tolerance are left out. `seen_ms`: the time of each step of each clip, (clips,
    steps).
    """
    own = np.arange(seen_ms.shape[1])
    other = np.roll(own, -(len(own) // 2))
    rows = rows[np.abs(seen_ms - seen_ms[:, other]).min(1)[rows] >= config.tolerance_ms]
    images = np.repeat(np.concatenate([rows, rows]), len(own))
    steps = np.tile(own, 2 * len(rows))
    audio_steps = np.concatenate([np.tile(own, len(rows)), np.tile(other, len(rows))])
    return Pairs(images, images, steps, np.arange(len(steps)) < len(steps) // 2, audio_steps)


def derangement(videos: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random permutation that gives every clip one of another video: int64 (clips,), -1 if that is impossible.

    Each clip is given once: positives and negatives have the same sounds.
    """
    ids, number, counts = np.unique(videos, return_inverse=True, return_counts=True)
    partner = np.full(len(videos), -1)
    rows = np.argsort(rng.permutation(len(ids))[number], kind="stable")
    # A video with more than half of the clips cannot be deranged completely: its surplus is left out.
    surplus = int(max(2 * counts.max(initial=0) - len(videos), 0))
    if surplus:
        largest = np.flatnonzero(videos == ids[counts.argmax()])
        rows = rows[~np.isin(rows, largest[:surplus])]
    if len(rows):
        # Clips of one video are adjacent, so rolling by the longest run leaves none on its own video.
        partner[rows] = np.roll(rows, -int(np.unique(videos[rows], return_counts=True)[1].max()))
    return partner
