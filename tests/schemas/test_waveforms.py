"""The stored log-mel: silence is its floor, a tone lands in its bin, a click in its frame."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import waveforms
from schemas.waveforms import HOP, LOG_FLOOR, N_FFT, N_MELS, SAMPLE_RATE_HZ, WINDOW, log_mel, mel_filterbank

SECOND = SAMPLE_RATE_HZ


def tone(hertz, seconds=1.0, amplitude=0.5):
    time_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return np.round(amplitude * 32767 * np.sin(2 * np.pi * hertz * time_s)).astype(np.int16)


def mel_centres_hz():
    edges = np.linspace(
        waveforms.mel_of_hz(waveforms.MEL_LOW_HZ), waveforms.mel_of_hz(waveforms.MEL_HIGH_HZ), N_MELS + 2
    )
    return 700.0 * (10.0 ** (edges[1:-1] / 2595.0) - 1.0)


def test_silence_is_minus_six():
    mel = log_mel(np.zeros(SECOND, np.int16))

    assert (mel.dtype, mel.shape) == (np.float16, (N_MELS, 100))
    assert np.all(mel == -6)


def test_a_full_scale_sine_is_about_four():
    assert log_mel(tone(1000, amplitude=1.0)).max() == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize("at", range(8, N_MELS, 5))
def test_a_tone_lands_in_its_mel_bin(at):
    mel = log_mel(tone(mel_centres_hz()[at]))[:, 10:-10].astype(np.float64).mean(axis=1)

    assert mel.argmax() == at


@given(st.integers(2, 97))
@settings(max_examples=25, deadline=None)
def test_a_click_stands_in_the_frame_of_its_time(frame):
    wave = np.zeros(SECOND, np.int16)
    wave[frame * HOP + HOP // 2] = 32767

    loudness = log_mel(wave).astype(np.float64).mean(axis=0)

    assert loudness.argmax() == frame
    assert loudness[frame - 1] == pytest.approx(loudness[frame + 1], abs=0.01)  # it stands in the middle


def test_a_second_is_described_by_its_hundred_frames():
    wave = np.concatenate([np.zeros(SECOND, np.int16), tone(1000), np.zeros(SECOND, np.int16)])

    peak = log_mel(wave).max(axis=0)

    assert np.all(peak[100:200] > 2)
    reach = WINDOW // HOP // 2 + 1
    assert np.all(peak[: 100 - reach] == -6) and np.all(peak[200 + reach :] == -6)


@given(st.integers(HOP, 4 * SECOND))
@settings(max_examples=30, deadline=None)
def test_there_is_a_frame_for_every_whole_hop(num_samples):
    mel = log_mel(np.full(num_samples, 1000, np.int16))

    assert mel.shape == (N_MELS, num_samples // HOP)
    assert np.isfinite(mel).all()


def test_a_later_sound_never_changes_an_earlier_frame():
    wave = np.random.default_rng(0).integers(-9000, 9000, SECOND).astype(np.int16)
    louder = wave.copy()
    louder[SECOND // 2 :] = 0

    assert np.array_equal(log_mel(wave)[:, :49], log_mel(louder)[:, :49])


def test_filters_are_triangles_of_height_one_that_cover_the_band():
    bank = mel_filterbank()
    bins_hz = np.linspace(0, SAMPLE_RATE_HZ / 2, N_FFT // 2 + 1)

    assert bank.shape == (N_MELS, N_FFT // 2 + 1)
    assert bank.min() >= 0.0 and bank.max() <= 1.0
    assert np.all(bank.sum(axis=1) > 0)
    assert not bank[:, bins_hz < waveforms.MEL_LOW_HZ].any()
    inside = (bins_hz > mel_centres_hz()[0]) & (bins_hz < mel_centres_hz()[-1])
    assert bank[:, inside].sum(axis=0) == pytest.approx(1.0)


def test_torchaudio_with_the_same_settings_gives_the_same():
    from torchaudio.transforms import MelSpectrogram

    wave = np.random.default_rng(0).integers(-20_000, 20_000, 2 * SECOND).astype(np.int16) // 3 + tone(
        440, 2.0
    )
    before = (WINDOW - HOP) // 2
    left = before + (N_FFT - WINDOW) // 2  # torch centres the window inside N_FFT
    padded = np.pad(wave / 32768.0, (left, N_FFT)).astype(np.float64)
    transform = MelSpectrogram(
        SAMPLE_RATE_HZ, N_FFT, WINDOW, HOP, waveforms.MEL_LOW_HZ, waveforms.MEL_HIGH_HZ,
        n_mels=N_MELS, power=2.0, center=False, norm=None, mel_scale="htk",
    )  # fmt: skip

    theirs = torch.log10(transform.double()(torch.from_numpy(padded)) + LOG_FLOOR).numpy()

    ours = log_mel(wave)
    assert np.abs(theirs[:, : ours.shape[1]] - ours).max() < 2e-3
