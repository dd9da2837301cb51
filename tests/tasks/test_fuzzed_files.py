"""500 damaged and hostile files: each ends as a row, none ends the run, and nothing wrong gets into a shard."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timecode
from roots import PROFILE, Root
from timecode import Recipe

from tasks.features import member_suffixes
from tasks.funnel import measure_funnel
from tasks.index import IndexConfig

pytestmark = pytest.mark.slow

NUM_FILES = 500
CONTAINERS = {
    "mp4": Recipe(2.5, 10),
    "mkv": Recipe(2.5, 10, audio_codec="libmp3lame"),
    "webm": Recipe(2.5, 10, video_codec="libvpx", audio_codec="libopus", sample_rate=48_000),
    "mpg": Recipe(2.5, 25, video_codec="mpeg1video", audio_codec="mp2"),
    "ts": Recipe(2.5, 10),
    "avi": Recipe(2.5, 10, video_codec="mpeg4", audio_codec="libmp3lame"),
}
SPARSE_BYTES = 4 << 30  # "endless": no reader may wait for its end, none may keep it in memory
ABSURD = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)

Damage = Callable[[bytearray, np.random.Generator], bytearray]


def flipped(data: bytearray, rng: np.random.Generator) -> bytearray:
    for at in rng.integers(len(data), size=int(rng.integers(1, 400))).tolist():
        data[at] ^= 1 << int(rng.integers(8))
    return data


def truncated(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: int(rng.integers(1, len(data)))]


def beheaded(data: bytearray, rng: np.random.Generator) -> bytearray:
    """The first bytes are noise, or another container's."""
    num_bytes = int(rng.choice([4, 16, 64, 512, 4096]))
    heads = (
        rng.bytes(num_bytes),
        b"RIFF\xff\xff\xff\xffAVI LIST",
        b"\x1aE\xdf\xa3\x01\xff\xff\xff",
        b"ID3\x03\0\0\x7f",
    )
    head = heads[int(rng.integers(len(heads)))]
    data[: len(head)] = head
    return data


def absurd_numbers(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Sizes, rates, counts and durations of the header at their extremes."""
    names = [
        b"tkhd",
        b"mvhd",
        b"mdhd",
        b"stts",
        b"stsz",
        b"stsc",
        b"stco",
        b"avc1",
        b"mp4a",
        b"elst",
        b"ctts",
    ]
    places = [at for name in names if (at := data.find(name)) > 0]
    places = places or rng.integers(4, min(len(data), 2048), size=4).tolist()
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.choice(places)) + int(rng.integers(-4, 48))
        width = int(rng.choice([2, 4]))
        value = int(rng.choice(ABSURD)) & ((1 << (8 * width)) - 1)
        data[at : at + width] = value.to_bytes(width, "big")
    return data


def scrambled(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Pieces lost, repeated and swapped."""
    cuts = np.sort(rng.integers(len(data), size=6)).tolist()
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return bytearray().join(pieces[n] for n in rng.integers(len(pieces), size=len(pieces)).tolist())


def noise(data: bytearray, rng: np.random.Generator) -> bytearray:
    return bytearray(rng.bytes(len(data)))


def empty(data: bytearray, rng: np.random.Generator) -> bytearray:
    return bytearray()


DAMAGES: list[Damage] = [
    flipped,
    flipped,
    flipped,
    truncated,
    beheaded,
    absurd_numbers,
    absurd_numbers,
    scrambled,
]


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("originals")
    written = {name: timecode.write(folder / f"clip.{name}", recipe) for name, recipe in CONTAINERS.items()}
    return {name: path.read_bytes() for name, path in written.items()}


def write_fuzzed(folder: Path, originals: dict[str, bytes]) -> list[str]:
    """The files by video id; the first ones are empty, noise or endless, the others damaged by seed."""
    folder.mkdir()
    names = list(originals)
    ids = []
    for seed in range(NUM_FILES):
        rng = np.random.default_rng(seed)
        name = names[seed % len(names)]
        damage = empty if seed == 0 else noise if seed < 4 else DAMAGES[int(rng.integers(len(DAMAGES)))]
        path = folder / f"{damage.__name__[:6]}_{seed:04d}.{name}"
        path.write_bytes(damage(bytearray(originals[name]), rng))
        if seed % 50 == 10:
            with path.open("ab") as file:
                file.truncate(SPARSE_BYTES)
        ids.append(path.stem)
    return ids


def test_fuzzed_files_end_as_rows_and_none_ends_the_run(tmp_path, originals):
    ids = write_fuzzed(tmp_path / "videos", originals)
    listing = tmp_path / "list.csv"
    listing.write_text("".join(f'{video_id}, 0.000, 2.000, "/m/09x0r"\n' for video_id in ids))
    parts = IndexConfig(part_size=64, val_share=0.0)
    root = Root(tmp_path / "root", f"folder:{tmp_path / 'videos'}", [listing], config=parts)

    root.build()

    funnel = measure_funnel(root.path)
    lost = sum(sum(funnel[fate].values()) for fate in ("quarantined", "unavailable", "waiting"))
    assert funnel["segments"] == NUM_FILES == funnel["in_shards"] + lost
    assert funnel["quarantined"]["decodable"] > 50, funnel  # the damage is real
    assert funnel["in_shards"] > 50, funnel  # and a flipped bit in a picture is no reason to lose a clip
    for shard in (root.path / "shards").glob("*.tar"):
        assert_whole(shard)


def assert_whole(shard: Path) -> None:
    """Every sample has every member, and every picture and sound of it can be read."""
    import soundfile
    from PIL import Image

    samples: dict[str, set[str]] = {}
    with tarfile.open(shard) as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            samples.setdefault(key, set()).add(suffix)
            content = tar.extractfile(member)
            assert content is not None
            if suffix.endswith("jpg"):
                assert min(Image.open(content).size) == PROFILE.frame_short_side_px
            if suffix == "wav":
                wave, _ = soundfile.read(io.BytesIO(content.read()))
                assert len(wave) == PROFILE.length_ms * PROFILE.sample_rate_hz // 1000
    assert all(suffixes == {*member_suffixes(PROFILE), "json"} for suffixes in samples.values())
