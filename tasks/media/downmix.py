"""Downmix: any number of channels to one or two, by their positions, decided once for a whole segment.

The weights are those of ITU-R BS.775-4, annex 4: centre and rear channels go to both sides at -3 dB. The low-frequency
channel is left out, as in the standard: it repeats the others, or rumbles.
"""

from collections.abc import Sequence
from functools import cache

import av
import numpy as np

HALF_POWER = 0.5**0.5  # -3 dB
NAMED_CENTRE = frozenset({"FC", "BC", "TC", "TFC", "TBC", "BFC"})
BEHIND = frozenset({"BL", "BR", "SL", "SR", "TBL", "TBR", "TSL", "TSR", "SSL", "SSR"})
RUMBLE = frozenset({"LFE", "LFE2"})
SILENT = 1e-4  # of the loudest channel's power (-40 dB): quieter channels carry nothing, and must not halve the others
CANCELLED = 0.1  # of the loudest channel's power (-10 dB): a quieter mix has lost its content by cancellation


@cache
def names_of(layout: str) -> tuple[str, ...]:
    """The names of a layout's channels in order; `NONE` for channels without a known position."""
    return tuple(channel.name for channel in av.AudioLayout(layout).channels)


def weights(names: Sequence[str], products: np.ndarray, num_outputs: int) -> np.ndarray:
    """float64 (num_outputs, channels): how much of each channel goes to each of one or two outputs; none can clip.

    `names` are libav's (`FL`, `LFE`); `products` (channels, channels) are the sums of products of each pair of
    channels.
    """
    powers = products.diagonal()
    heard = powers >= SILENT * powers.max()
    is_rumble = np.array([name in RUMBLE for name in names])
    used = heard & ~is_rumble if (heard & ~is_rumble).any() else heard  # a file may hold nothing but rumble
    sides = np.array([[_share(name, side) for name in names] for side in "LR"]) * used
    if num_outputs == 2:
        return sides / sides.sum(axis=1).max()
    mono = sides.sum(axis=0) / sides.sum()
    loudest = int(np.argmax(powers * used))
    if mono @ products @ mono < CANCELLED * powers[loudest]:
        mono = np.eye(len(names))[loudest]
    return mono[None]


def _share(name: str, side: str) -> float:
    """The share of a channel that goes to the side `L` or `R`."""
    of_side = name.removesuffix("C") if name in ("FLC", "FRC") else name
    if name in NAMED_CENTRE or of_side[-1:] not in ("L", "R"):  # in the middle, or at an unknown position
        return HALF_POWER
    if of_side[-1] != side:
        return 0.0
    return HALF_POWER if name in BEHIND else 1.0


def products_of(samples: np.ndarray) -> np.ndarray:
    """float64 (channels, channels): the sums of products of each pair of channels of float32 (channels, samples)."""
    return np.array([[float(np.dot(one, other)) for other in samples] for one in samples])


def mixed(samples: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """float32 (samples, outputs) of float32 (channels, samples) by `weights`."""
    out = np.empty((samples.shape[1], len(shares)), np.float32)
    for output, of_output in zip(out.T, shares, strict=True):
        used = np.flatnonzero(of_output)
        output[:] = sum(of_output[n] * samples[n] for n in used) if len(used) else 0.0
    return out


def as_floats(samples: np.ndarray) -> np.ndarray:
    """float32 in [-1, 1] from samples as they were decoded."""
    if samples.dtype == np.uint8:
        return samples.astype(np.float32) / 128.0 - 1.0
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / 2.0 ** (8 * samples.dtype.itemsize - 1)
    return samples.astype(np.float32, copy=False)
