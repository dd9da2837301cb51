"""Pictures for a page without other files: inline SVG, and images and sounds as data URIs."""

import base64
import io
import struct
import wave
import zlib
from collections.abc import Sequence

import numpy as np
import simplejpeg

from schemas.waveforms import SAMPLE_RATE_HZ

JPEG_QUALITY = 82
# Anchors of perceptually uniform palettes: dark violet to yellow for power, blue over grey to red for scores.
POWER = np.array([[13, 8, 50], [88, 24, 110], [168, 50, 90], [229, 107, 50], [250, 220, 120]], float)
SCORES = np.array([[38, 84, 164], [128, 170, 214], [236, 236, 234], [226, 140, 110], [170, 30, 50]], float)
HEAT = np.array([[30, 40, 110], [30, 130, 160], [150, 210, 90], [250, 190, 40], [220, 30, 40]], float)
HEAT_ALPHA = 0.65  # of the map over the frame where it is strongest

Series = Sequence[tuple[float, float]]  # (x, y)


def coloured(values: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """uint8 (..., 3): values in [0, 1] on a palette of evenly spaced anchors."""
    place = np.clip(values, 0, 1) * (len(palette) - 1)
    low = np.minimum(place.astype(int), len(palette) - 2)
    share = (place - low)[..., None]
    return (palette[low] * (1 - share) + palette[low + 1] * share).astype(np.uint8)


def jpeg_uri(image: np.ndarray) -> str:
    """A picture, uint8 (height, width, 3)."""
    return _uri("image/jpeg", simplejpeg.encode_jpeg(np.ascontiguousarray(image), JPEG_QUALITY, "RGB"))


def png_uri(image: np.ndarray) -> str:
    """A lossless picture, uint8 (height, width, 3): for data whose pixels are numbers."""
    height, width = image.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], axis=1)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),  # 8 bits, RGB, not interlaced
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return _uri("image/png", b"\x89PNG\r\n\x1a\n" + body)


def wav_uri(sound: np.ndarray) -> str:
    """A mono int16 sound at SAMPLE_RATE_HZ."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(np.ascontiguousarray(sound, "<i2").tobytes())
    return _uri("audio/wav", buffer.getvalue())


def spectrogram_uri(log_mel: np.ndarray, most_columns: int = 250) -> str:
    """A log-mel (mels, frames), with low frequencies at the bottom."""
    stride = max(1, log_mel.shape[1] // most_columns)
    values = log_mel[::-1, ::stride].astype(np.float32)
    low, high = np.quantile(values, [0.05, 0.995])
    return png_uri(coloured((values - low) / max(high - low, 1e-6), POWER))


def heat_over(frame: np.ndarray, heat: np.ndarray, low: float, high: float) -> np.ndarray:
    """A frame (px, px, 3) under its heat map (h, w), colours from cold at `low` to hot at `high`."""
    share = np.clip((_enlarged(heat, frame.shape[0]) - low) / max(high - low, 1e-6), 0, 1)
    alpha = HEAT_ALPHA * share[..., None]
    grey = frame.mean(-1, keepdims=True) * 0.6 + frame * 0.4
    return (grey * (1 - alpha) + coloured(share, HEAT) * alpha).astype(np.uint8)


def curves(train: Series, val: Series, chance: float | None, label: str) -> str:
    """An SVG of two lines over the training, the gap between them shaded, with a dashed line at chance."""
    width = 520
    height = 240
    left = 46
    bottom = 30
    xs = [x for x, _ in [*train, *val]] or [0.0]
    ys = [y for _, y in [*train, *val]] + ([chance] if chance is not None else []) or [0.0]
    low = min(ys)
    high = max(ys)
    end = max(max(xs), 1e-9)
    margin = 0.06 * ((high - low) or 1.0)
    low = low - margin
    high = high + margin

    def place(x: float, y: float) -> str:
        px = left + x / end * (width - left - 12)
        return f"{px:.1f},{height - bottom - (y - low) / (high - low) * (height - bottom - 10):.1f}"

    def line(points: Series, name: str) -> str:
        return f'<polyline class="{name}" points="{" ".join(place(x, y) for x, y in points)}"/>'

    gap = " ".join(place(x, y) for x, y in [*train, *reversed(val)])
    parts = [f'<polygon class="gap" points="{gap}"/>', line(train, "train"), line(val, "val")]
    if chance is not None:
        parts.append(line([(0.0, chance), (end, chance)], "chance"))
    for y in _ticks(low, high):
        parts.append(line([(0.0, y), (end, y)], "grid"))
        x_px, y_px = place(0.0, y).split(",")
        parts.append(f'<text x="{float(x_px) - 6:.0f}" y="{float(y_px) + 4:.1f}" class="y">{y:.3g}</text>')
    for x in _ticks(0.0, end):
        x_px = place(x, low).split(",")[0]
        parts.append(f'<text x="{x_px}" y="{height - 8}" class="x">{x:.3g}</text>')
    head = f'<svg viewBox="0 0 {width} {height}" class="curves" role="img" aria-label="{label}">'
    return head + "".join(parts) + "</svg>"


def similarity_matrix(scores: np.ndarray, bounds: Sequence[int]) -> str:
    """SVG of an (n, n) matrix of scores, red where high, with lines at `bounds` between groups."""
    n = len(scores)
    low, high = np.quantile(scores, [0.02, 0.98]) if n else (0.0, 1.0)
    uri = png_uri(coloured((scores - low) / max(high - low, 1e-6), SCORES))
    lines = "".join(f'<path d="M{b} 0V{n}M0 {b}H{n}"/>' for b in bounds)
    head = (
        f'<svg viewBox="0 0 {n} {n}" class="matrix" role="img" aria-label="every picture with every sound">'
    )
    return f'{head}<image href="{uri}" width="{n}" height="{n}"/>{lines}</svg>'


def _enlarged(values: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, with cell centres kept in place: (h, w) to (size, size)."""
    for axis in (0, 1):
        count = values.shape[axis]
        place = np.clip((np.arange(size) + 0.5) / size * count - 0.5, 0, count - 1)
        low = np.minimum(place.astype(int), max(count - 2, 0))
        share = np.expand_dims(place - low, 1 - axis)
        following = np.minimum(low + 1, count - 1)
        values = np.take(values, low, axis) * (1 - share) + np.take(values, following, axis) * share
    return values


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    step = 10 ** np.floor(np.log10(max(high - low, 1e-9) / count))
    step = next(step * k for k in (1, 2, 5, 10) if (high - low) / (step * k) <= count)
    places = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    return [float(t) for t in places + 0.0]  # without negative zero


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
