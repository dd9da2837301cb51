"""Near-duplicates among prints, without comparing all pairs.

Only clips that share a key are compared, using sorted buckets. These pairs are always found (apart from the limit
`BUCKET`): two prints with a key each, at most REACH frames apart in time, that differ only in bits that one of the two
leaves open; and two clips whose pictures at one place agree in at least two of the four 16-bit pieces of the hash.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pyarrow as pa

log = logging.getLogger(__name__)

MAX_SOUND_ERROR = 0.32  # of bits; re-encoded and shifted copies have up to 0.28, strangers 0.39 and more
MAX_PICTURE_BITS = 20.0  # of 64, on average; the same with a moving camera, shifted, has 18, strangers 27
MIN_WORDS = 8  # of both: 2 s of sound; fewer agree by chance
MIN_KEYS = 4  # a sound with fewer clear moments is hum or silence, and matches any other such sound
REACH = 25  # frames of 20 ms by which one of two copies may be late
WORD_FRAMES = 8
FRAME_MS = 20
SLICES = 16  # of the keys, one at a time in memory
ROWS = 1 << 18  # processed at a time when making keys
PAIRS = 1 << 16  # processed at a time when comparing pairs: fits in a core's cache
BUCKET = 32  # each clip is compared with this many that follow it in its key's sorted bucket
PIECES = 4  # of a picture's hash
SLOT_BITS = 4  # of a key's number among its clip's keys
ROW_BITS = 32


@dataclass(frozen=True)
class Prints:
    """One row per clip; rows of one video are not compared."""

    sounds: np.ndarray  # (clips,) of `sound_print(profile)`
    pictures: np.ndarray  # uint64 (clips, NUM_PICTURES)
    videos: np.ndarray  # int64 (clips,): numbers, equal for the same video

    def __len__(self) -> int:
        return len(self.videos)


# Rows `first` < `second`; `picture_bits` is null if one of them shows nothing, `late_ms` is for the second.
PAIRS_FOUND = pa.schema(
    [
        ("first", pa.int64()),
        ("second", pa.int64()),
        ("sound_error", pa.float64()),
        ("picture_bits", pa.float64()),
        ("late_ms", pa.int64()),
    ]
)


@dataclass(frozen=True)
class _Compared:
    """Pairs and their results: arrays of one length."""

    first: np.ndarray
    second: np.ndarray
    sound_error: np.ndarray
    picture_bits: np.ndarray
    late: np.ndarray  # words


def search(prints: Prints) -> pa.Table:
    """PAIRS_FOUND: all pairs that sound the same, sorted; each once, with its best alignment."""
    found = []
    compared = 0
    for first, second, late in _by_sound(prints):
        compared += len(first)
        found.append(_that_sound_alike(prints, first, second, late))
    first, second = _that_look_alike(prints)
    for words in range(-(REACH // WORD_FRAMES), REACH // WORD_FRAMES + 1):
        found.append(_that_sound_alike(prints, first, second, np.full(len(first), words)))
    log.info("duplicates: %d clips, %d pairs compared", len(prints), compared + len(first))
    return _best(found)


def _best(found: list[_Compared]) -> pa.Table:
    names = ("first", "second", "sound_error", "picture_bits", "late")
    nothing = [np.zeros(0)]
    all_of = {name: np.concatenate([getattr(one, name) for one in found] or nothing) for name in names}
    order = np.lexsort((np.abs(all_of["late"]), all_of["sound_error"], all_of["second"], all_of["first"]))
    pairs = np.stack([all_of["first"][order], all_of["second"][order]])
    kept = order[np.flatnonzero(np.append(True, (np.diff(pairs) != 0).any(axis=0))[: len(order)])]
    columns = {name: all_of[name][kept] for name in names[:-1]}
    columns["late_ms"] = all_of["late"][kept] * FRAME_MS * WORD_FRAMES
    masks = {"picture_bits": np.isnan(columns["picture_bits"])}
    arrays = [
        pa.array(columns[field.name].astype(field.type.to_pandas_dtype()), mask=masks.get(field.name))
        for field in PAIRS_FOUND
    ]
    return pa.table(arrays, schema=PAIRS_FOUND)


def _that_sound_alike(prints: Prints, first: np.ndarray, second: np.ndarray, late: np.ndarray) -> _Compared:
    """The pairs that sound alike when `second` is moved back by `late` words."""
    kept = [np.zeros(0, np.int64)]
    errors = [np.zeros(0)]
    for start in range(0, len(first), PAIRS):
        here = slice(start, start + PAIRS)
        error = sound_error(prints, first[here], second[here], late[here])
        kept.append(start + np.flatnonzero(error <= MAX_SOUND_ERROR))
        errors.append(error[error <= MAX_SOUND_ERROR])
    at = np.concatenate(kept)
    bits = picture_bits(prints, first[at], second[at])
    return _Compared(first[at], second[at], np.concatenate(errors), bits, late[at])


def sound_error(prints: Prints, first: np.ndarray, second: np.ndarray, late: np.ndarray) -> np.ndarray:
    """float64 (pairs,): share of bits in which the words differ; 1 if they share too few words to tell."""
    sounds = prints.sounds
    error = np.ones(len(first))
    counts = sounds["num_words"].astype(np.int64)
    for words in np.unique(late):
        at = np.flatnonzero(late == words)
        of_first = first[at]
        of_second = second[at]
        size = sounds["words"].shape[1] - abs(words)
        here = sounds["words"][of_first][:, max(-words, 0) :][:, : max(size, 0)]
        there = sounds["words"][of_second][:, max(words, 0) :][:, : max(size, 0)]
        both = np.minimum(counts[of_first] - max(-words, 0), counts[of_second] - max(words, 0))
        is_both = np.arange(here.shape[1]) < both[:, None]
        wrong = (np.bitwise_count(here ^ there) * is_both).sum(axis=1, dtype=np.int64)
        keys = np.minimum(sounds["num_keys"][of_first], sounds["num_keys"][of_second])
        enough = (both >= MIN_WORDS) & (keys >= MIN_KEYS)
        error[at[enough]] = wrong[enough] / (16 * both[enough])
    return error


def picture_bits(prints: Prints, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float64 (pairs,): in how many of 64 bits the pictures differ on average; NaN if none shows anything."""
    here = prints.pictures[first]
    there = prints.pictures[second]
    is_seen = (here != 0) & (there != 0)
    wrong = (np.bitwise_count(here ^ there) * is_seen).sum(axis=1, dtype=np.int64)
    seen = is_seen.sum(axis=1)
    return np.where(seen > 0, wrong / np.maximum(seen, 1), np.nan)


