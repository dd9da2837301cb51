"""A dataset version of noise with the spectra of photographs and of music: what benchmarks read."""

import hashlib
import io
import json
import tarfile
import wave
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from schemas.feature import Profile
from schemas.shard import (
    SHARDS,
    Shard,
    Version,
    frame_suffix,
    make_version,
    shard_name,
    tar_path,
    write_version,
)
from schemas.waveforms import log_mel
from tasks.features import member_suffixes

# 150 MB: in the page cache of any machine
NUM_SHARDS = 4
CLIPS_PER_SHARD = 64
ASPECT = 4 / 3


def write_content(root: Path, profile: Profile) -> Version:
    """A version of pictures and sound with the spectra of natural ones: JPEG costs what it costs in life."""
    shards = [write_shard(root, profile, part) for part in range(NUM_SHARDS)]
    version = make_version(profile, member_suffixes(profile), shards)
    write_version(root, version, {})
    return version


def write_shard(root: Path, profile: Profile, part: int) -> Shard:
    """One tar with its sidecar."""
    content = io.BytesIO()
    rows = []
    rng = np.random.default_rng(part)
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for n in range(CLIPS_PER_SHARD):
            key = f"clip{part}{n:03d}_0_{profile.length_ms}"
            placed = []
            for suffix, data in sorted(members(rng, profile, key).items()):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                offset = tar.offset + tarfile.BLOCKSIZE
                placed.append({"suffix": suffix, "offset": offset, "size_bytes": info.size})
                tar.addfile(info, io.BytesIO(data))
            facts = {
                "key": key,
                "video_id": key.split("_")[0],
                "outcome": "ok",
                "split": "train",
                "labels": [],
            }
            rows.append({**facts, "valid_ms": profile.length_ms, "members": placed})
    sha256 = hashlib.sha256(content.getvalue()).hexdigest()
    shard = Shard(shard_name("train", part, sha256), "train", part, sha256, content.tell(), CLIPS_PER_SHARD)
    tar_path(root, shard).parent.mkdir(parents=True, exist_ok=True)
    tar_path(root, shard).write_bytes(content.getvalue())
    pq.write_table(pa.Table.from_pylist(rows, schema=SHARDS), tar_path(root, shard).with_suffix(".parquet"))
    return shard


def members(rng: np.random.Generator, profile: Profile, key: str) -> dict[str, bytes]:
    """The members of one clip."""
    sound = (8000 * pink(rng, (profile.num_samples,))).clip(-32768, 32767).astype(np.int16)
    wav = io.BytesIO()
    mel = io.BytesIO()
    with wave.open(wav, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(profile.sample_rate_hz)
        file.writeframes(sound.tobytes())
    np.save(mel, log_mel(sound))
    frames = {
        frame_suffix(k): simplejpeg.encode_jpeg(picture(rng, profile), profile.jpeg_quality, "RGB", "420")
        for k in range(profile.num_frames)
    }
    facts = json.dumps({"key": key, "labels": []}).encode()
    return {**frames, "wav": wav.getvalue(), "log_mel.npy": mel.getvalue(), "json": facts}


def picture(rng: np.random.Generator, profile: Profile) -> np.ndarray:
    """uint8 RGB noise that costs as a JPEG what frames of AudioSet do (17 kB at 256 px): little colour, soft detail."""
    shape = (profile.frame_short_side_px, round(ASPECT * profile.frame_short_side_px))
    light = 128 + 45 * pink(rng, shape, 1.55)
    colour = [20 * pink(rng, shape, 1.8) for _ in range(3)]
    return np.stack([light + tint for tint in colour], axis=2).clip(0, 255).astype(np.uint8)


def pink(rng: np.random.Generator, shape: tuple[int, ...], slope: float = 1.0) -> np.ndarray:
    """Noise of deviation 1 whose amplitude falls with frequency to the power of `slope`."""
    axes = [np.fft.fftfreq(size) for size in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    frequency = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    spectrum = np.fft.rfftn(rng.standard_normal(shape)) / np.maximum(frequency, 1 / max(shape)) ** slope
    noise = np.fft.irfftn(spectrum, s=shape, axes=range(len(shape)))
    return noise / noise.std()
