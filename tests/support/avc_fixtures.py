"""A small real dataset version of synthetic clips: tars, sidecars and the version file, by the contract."""

import hashlib
import io
import json
import tarfile
import wave
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from schemas.feature import Profile
from schemas.segment import segment_key
from schemas.shard import SHARDS, Shard, Version, frame_suffix, make_version, shard_name, write_version
from schemas.waveforms import log_mel
from tasks.features import member_suffixes
from training.learning.augment import Augmentation
from training.loop import TrainConfig, train
from training.models.contrastive import Config
from training.reading.dataset import Dataset, open_dataset
from training.reading.sampling import Sampling

PROFILE = Profile()
LENGTH_S = PROFILE.length_ms / 1000
WIDTH_PX = 160  # wider than high, as most videos are
SHORT_RUN = TrainConfig(steps=4, seconds=None, sampling=Sampling(8, 2), num_validations=2)
TINY = Config(width=8, image_blocks=(1, 1), audio_blocks=(1, 1), embedding=32, hidden=64, frame_px=112)


@dataclass(frozen=True)
class SyntheticClip:
    video_id: str
    split: str
    labels: list[str]
    frames: np.ndarray  # uint8 (10, height, width, 3)
    wave: np.ndarray  # int16 (160000,)
    valid_ms: int = PROFILE.length_ms
    outcome: str = "ok"
    film: bytes = b""  # instead of frames
    rate_hz: int = PROFILE.sample_rate_hz  # of the wave, (samples,) or (samples, channels)
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", segment_key(self.video_id, 0, PROFILE.length_ms))


def tone(frequency_hz: float, seed: int, loudness: float = 0.3) -> np.ndarray:
    """int16 (160000,): a harmonic tone in noise, louder and softer once a second."""
    rng = np.random.default_rng(seed)
    t = np.arange(PROFILE.num_samples) / PROFILE.sample_rate_hz
    sound = sum(np.sin(2 * np.pi * frequency_hz * k * t + rng.uniform(0, 6)) / k for k in (1, 2, 3))
    sound = sound * (0.6 + 0.4 * np.sin(2 * np.pi * t)) + 0.1 * rng.standard_normal(len(t))
    return (loudness * sound / np.abs(sound).max() * 32767).astype(np.int16)


def disc(radius_px: float, colour: Iterable[float], seed: int) -> np.ndarray:
    """uint8 (10, 128, 160, 3): a disc that wanders over a textured ground, one frame a second."""
    rng = np.random.default_rng(seed)
    ground = rng.uniform(40, 120, (8, 10, 3)).repeat(16, 0).repeat(16, 1)
    ys, xs = np.mgrid[:128, :WIDTH_PX]
    frames = np.repeat(ground[None], PROFILE.num_frames, 0)
    for frame in frames:
        y = rng.uniform(44, 84)
        x = rng.uniform(50, WIDTH_PX - 50)
        frame[(ys - y) ** 2 + (xs - x) ** 2 < radius_px**2] = list(colour)
    return frames.astype(np.uint8)


def corresponding(
    num_videos: dict[str, int], num_kinds: int = 6, *, is_shuffled: bool = False
) -> list[SyntheticClip]:
    """Clips in which a large bluish disc sounds low and a small reddish one high, or nothing fits."""
    rng = np.random.default_rng(7)
    clips = []
    for split, count in num_videos.items():
        for number in range(count):
            kind = number % num_kinds
            heard = number % num_kinds
            if is_shuffled:
                heard = int(rng.integers(num_kinds))
            share = kind / (num_kinds - 1)
            seed = int(rng.integers(2**31))
            frames = disc(40 - 28 * share, (60 + 190 * share, 60, 250 - 190 * share), seed)
            pitch_hz = 150 * 12.0 ** (heard / (num_kinds - 1)) * rng.uniform(0.95, 1.05)
            wave_ = tone(pitch_hz, seed, rng.uniform(0.1, 0.5))
            clips.append(SyntheticClip(f"{split}{number:04d}", split, [f"/kind/{kind}"], frames, wave_))
    return clips


def coded_by_time(video_id: str = "clock", split: str = "train", valid_ms: int = 10_000) -> SyntheticClip:
    """Second k shows grey level 20 + 20 k and sounds with amplitude rising by k: both carry the time code."""
    levels = (20 + 20 * np.arange(PROFILE.num_frames)).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (len(levels), 128, WIDTH_PX, 3)).copy()
    t = np.arange(PROFILE.num_samples) / PROFILE.sample_rate_hz
    sound = np.sin(2 * np.pi * 1000 * t) * 10 ** (-2 + np.floor(t) / 5)  # 4 dB (0.4 in log10 power) a second
    return SyntheticClip(video_id, split, ["/time"], frames, (sound * 32767).astype(np.int16), valid_ms)


