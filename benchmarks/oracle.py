"""`python -m benchmarks.oracle`: what can be known of a scene, whatever the model.

How far the laws of the trained families reach in those that are held out: the oracle reads the size of what is seen
and the pitch of what is heard without error, and of a family it never met knows only how the registers of the trained
families lie: normally, by their mean and spread in octaves. Whether a picture and a sound of that family belong
together it decides by the likelihood ratio of the pitch, given the size or not. What it can't use is time: whether a
contact that is seen falls on the onset that is heard.

Which offset a scene's beats allow: an oracle sees each contact in the frame that shows it, 12 a second, hears each
onset, and finds the lag from -2 to 2 s at which they fit best over 6 s; one knows also how hard each blow was, to a
tenth of the range of forces. With the studio's rhythm, and with the even one that it had before.
"""

import math

import numpy as np
from scipy.stats import norm

from tasks.sources.scenes.families import FAMILIES, HELD_OUT, TRAINED
from tasks.sources.scenes.family import Family
from tasks.sources.scenes.laws import (
    FRAME_RATE_HZ,
    LONGEST_SHARE,
    OCTAVES,
    SHORTEST_SHARE,
    Beats,
    draw_beats,
    pitch_hz,
)
from training.estimates import auc
from training.evaluation.synchrony import CLASS_MS, NEAR_MS
from training.networks.offsets import MAX_LAG, MS_PER_LAG, NUM_CLASSES

NUM_SCENES = 100_000
NUM_RHYTHMS = 1000
EVEN = (0.94, 1.06)  # of the mean period
WINDOW_S = (2.0, 8.0)
STEP_S = 0.01
GRID_S = np.arange(*WINDOW_S, STEP_S)
STEPS_PER_LAG = round(MS_PER_LAG / 1000 / STEP_S)
BLUR_S = 0.035  # of a contact in time: half a frame
FORCE_ERROR = 0.1
FORCE_WEIGHT = 2.0  # of how hard, against when


def main() -> None:
    """Prints both tables."""
    print("| held-out family | accuracy, % | AUC, % |\n|---|---:|---:|")
    found = np.array([reached(name) for name in HELD_OUT])
    for name, values in zip((*HELD_OUT, "mean"), (*found, found.mean(0)), strict=True):
        print(f"| {name} | {100 * values[0]:.1f} | {100 * values[1]:.1f} |")
    print("\n| offsets within 120 ms, % | who knows when | and how hard |\n|---|---:|---:|")
    for name, shares in {"the studio's rhythm": (SHORTEST_SHARE, LONGEST_SHARE), "an even one": EVEN}.items():
        cells = [f"{100 * within(shares, knows_force=one):.1f}" for one in (False, True)]
        print(f"| {name} | " + " | ".join(cells) + " |")


def reached(name: str) -> tuple[float, float]:
    """Accuracy and AUC of the oracle on pairs of two scenes of family `name`, half of them matching."""
    rng = np.random.default_rng(0)
    lowest_hz = FAMILIES[name].lowest_hz
    sizes, others = rng.uniform(size=(2, NUM_SCENES))
    seen = np.concatenate([sizes, sizes])
    heard = np.concatenate([sizes, others])
    octaves = np.array([math.log2(pitch_hz(size, lowest_hz)) for size in heard])
    logits = says(seen, octaves)
    labels = np.arange(2 * NUM_SCENES) < NUM_SCENES
    return float(((logits > 0) == labels).mean()), auc(logits, labels)


def says(sizes: np.ndarray, octaves: np.ndarray) -> np.ndarray:
    """Log ratio of the chances of this pitch (octaves above 1 Hz) with this size, and with any."""
    registers = np.log2([FAMILIES[name].lowest_hz for name in TRAINED])
    middle = registers.mean()
    spread = registers.std()
    given = norm.pdf(octaves, middle + OCTAVES * (1 - sizes), spread)
    edges = norm.cdf(octaves, middle, spread) - norm.cdf(octaves, middle + OCTAVES, spread)
    return np.log(given) - np.log(edges / OCTAVES)


def within(shares: tuple[float, float], *, knows_force: bool) -> float:
    """How many of the offsets the oracle of beats finds to 120 ms, where periods are these shares of their mean."""
    rng = np.random.default_rng(0)
    near = []
    for _ in range(NUM_RHYTHMS):
        beats = draw_beats(rng.uniform(*Family.rates_hz), rng, shares)
        late_ms = CLASS_MS * (rng.integers(NUM_CLASSES) - NUM_CLASSES // 2)
        near.append(abs(best_lag_ms(beats, late_ms, rng, knows_force=knows_force) - late_ms) <= NEAR_MS)
    return float(np.mean(near))


def best_lag_ms(beats: Beats, late_ms: float, rng: np.random.Generator, *, knows_force: bool) -> float:
    """The lag at which what is seen of the beats and what is heard of them, `late_ms` later, differ least."""
    times_s = np.array(beats.times_s)
    forces = np.array(beats.forces)
    read = forces + rng.normal(0.0, FORCE_ERROR, len(forces))
    shown_s = np.round(times_s * FRAME_RATE_HZ) / FRAME_RATE_HZ
    heard_s = times_s + late_ms / 1000
    seen = bumps(shown_s, np.ones_like(read))
    heard = bumps(heard_s, np.ones_like(read))
    if knows_force:
        seen, heard = (np.concatenate([one, FORCE_WEIGHT * bumps(at, of)]) for one, at, of in (
            (seen, shown_s, read), (heard, heard_s, forces)
        ))  # fmt: skip
    steps = range(-MAX_LAG * STEPS_PER_LAG, MAX_LAG * STEPS_PER_LAG + 1, STEPS_PER_LAG)
    misfits = [np.square(moved(seen, -step) - moved(heard, step)).mean() for step in steps]
    return 1000 * STEP_S * steps[int(np.argmin(misfits))]


def bumps(times_s: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """One bump for each time that lies in the window: (1, moments)."""
    is_inside = (times_s >= WINDOW_S[0]) & (times_s < WINDOW_S[1])
    return (heights * is_inside)[None] @ np.exp(-np.square((GRID_S - times_s[:, None]) / BLUR_S) / 2)


def moved(curves: np.ndarray, steps: int) -> np.ndarray:
    """Without so many moments at its beginning, or where negative at its end."""
    return curves[:, steps:] if steps >= 0 else curves[:, :steps]


if __name__ == "__main__":
    main()
