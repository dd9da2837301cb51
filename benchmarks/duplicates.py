"""`python -m benchmarks.duplicates [CLIPS]`: near-duplicates among invented prints, some of them planted."""

import os
import platform
import re
import sys
import time
from pathlib import Path

import numpy as np

from schemas.feature import NUM_KEYS, NUM_PICTURES, Profile, sound_print
from tasks.versions.duplicate_search import MAX_PICTURE_BITS, Prints, search

NUM_CLIPS = 2_084_320  # AudioSet's three lists together
NUM_PLANTED = 20_000  # of each kind
BLOCK = 20_000  # clips made at a time
# Prints of real clips are not random: 32 bits of a key tell strangers apart as 25 fair ones would (measured on
# keys of 14 real clips and 60 generated scenes), because neighbouring bands and moments rise together.
KEY_BITS = 25
# Of bits: as re-encoded at 32 kbit/s and shifted by 200 ms
WORD_ERROR = 0.15
PICTURE_ERROR = 6 / 64
KEPT_KEYS = (
    0.25  # of a copy's keys that are the original's but for an open bit: gives the recall of real clips
)
# 200 ms
SHIFT_FRAMES = 10
SHIFT_WORDS = 1


def main() -> None:
    """Prints the conditions and the table."""
    num_clips = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_CLIPS
    rng = np.random.default_rng(0)
    prints, planted = invented(num_clips, min(NUM_PLANTED, num_clips // 10), rng)
    held_mb = (prints.sounds.nbytes + prints.pictures.nbytes) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on (Linux)
    started = time.perf_counter()
    cpu = time.process_time()
    found = search(prints)
    took_s = time.perf_counter() - started
    cpu_s = time.process_time() - cpu
    (peak_kb,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    bits = found["picture_bits"].to_numpy()
    pairs = dict(
        zip(zip(found["first"].to_pylist(), found["second"].to_pylist(), strict=True), bits, strict=True)
    )
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {num_clips:,} clips of 10 s"
    )
    print(
        f"planted: {WORD_ERROR:.0%} of sound bits and {PICTURE_ERROR:.0%} of picture bits wrong, 200 ms late\n"
    )
    print("| measure | value |\n|---|---|")
    print(f"| seconds (CPU) | {took_s:.0f} ({cpu_s:.0f}) |")
    print(f"| prints in MB; peak of the process in the search | {held_mb:.0f}; {int(peak_kb) / 1e3:.0f} |")
    for kind, of_kind in planted.items():
        near = sum(pairs.get(pair, 99) <= MAX_PICTURE_BITS for pair in of_kind)
        told = sum(pair in pairs for pair in of_kind)
        print(
            f"| {kind}: planted, found, of them in sound and picture | {len(of_kind):,}, {told:,}, {near:,} |"
        )
    false = pairs.keys() - set().union(*planted.values())
    print(f"| pairs that nobody planted | {len(false):,} |")


def invented(num_clips: int, num_planted: int, rng: np.random.Generator) -> tuple[Prints, dict[str, set]]:
    """Prints of strangers, with copies among them in sound and picture, and in sound only: pairs of rows."""
    blocks = [_strangers(min(BLOCK, num_clips - at), rng) for at in range(0, num_clips, BLOCK)]
    sounds = np.concatenate([one for one, _ in blocks])
    pictures = np.concatenate([one for _, one in blocks])
    rows = rng.permutation(num_clips)[: 4 * num_planted].reshape(4, num_planted)
    originals = np.concatenate(rows[:2])
    copies = np.concatenate(rows[2:])
    sounds[copies] = _copied(sounds[originals], rng)
    wrong = rng.random((num_planted, NUM_PICTURES, 64)) < PICTURE_ERROR
    masks = np.packbits(wrong, axis=2).view("<u8")[..., 0]
    pictures[copies[:num_planted]] = pictures[originals[:num_planted]] ^ masks
    pairs = np.sort(np.stack([originals, copies], axis=1), axis=1).tolist()
    both, sound = ({tuple(pair) for pair in half} for half in (pairs[:num_planted], pairs[num_planted:]))
    return Prints(sounds, pictures, np.arange(num_clips)), {"copies": both, "same sound": sound}


def _strangers(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sound prints and picture prints of `count` clips that have nothing to do with each other."""
    made = np.zeros(count, sound_print(Profile()))
    num_words = made["words"][0].size
    fresh = rng.integers(0, 1 << 16, (count, num_words), dtype=np.uint16)
    words = fresh.copy()
    stays = rng.integers(0, 1 << 16, (count, num_words), dtype=np.uint16)
    for n in range(1, num_words):  # half of the bits are those of the word before
        words[:, n] = (words[:, n - 1] & stays[:, n]) | (fresh[:, n] & ~stays[:, n])
    low = rng.integers(0, 1 << KEY_BITS, (count, NUM_KEYS), dtype=np.uint32)
    made["words"] = words
    made["num_words"] = num_words
    made["num_keys"] = NUM_KEYS
    made["keys"] = low | (low & np.uint32((1 << (32 - KEY_BITS)) - 1)) << np.uint32(KEY_BITS)
    made["open_bits"] = rng.integers(0, KEY_BITS, (count, NUM_KEYS, 2))
    made["frames"] = rng.integers(0, 420, (count, NUM_KEYS))
    # The pictures of one clip resemble each other, and the lowest frequencies those of other clips.
    static = rng.integers(0, 1 << 64, (count, 1), dtype=np.uint64)
    common = np.array([0x0F, 0x33, 0xF0, 0xCC], np.uint64)[rng.integers(0, 4, (count, 1))]
    moved = [rng.integers(0, 1 << 64, (count, NUM_PICTURES), dtype=np.uint64) for _ in range(3)]
    return made, (static & ~np.uint64(0xFF) | common) ^ (moved[0] & moved[1] & moved[2])


def _copied(sounds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same sounds, encoded anew and SHIFT_FRAMES later."""
    copy = sounds.copy()
    count = len(sounds)
    num_words = sounds["words"][0].size
    wrong = np.packbits(rng.random((count, num_words, 16)) < WORD_ERROR, axis=2).view("<u2")[..., 0]
    copy["words"][:, SHIFT_WORDS:] = sounds["words"][:, :-SHIFT_WORDS]
    copy["words"] ^= wrong
    copy["frames"] += SHIFT_FRAMES
    opened = np.uint32(1) << sounds["open_bits"][..., 0].astype(np.uint32)
    others = rng.integers(0, 1 << 32, copy["keys"].shape, dtype=np.uint32)
    copy["keys"] = np.where(rng.random(copy["keys"].shape) < KEPT_KEYS, sounds["keys"] ^ opened, others)
    return copy


if __name__ == "__main__":
    main()
