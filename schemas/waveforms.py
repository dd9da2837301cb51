"""Rates, windows and the mel filterbank: the signal chain that extraction and training share.

The stored log-mel is computed here in float64 numpy/scipy, so that its bytes do not depend on a device;
the training front end rebuilds it with torch and is tested against `log_mel`.
"""

from functools import cache

import numpy as np
import scipy.fft

SAMPLE_RATE_HZ = 16_000
WINDOW_MS = 25  # the usual speech/audio-tagging window (e.g. VGGish, PANNs at 16 kHz)
HOP_MS = 10
WINDOW = SAMPLE_RATE_HZ * WINDOW_MS // 1000  # 400 samples
HOP = SAMPLE_RATE_HZ * HOP_MS // 1000  # 160 samples
N_FFT = 512  # the next power of two above WINDOW
N_MELS = 64
# Below 50 Hz is mains hum and handling noise
MEL_LOW_HZ = 50.0
MEL_HIGH_HZ = 8000.0
LOG_FLOOR = 1e-6  # keeps log10 finite: silence is -6, a full-scale sine about 4
FRAMES_PER_S = 1000 // HOP_MS  # 100
INT16_SCALE = 32768.0


def mel_of_hz(frequency_hz: np.ndarray | float) -> np.ndarray:
    """The HTK mel scale, as torchaudio's `mel_scale="htk"`."""
    return 2595.0 * np.log10(1.0 + np.asarray(frequency_hz, np.float64) / 700.0)


@cache
def mel_filterbank() -> np.ndarray:
    """Triangular filters, peak 1, without area normalisation: float64 (N_MELS, N_FFT // 2 + 1)."""
    edges_mel = np.linspace(mel_of_hz(MEL_LOW_HZ), mel_of_hz(MEL_HIGH_HZ), N_MELS + 2)
    edges_hz = 700.0 * (10.0 ** (edges_mel / 2595.0) - 1.0)
    bins_hz = np.linspace(0.0, SAMPLE_RATE_HZ / 2, N_FFT // 2 + 1)
    rising = (bins_hz - edges_hz[:-2, None]) / np.diff(edges_hz)[:-1, None]
    falling = (edges_hz[2:, None] - bins_hz) / np.diff(edges_hz)[1:, None]
    return np.maximum(0.0, np.minimum(rising, falling))


@cache
def window() -> np.ndarray:
    """The periodic Hann window: float64 (WINDOW,)."""
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(WINDOW) / WINDOW)


def num_frames(num_samples: int) -> int:
    """How many log-mel frames `num_samples` give: one every HOP, the first centred on HOP / 2."""
    return num_samples // HOP


def log_mel(wave: np.ndarray) -> np.ndarray:
    """Log-mel power of a mono int16 wave at SAMPLE_RATE_HZ: float16 (N_MELS, samples // HOP), log10.

    Frame i is centred on sample (i + 0.5) * HOP, so frames [100 t, 100 (t + 1)) describe second t; the
    wave is padded with zeros, never reflected, so nothing is invented at the ends.
    """
    frames = num_frames(len(wave))
    before = (WINDOW - HOP) // 2
    padded = np.zeros((frames - 1) * HOP + WINDOW)
    usable = min(len(wave), len(padded) - before)
    padded[before : before + usable] = wave[:usable] / INT16_SCALE
    framed = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    power = np.abs(np.asarray(scipy.fft.rfft(framed * window(), N_FFT))) ** 2
    return np.log10(mel_filterbank() @ power.T + LOG_FLOOR).astype(np.float16)
