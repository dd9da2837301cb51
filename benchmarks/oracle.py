"""`python -m benchmarks.oracle`: how far the laws of the trained families reach in those that are held out.

The oracle reads the size of what is seen and the pitch of what is heard without error, and of a family it never met
knows only how the registers of the trained families lie: normally, by their mean and spread in octaves. Whether a
picture and a sound of that family belong together it decides by the likelihood ratio of the pitch, given the size or
not. What it can't use is time: whether a contact that is seen falls on the onset that is heard.
"""

import math

import numpy as np
from scipy.stats import norm

from tasks.sources.scenes.families import FAMILIES, HELD_OUT, TRAINED
from tasks.sources.scenes.laws import OCTAVES, pitch_hz
from training.statistics import auc

NUM_SCENES = 100_000


def main() -> None:
    """Prints the table."""
    print("| held-out family | accuracy, % | AUC, % |\n|---|---:|---:|")
    found = np.array([reached(name) for name in HELD_OUT])
    for name, values in zip((*HELD_OUT, "mean"), (*found, found.mean(0)), strict=True):
        print(f"| {name} | {100 * values[0]:.1f} | {100 * values[1]:.1f} |")


def reached(name: str) -> tuple[float, float]:
    """Accuracy and AUC of the oracle on pairs of two scenes of family `name`, half of them matching."""
    rng, lowest_hz = np.random.default_rng(0), FAMILIES[name].lowest_hz
    sizes, others = rng.uniform(size=(2, NUM_SCENES))
    seen = np.concatenate([sizes, sizes])
    heard = np.concatenate([sizes, others])
    octaves = np.array([math.log2(pitch_hz(size, lowest_hz)) for size in heard])
    logits, labels = says(seen, octaves), np.arange(2 * NUM_SCENES) < NUM_SCENES
    return float(((logits > 0) == labels).mean()), auc(logits, labels)


def says(sizes: np.ndarray, octaves: np.ndarray) -> np.ndarray:
    """Log ratio of the chances of this pitch (octaves above 1 Hz) with this size, and with any."""
    registers = np.log2([FAMILIES[name].lowest_hz for name in TRAINED])
    middle, spread = registers.mean(), registers.std()
    given = norm.pdf(octaves, middle + OCTAVES * (1 - sizes), spread)
    edges = norm.cdf(octaves, middle, spread) - norm.cdf(octaves, middle + OCTAVES, spread)
    return np.log(given) - np.log(edges / OCTAVES)


if __name__ == "__main__":
    main()