def _by_sound(prints: Prints) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(first, second, late): pairs that share a key, with the shift in words between them."""
    frames = prints.sounds["frames"]
    for number in range(SLICES):
        for here, there in _neighbours(np.concatenate([*_entries(prints, number), np.zeros(0, np.uint64)])):
            (row, slot), (other, other_slot) = (_place(one) for one in (here, there))
            moved = frames[other, other_slot].astype(np.int64) - frames[row, slot]
            kept = (np.abs(moved) <= REACH) & (prints.videos[row] != prints.videos[other])
            late = np.round(moved[kept] / WORD_FRAMES).astype(np.int64)
            is_turned = row[kept] > other[kept]
            low = np.minimum(row, other)[kept]
            high = np.maximum(row, other)[kept]
            yield low, high, np.where(is_turned, -late, late)


def _place(entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row and slot of entries."""
    place = _low(entries)
    return place >> SLOT_BITS, place & ((1 << SLOT_BITS) - 1)


def _low(entries: np.ndarray) -> np.ndarray:
    """The low half of entries: int64."""
    return (entries & np.uint64((1 << ROW_BITS) - 1)).astype(np.int64)


def _entries(prints: Prints, number: int) -> Iterator[np.ndarray]:
    """uint64 of one slice of the keys, each with its open bits flipped in every way: key, row, slot."""
    for start in range(0, len(prints), ROWS):
        sounds = prints.sounds[start : start + ROWS]
        keys = sounds["keys"]
        open_bits = np.uint32(1) << sounds["open_bits"].astype(np.uint32)
        slots = np.arange(keys.shape[1], dtype=np.uint64)
        is_key = (slots < sounds["num_keys"][:, None]) & (sounds["num_keys"][:, None] >= MIN_KEYS)
        for flips in product((0, 1), repeat=open_bits.shape[2]):
            made = keys
            for n in np.flatnonzero(flips):
                made = made ^ open_bits[..., n]
            row, slot = np.nonzero(is_key & (_slice_of(made) == number))
            place = (row + start).astype(np.uint64) << np.uint64(SLOT_BITS) | slot.astype(np.uint64)
            yield made[row, slot].astype(np.uint64) << np.uint64(ROW_BITS) | place


def _slice_of(keys: np.ndarray) -> np.ndarray:
    """The slice of each key: by Knuth's multiplicative hash, since the bits of keys are not evenly distributed."""
    return (keys * np.uint32(2654435761)) >> np.uint32(32 - SLICES.bit_length() + 1)


def _that_look_alike(prints: Prints) -> tuple[np.ndarray, np.ndarray]:
    """Pairs with a picture at one place that agrees in two of its PIECES pieces, and pictures that agree on average."""
    found = np.zeros(0, np.uint64)
    for at in range(prints.pictures.shape[1]):
        alike = [found]
        for first, second in _by_picture(prints, at):
            kept = prints.videos[first] != prints.videos[second]
            kept[kept] = picture_bits(prints, first[kept], second[kept]) <= MAX_PICTURE_BITS
            alike.append(
                first[kept].astype(np.uint64) << np.uint64(ROW_BITS) | second[kept].astype(np.uint64)
            )
        found = _sorted(np.concatenate(alike))
    return (found >> np.uint64(ROW_BITS)).astype(np.int64), _low(found)


def _by_picture(prints: Prints, at: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs whose pictures number `at` agree in two pieces."""
    is_seen = (prints.pictures[:, at] != 0) & (prints.sounds["num_keys"] >= MIN_KEYS)
    rows = np.flatnonzero(is_seen)
    pieces = prints.pictures[rows, at, None].view("<u2").astype(np.uint64)
    for one, other in combinations(range(PIECES), 2):
        keys = pieces[:, one] << np.uint64(16) | pieces[:, other]
        for here, there in _neighbours(keys << np.uint64(ROW_BITS) | rows.astype(np.uint64)):
            yield _low(here), _low(there)


def _sorted(entries: np.ndarray) -> np.ndarray:
    """Each entry once, in order; numpy's own `unique` uses hashing, which takes forty times as long."""
    entries.sort()
    return entries[np.append(True, entries[1:] != entries[:-1])[: len(entries)]]


def _neighbours(entries: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of entries with one key (their high half), up to BUCKET places apart when sorted."""
    entries = _sorted(entries)
    keys = (entries >> np.uint64(ROW_BITS)).astype(np.uint32)
    at = np.arange(len(entries))
    for distance in range(1, BUCKET + 1):
        # An entry that differs from the previous one differs from all later ones.
        at = at[at < len(entries) - distance]
        at = at[keys[at] == keys[at + distance]]
        if not len(at):
            return
        yield entries[at], entries[at + distance]
