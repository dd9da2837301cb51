"""What the search promises: pairs within its bounds are found, whatever the order of the rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.feature import NUM_KEYS, NUM_PICTURES, Profile, sound_print
from tasks.versions.duplicate_search import BUCKET, MAX_PICTURE_BITS, MAX_SOUND_ERROR, REACH, Prints, search

CLIPS = 12
DTYPE = sound_print(Profile())
WORDS = DTYPE["words"].shape[0]
SEEDS = st.integers(0, 2**32 - 1)
WORD = 8  # frames


def strangers(rng, count=CLIPS):
    """Prints that have nothing in common."""
    sounds = np.frombuffer(rng.bytes(count * DTYPE.itemsize), DTYPE).copy()
    sounds["num_keys"] = NUM_KEYS
    sounds["num_words"] = WORDS
    sounds["open_bits"] = rng.integers(0, 32, sounds["open_bits"].shape)
    sounds["frames"] = rng.integers(100, 400, sounds["frames"].shape)
    pictures = rng.integers(1, 2**64, (count, NUM_PICTURES), dtype=np.uint64)
    return Prints(sounds, pictures, np.arange(count))


def same_words(prints, of, to, late):
    """The words of one clip for another, some of their bits wrong, `late` words later."""
    words = np.roll(prints.sounds["words"][of], late)
    words[::4] ^= np.uint16(0xFF)  # an eighth of all bits
    prints.sounds["words"][to] = words


def found(prints):
    return [(row["first"], row["second"]) for row in search(prints).to_pylist()]


@settings(max_examples=25)
@given(SEEDS, st.integers(-REACH, REACH), st.integers(0, NUM_KEYS - 1), st.integers(0, 3), st.integers(0, 3))
def test_one_key_in_common_but_for_open_bits_is_enough(seed, late, slot, flips, others):
    prints = strangers(np.random.default_rng(seed))
    same_words(prints, 3, 7, round(late / WORD))
    opened = [1 << int(bit) for clip in (3, 7) for bit in prints.sounds["open_bits"][clip, slot]]
    flip = sum({bit for n, bit in enumerate(opened) if (flips | others << 2) >> n & 1})
    prints.sounds["keys"][7, slot] = prints.sounds["keys"][3, slot] ^ np.uint32(flip)
    prints.sounds["frames"][7, slot] = int(prints.sounds["frames"][3, slot]) + late

    assert found(prints) == [(3, 7)]


@settings(max_examples=25)
@given(SEEDS, st.integers(0, NUM_PICTURES - 1), st.integers(0, 3), st.integers(0, 3), st.integers(-3, 3))
def test_half_a_picture_in_common_is_enough(seed, at, one, other, late):
    rng = np.random.default_rng(seed)
    prints = strangers(rng)
    same_words(prints, 7, 3, late)
    prints.pictures[3] = prints.pictures[7] ^ np.uint64(0x0003_0003_0003_0003)
    prints.pictures[3, at] = prints.pictures[7, at] ^ sum({np.uint64(1 << 16 * n) for n in (one, other)})

    (row,) = search(prints).to_pylist()

    assert (row["first"], row["second"], row["late_ms"]) == (3, 7, -160 * late)
    assert 0 < row["picture_bits"] <= 8 and 0.1 < row["sound_error"] < 0.15


@settings(max_examples=5)
@given(SEEDS, st.permutations(range(CLIPS)))
def test_the_order_of_the_rows_does_not_matter(seed, order):
    prints = strangers(np.random.default_rng(seed))
    for copy in (4, 5, 9):
        prints.sounds[copy] = prints.sounds[1]
        prints.pictures[copy] = prints.pictures[copy - 1]
    moved = Prints(prints.sounds[order], prints.pictures[order], prints.videos[order])

    pairs = {tuple(sorted((order[first], order[second]))) for first, second in found(moved)}

    assert pairs == set(found(prints)) == {(1, 4), (1, 5), (1, 9), (4, 5), (4, 9), (5, 9)}
    assert search(prints).equals(search(prints))


def test_clips_of_one_video_are_not_compared():
    prints = strangers(np.random.default_rng(0))
    prints.sounds[1] = prints.sounds[0]
    prints.videos[1] = prints.videos[0]

    assert found(prints) == []


@pytest.mark.parametrize(("field", "value"), [("num_keys", 3), ("num_words", 7)])
def test_a_sound_with_too_little_to_tell_equals_nothing(field, value):
    prints = strangers(np.random.default_rng(0))
    prints.sounds[field][[2, 3]] = value
    prints.sounds[3] = prints.sounds[2]
    prints.pictures[3] = prints.pictures[2]

    assert found(prints) == []


def test_strangers_with_a_key_in_common_are_no_pair():
    prints = strangers(np.random.default_rng(0))
    prints.sounds["keys"][:] = 5
    prints.sounds["frames"][:] = 200

    assert found(prints) == []
    assert MAX_SOUND_ERROR < 0.39 and MAX_PICTURE_BITS < 27  # what strangers have


def test_a_bucket_of_everybody_costs_no_square_and_still_is_one_chain():
    count = 4 * BUCKET
    prints = strangers(np.random.default_rng(0), count)
    prints.sounds[:] = prints.sounds[0]
    prints.pictures[:] = 0
    prints.sounds["num_keys"][:] = 4

    pairs = np.array(found(prints))

    assert len(pairs) <= count * BUCKET
    assert {(n, n + 1) for n in range(count - 1)} <= set(map(tuple, pairs.tolist()))
