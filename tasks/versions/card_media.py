"""Media of a data card: a seeded sample of clips, some of each quarantine reason, and charts as inline SVG."""

import base64
import io
import random
import wave
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup

from schemas import layout
from schemas.manifest import Row, read_manifest, read_part
from schemas.outcome import Outcome
from schemas.shard import AUDIO_SUFFIX, VIDEO_SUFFIX, Version, index_path, tar_path
from tasks.feature_files import feature_files, open_members, read_sample, spans_by_key

NUM_CLIPS = 8
PER_REASON = 2
FRAMES = 4
FRAME_ENDING = ".jpg"
SOUNDS = {AUDIO_SUFFIX: "audio/wav", "flac": "audio/flac"}
PLAYABLE = {".mp4": "video/mp4", ".webm": "video/webm", ".mkv": "video/webm"}  # Matroska: by most browsers
MOST_VIDEO_BYTES = 3_000_000  # of a clip on a page
# Of a chart, in SVG units.
WIDTH = 320
HEIGHT = 150
LEFT = 4
BOTTOM = 24
TOP = 18
GAP = 2  # between two bars


@dataclass(frozen=True)
class Shown:
    """A clip on a page: media as data URIs, empty if there are none."""

    key: str
    caption: str
    detail: str
    frames: tuple[str, ...] = ()
    sound: str = ""
    drawn: Markup = Markup("")
    video: str = ""  # the clip itself, if it has no frames


def sample_clips(root: Path, version: Version, rows: list[Row], names: Mapping[str, str]) -> list[Shown]:
    """NUM_CLIPS clips out of `rows` (the samples of the version), always the same ones."""
    chosen = random.Random(version.digest).sample(rows, min(NUM_CLIPS, len(rows)))
    shards = {shard.name: shard for shard in version.shards}
    shown = []
    for row in sorted(chosen, key=lambda row: row["key"]):
        tar = tar_path(root, shards[row["shard"]])
        members = _members(tar, index_path(root, shards[row["shard"]]), row["key"])
        detail = f"{row['split']} · {row['valid_ms'] / 1000:g} s"
        shown.append(_shown(row["key"], named(row["labels"], names), detail, members))
    return shown


def quarantined_clips(root: Path, names: Mapping[str, str], *, with_media: bool) -> dict[str, list[Shown]]:
    """Some clips for each expectation that rejected any; with media if they had been extracted."""
    segments = {
        row["key"]: row["labels"] for _, row in read_manifest(root / layout.SEGMENTS, ("key", "labels"))
    }
    found: dict[str, list[Shown]] = {}
    # A rejected shard stops `publish`: it quarantines nothing.
    for manifest in (one for one in layout.JUDGED if one != layout.SHARDS):
        columns = ("key", "outcome", "reason", "detail", *(("path",) if manifest == layout.CLIPS else ()))
        before = _rejected(root, manifest)
        for part, row in read_manifest(root / layout.checked(manifest), columns):
            of_reason = found.setdefault(row["reason"], [])
            if row["outcome"] != Outcome.QUARANTINED or row["key"] in before or len(of_reason) >= PER_REASON:
                continue
            members = _extracted(root, part, row["key"]) if with_media and manifest == layout.FEATURES else {}
            video = _video(root / row["path"]) if with_media and row.get("path") else ""
            one = _shown(row["key"], named(segments[row["key"]], names), row["detail"], members)
            of_reason.append(replace(one, video=one.video or video))
    return {reason: clips for reason, clips in sorted(found.items()) if clips}


def _rejected(root: Path, manifest: str) -> set[str]:
    """The keys that were rejected before this manifest was validated: each is shown only at its own stage."""
    rows = read_manifest(root / manifest, ("key", "outcome"))
    return {row["key"] for _, row in rows if row["outcome"] == Outcome.QUARANTINED}


def _video(clip: Path) -> str:
    """A clip that was rejected before extraction, unchanged; empty if a browser cannot play it."""
    kind = PLAYABLE.get(clip.suffix)
    if kind is None or not clip.is_file() or clip.stat().st_size > MOST_VIDEO_BYTES:
        return ""
    return _uri(kind, clip.read_bytes())