def write_dataset(
    root: Path, clips: list[SyntheticClip], clips_per_shard: int = 16, profile: Profile = PROFILE
) -> Version:
    """Writes `clips` as a dataset version under `root`."""
    shards = []
    for split in sorted({clip.split for clip in clips}):
        members = [clip for clip in clips if clip.split == split]
        for start in range(0, len(members), clips_per_shard):
            shards.append(_write_shard(root, split, len(shards), members[start : start + clips_per_shard]))
    version = make_version(profile, member_suffixes(profile), shards)
    write_version(root, version, {})
    return version


def _write_shard(root: Path, split: str, part: int, clips: list[SyntheticClip]) -> Shard:
    tar_bytes = io.BytesIO()
    with tarfile.open(fileobj=tar_bytes, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for clip in clips:
            for suffix, content in sorted(_members(clip).items()) if clip.outcome == "ok" else []:
                entry = tarfile.TarInfo(f"{clip.key}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    sha256 = hashlib.sha256(tar_bytes.getvalue()).hexdigest()
    shard = Shard(shard_name(split, part, sha256), split, part, sha256, tar_bytes.tell(), len(clips))
    (root / "shards").mkdir(parents=True, exist_ok=True)
    (root / "shards" / f"{shard.name}.tar").write_bytes(tar_bytes.getvalue())
    tar_bytes.seek(0)
    with tarfile.open(fileobj=tar_bytes) as tar:
        entries = {entry.name: entry for entry in tar.getmembers()}
    rows = [_row(clip, entries) for clip in clips]
    pq.write_table(pa.Table.from_pylist(rows, schema=SHARDS), root / "shards" / f"{shard.name}.parquet")
    return shard


def _members(clip: SyntheticClip) -> dict[str, bytes]:
    jpegs = [simplejpeg.encode_jpeg(np.ascontiguousarray(f), 85, "RGB", "420") for f in clip.frames]
    sound = io.BytesIO()
    mel = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(clip.wave[0].size)
        file.setsampwidth(2)
        file.setframerate(clip.rate_hz)
        file.writeframes(clip.wave.tobytes())
    if clip.wave.ndim == 1:
        np.save(mel, log_mel(clip.wave))
    facts = json.dumps({"labels": clip.labels, "valid_ms": clip.valid_ms}, sort_keys=True)
    pictures: dict[str, bytes] = {frame_suffix(k): jpeg for k, jpeg in enumerate(jpegs)}
    if clip.film:
        pictures = {"mp4": clip.film}
    heard = {"log_mel.npy": mel.getvalue()} if mel.getvalue() else {}
    return pictures | heard | {"wav": sound.getvalue(), "json": facts.encode()}


def _row(clip: SyntheticClip, entries: dict[str, tarfile.TarInfo]) -> dict:
    mine = [(name, entry) for name, entry in entries.items() if name.startswith(f"{clip.key}.")]
    members = [
        {"suffix": name.partition(".")[2], "offset": entry.offset_data, "size_bytes": entry.size}
        for name, entry in mine
    ]
    return {
        "key": clip.key, "outcome": clip.outcome, "reason": "", "detail": "", "digest": "", "fingerprint": "",
        "video_id": clip.video_id, "labels": clip.labels, "split": clip.split, "valid_ms": clip.valid_ms,
        "size_bytes": sum(m["size_bytes"] for m in members), "members": members,
    }  # fmt: skip


def written(root: Path, clips: list[SyntheticClip]) -> Dataset:
    return open_dataset(root, write_dataset(root, clips))


def tiny_run(dataset: Dataset, folder: Path, num_steps: int = 120) -> Path:
    """The best checkpoint of a training of seconds."""
    config = TrainConfig(
        steps=num_steps,
        seconds=None,
        sampling=Sampling(clips_per_batch=16, steps_per_clip=2),
        augmentation=Augmentation(saturation=0.2),
        learning_rate=4e-3,
        num_validations=4,
        ema_decay=0.9,
    )
    for _ in train(dataset, "contrastive", TINY, config, folder):
        pass
    return folder / "best.pt"
