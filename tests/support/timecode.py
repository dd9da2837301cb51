"""Clips that carry their own time code: the frame number as a bar code, the time as the pitch of a sweep."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 12
# At t seconds the tone stands at LOW_HZ + SLOPE_HZ * t
LOW_HZ = 300.0
SLOPE_HZ = 100.0
WIDTH = 384
HEIGHT = 256


@dataclass(frozen=True)
class Recipe:
    """How a time-code clip is encoded."""

    seconds: float = 20.0
    frame_rate: int = 25
    sample_rate: int = 44_100
    video_codec: str = "libx264"
    audio_codec: str = "aac"
    key_every: int = 60
    has_audio: bool = True
    is_silent: bool = False
    is_frozen: bool = False
    is_black: bool = False
    cover_first: bool = False


def write(path: Path, recipe: Recipe | None = None) -> Path:
    """Writes the clip of `recipe` to `path`, whose suffix names the container."""
    recipe = recipe or Recipe()
    with av.open(str(path), "w") as container:
        video = container.add_stream(recipe.video_codec, rate=recipe.frame_rate)
        video.width = WIDTH
        video.height = HEIGHT
        video.pix_fmt = "yuv420p"
        video.codec_context.gop_size = recipe.key_every
        video.codec_context.bit_rate = 1_000_000
        audio = (
            container.add_stream(recipe.audio_codec, rate=recipe.sample_rate) if recipe.has_audio else None
        )
        if audio is not None:
            audio.codec_context.layout = "mono"
        wave = _wave(recipe)
        for n in range(round(recipe.seconds * recipe.frame_rate)):
            number = 0 if recipe.is_frozen else n
            frame = av.VideoFrame.from_ndarray(picture(number) * (not recipe.is_black), format="rgb24")
            frame.pts = n
            frame.time_base = Fraction(1, recipe.frame_rate)
            container.mux(video.encode(frame))
            if audio is not None:
                _write_sound(container, audio, wave, (n, recipe))
        container.mux(video.encode())
        if audio is not None:
            container.mux(audio.encode())
    return path


def _wave(recipe: Recipe) -> np.ndarray:
    time_s = np.arange(round(recipe.seconds * recipe.sample_rate)) / recipe.sample_rate
    sweep = 0.5 * np.sin(2 * np.pi * (LOW_HZ * time_s + SLOPE_HZ * time_s**2 / 2))
    return (sweep * (not recipe.is_silent)).astype(np.float32)


def _write_sound(container, stream, wave: np.ndarray, position: tuple[int, Recipe]) -> None:
    """The sound of frame n, so that both streams are interleaved as in any real file."""
    n, recipe = position
    first, last = (round(k * recipe.sample_rate / recipe.frame_rate) for k in (n, n + 1))
    resampler = av.AudioResampler(stream.codec_context.format, "mono", recipe.sample_rate)
    frame = av.AudioFrame.from_ndarray(wave[None, first:last], format="fltp", layout="mono")
    frame.sample_rate = recipe.sample_rate
    frame.pts = first
    frame.time_base = Fraction(1, recipe.sample_rate)
    for piece in resampler.resample(frame):
        container.mux(stream.encode(piece))


def picture(number: int) -> np.ndarray:
    """uint8 (HEIGHT, WIDTH, 3): BITS vertical bars, bright for 1, the most significant first."""
    bits = [(number >> bit) & 1 for bit in reversed(range(BITS))]
    row = np.repeat([40 + 180 * bit for bit in bits], WIDTH // BITS).astype(np.uint8)
    return np.broadcast_to(row[None, :, None], (HEIGHT, WIDTH, 3)).copy()


def read_number(frame: np.ndarray) -> int:
    """The number that a picture's luma (or any one channel) shows, at any size."""
    bars = np.array_split(frame.mean(axis=0), BITS)
    middles = [bar[len(bar) // 4 : -len(bar) // 4 or None].mean() for bar in bars]
    return sum(1 << bit for bit, level in zip(reversed(range(BITS)), middles, strict=True) if level > 130)


def read_time(wave: np.ndarray, rate_hz: int) -> float:
    """The time that the middle of a piece of the sweep tells, from its mean frequency."""
    phase = np.unwrap(np.angle(_analytic(wave.astype(np.float64))))
    third = len(phase) // 3
    hertz = (phase[-third] - phase[third]) / (len(phase) - 2 * third) * rate_hz / (2 * np.pi)
    return (hertz - LOW_HZ) / SLOPE_HZ


def _analytic(wave: np.ndarray) -> np.ndarray:
    spectrum = np.fft.fft(wave)
    spectrum[len(wave) // 2 :] = 0
    return np.fft.ifft(spectrum)