def named(labels: Iterable[str], names: Mapping[str, str]) -> str:
    """The labels by their display names."""
    return ", ".join(names.get(label, label) for label in labels)


def _shown(key: str, caption: str, detail: str, members: Mapping[str, bytes]) -> Shown:
    frames = sorted(suffix for suffix in members if suffix.endswith(FRAME_ENDING))
    places = np.unique(np.linspace(0, len(frames) - 1, FRAMES).astype(int)) if frames else []
    sounds = [_uri(kind, members[suffix]) for suffix, kind in SOUNDS.items() if suffix in members]
    return Shown(
        key,
        caption,
        detail,
        tuple(_uri("image/jpeg", members[frames[place]]) for place in places),
        next(iter(sounds), ""),
        _drawn(members.get(AUDIO_SUFFIX)),
        _uri("video/mp4", members[VIDEO_SUFFIX]) if VIDEO_SUFFIX in members else "",
    )


def _drawn(wav: bytes | None) -> Markup:
    """A wav's first channel as a waveform; FLAC is played only."""
    if wav is None:
        return Markup("")
    with wave.open(io.BytesIO(wav)) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")[:: sound.getnchannels()]
    return Markup(waveform(samples))  # noqa: S704  (numbers only)


def _members(tar: Path, sidecar: Path, key: str) -> dict[str, bytes]:
    """Pictures and sound of one sample, located by its index."""
    row = next(row for row in read_part(sidecar, ("key", "members")) if row["key"] == key)
    found = {}
    with tar.open("rb") as file:
        for one in row["members"]:
            if one["suffix"] in (*SOUNDS, VIDEO_SUFFIX) or one["suffix"].endswith(FRAME_ENDING):
                file.seek(one["offset"])
                found[one["suffix"]] = file.read(one["size_bytes"])
    return found


def _extracted(root: Path, part: int, key: str) -> dict[str, bytes]:
    """The members of a clip that was extracted and then rejected."""
    found: dict[str, bytes] = {}
    for path in feature_files(root, part):
        with open_members(path) as table:
            place = spans_by_key(table).get(key)
            found |= read_sample(table, place) if place else {}
    return found


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def histogram(values: Sequence[float], low: float, high: float, *, bins: int, unit: str) -> str:
    """An SVG of how often values fall between `low` and `high`; values outside count at the ends."""
    counts, edges = np.histogram(np.clip(values, low, high), bins=bins, range=(low, high))
    top = max(int(counts.max()), 1)
    step = (WIDTH - 2 * LEFT) / bins
    parts = [
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - LEFT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
    ]
    for n, count in enumerate(counts.tolist()):
        if count:
            tall = max((HEIGHT - BOTTOM - TOP) * count / top, 1.5)
            place = f'x="{LEFT + n * step:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}"'
            title = f"{edges[n]:.4g} to {edges[n + 1]:.4g} {unit}: {count:,}"
            size = f'width="{step - GAP:.1f}" height="{tall:.1f}"'
            parts.append(f'<rect {place} {size} rx="2"><title>{title}</title></rect>')
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        anchor = "start" if share == 0 else "end" if share == 1 else "middle"
        x = LEFT + share * (WIDTH - 2 * LEFT)
        label = f"{low + share * (high - low):.3g}" + (f" {unit}" if share == 1 else "")
        parts.append(f'<text x="{x:.0f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{label}</text>')
    parts.append(f'<text x="{WIDTH - LEFT}" y="12" text-anchor="end">fullest bar {top:,}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="histogram" role="img">{"".join(parts)}</svg>'


def waveform(wave: np.ndarray, columns: int = 160) -> str:
    """An SVG of the loudness of a sound over its time: int16 (samples,)."""
    usable = len(wave) // columns * columns
    heard = np.abs(wave[:usable].astype(np.float32)).reshape(columns, -1).max(axis=1) / 32768
    half = np.maximum(np.sqrt(heard) * 20, 0.4)  # the square root makes quiet sound visible, too
    bars = "".join(f"M{n + 0.5} {20 - tall:.1f}V{20 + tall:.1f}" for n, tall in enumerate(half.tolist()))
    head = f'<svg viewBox="0 0 {columns} 40" class="wave" preserveAspectRatio="none" role="img">'
    return f'{head}<path d="{bars}"/></svg>'
