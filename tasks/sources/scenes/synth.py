"""Sound: grains placed on beats, and continuous tones; from MARGIN_S before a scene to after it."""

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from tasks.sources.scenes.laws import LENGTH_S, MARGIN_S, MATERIALS, Cause, decay_s, gain

SAMPLE_RATE_HZ = 32_000  # twice what the features keep, so that resampling is part of the test
HIGHEST_HZ = 0.45 * SAMPLE_RATE_HZ  # partials above it would alias
NUM_SAMPLES = round((LENGTH_S + 2.0 * MARGIN_S) * SAMPLE_RATE_HZ)
FADE_DECAYS = 6.0  # a grain ends when it is 52 dB down
LONGEST_S = 1.2  # of a grain: later, its tail is below the next blow
ATTACK_S = 0.002  # a click-free start that is still instantaneous against a frame
LEAST = 1e-6  # the smallest grain that is still scaled to 1


@cache
def clock_s() -> np.ndarray:
    """The time of every sample in seconds of the scene: from -MARGIN_S."""
    clock = np.arange(NUM_SAMPLES) / SAMPLE_RATE_HZ - MARGIN_S
    clock.flags.writeable = False
    return clock


def struck(pitch_hz: float, material: str) -> np.ndarray:
    """One blow on a body of `material` whose lowest partial is `pitch_hz`."""
    ring = MATERIALS[material]
    longest_s = min(FADE_DECAYS * decay_s(ring, pitch_hz), LONGEST_S)
    time_s = np.arange(round(longest_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    grain = np.zeros_like(time_s)
    for ratio, amplitude in zip(ring.ratios, ring.gains, strict=True):
        partial_hz = pitch_hz * ratio
        if partial_hz < HIGHEST_HZ:
            envelope = amplitude * np.exp(-time_s / decay_s(ring, partial_hz))
            grain += envelope * np.sin(2.0 * np.pi * partial_hz * time_s)
    return shaped(grain)


def burst(pitch_hz: float, decay: float, rng: np.random.Generator, quality: float = 2.0) -> np.ndarray:
    """A burst of noise about `pitch_hz`, narrower with `quality`, dying away in `decay` seconds."""
    number = round(min(FADE_DECAYS * decay, LONGEST_S) * SAMPLE_RATE_HZ)
    envelope = np.exp(-np.arange(number) / (decay * SAMPLE_RATE_HZ))
    return shaped(band(rng.standard_normal(number), pitch_hz, quality) * envelope)


def chirp(start_hz: float, end_hz: float, length: float) -> np.ndarray:
    """A tone that glides from `start_hz` to `end_hz` in `length` seconds under a bell-shaped envelope."""
    number = round(length * SAMPLE_RATE_HZ)
    pitch = np.geomspace(start_hz, end_hz, number)
    return tone(pitch, (1.0, 0.15)) * np.sqrt(np.hanning(number))


def tone(pitch_hz: np.ndarray, harmonics: Sequence[float]) -> np.ndarray:
    """A running tone: amplitude of each harmonic of `pitch_hz`, which may change from sample to sample."""
    angle = 2.0 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    wave = np.zeros(len(angle))
    for number, amplitude in enumerate(harmonics, start=1):
        if pitch_hz.max() * number < HIGHEST_HZ:
            wave += amplitude * np.sin(number * angle)
    return wave


def band(wave: np.ndarray, center_hz: float, quality: float) -> np.ndarray:
    """`wave` through a resonance at `center_hz`."""
    from scipy.signal import iirpeak, lfilter  # a second of imports, which only renderers need

    numerator, denominator = iirpeak(min(center_hz, HIGHEST_HZ), quality, fs=SAMPLE_RATE_HZ)
    return np.asarray(lfilter(numerator, denominator, wave))


def shaped(grain: np.ndarray) -> np.ndarray:
    """`grain` with a click-free start and end, its peak 1."""
    attack = round(ATTACK_S * SAMPLE_RATE_HZ)
    release = len(grain) // 8
    grain = grain.copy()
    grain[:attack] *= np.linspace(0.0, 1.0, attack)
    grain[len(grain) - release :] *= np.linspace(1.0, 0.0, release)
    return grain / max(np.abs(grain).max(), LEAST)


def on_beats(cause: Cause, grains: Sequence[np.ndarray]) -> np.ndarray:
    """`grains` in turn, one per beat, each as loud as its blow was hard."""
    beats = zip(cause.beats.times_s, cause.beats.forces, strict=True)
    return placed(
        (time_s + cause.delay_s, gain(force), grains[beat % len(grains)])
        for beat, (time_s, force) in enumerate(beats)
    )


def placed(sounds: Iterable[tuple[float, float, np.ndarray]]) -> np.ndarray:
    """A wave with each (time, gain, grain) at its time; anything outside is cut off."""
    wave = np.zeros(NUM_SAMPLES)
    for time_s, amplitude, grain in sounds:
        start = round((time_s + MARGIN_S) * SAMPLE_RATE_HZ)
        if 0 <= start < NUM_SAMPLES:
            room = wave[start : start + len(grain)]
            room += amplitude * grain[: len(room)]
    return wave
