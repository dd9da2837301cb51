"""Front ends: the input of `encode_audio`, computed on the device of the model, and its statistics over a corpus."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.transforms import Spectrogram

from schemas import waveforms
from training.interface import AvcModel, FrontEnd
from training.reading.dataset import Dataset
from training.reading.decoding import sound_suffix

FrontEndKind = Literal["log_mel", "spectrogram", "wave"]


# Look, Listen and Learn 2017, sec. 2.2: half overlap
SPECTROGRAM_WINDOW_MS = 10
SPECTROGRAM_HOP_MS = 5
SPECTROGRAM_BINS = 257

STATISTICS_CLIPS = 256
LEAST_DEVIATION = 0.1  # a bin that never changes carries nothing, and must not be amplified
LEAST_WAVE_DEVIATION = 1e-4  # samples of quiet waves are small numbers


def raw_wave(sample_rate_hz: int, channels: int = 1) -> FrontEnd:
    """The samples themselves, in [-1, 1]."""
    return FrontEnd(channels, {"sample_rate_hz": sample_rate_hz, "channels": channels}, is_spectrum=False)


class LogSpectrogram(FrontEnd):
    """The seed papers' log spectrogram: 10 ms windows every 5 ms, 257 bins; 199 frames for 1 s.

    At 48 kHz those are 480 samples, a hop of 240 and an FFT of 512 (Look, Listen and Learn 2017, sec. 2.2; Objects
    that Sound 2018, sec. 3.3, where 1 s has 200). At other rates the times are the same, and the bins are spaced by
    rate / 512.
    """

    def __init__(self, sample_rate_hz: int) -> None:
        window, hop = (sample_rate_hz * ms // 1000 for ms in (SPECTROGRAM_WINDOW_MS, SPECTROGRAM_HOP_MS))
        n_fft = 2 * (SPECTROGRAM_BINS - 1)
        constants = {"sample_rate_hz": sample_rate_hz, "window": window, "hop": hop}
        super().__init__(SPECTROGRAM_BINS, {**constants, "n_fft": n_fft, "log_floor": waveforms.LOG_FLOOR})
        self._power = Spectrogram(n_fft, window, hop, center=False, window_fn=torch.hann_window)
        self._margin = (n_fft - window) // 2  # torch centres windows within the FFT's samples

    def forward(self, sound: Tensor) -> Tensor:
        """Log10 power (B, 257, T) of mono waves (B, 1, samples) in [-1, 1]."""
        padded_BS = nn.functional.pad(sound[:, 0], (self._margin, self._margin))
        return torch.log10(self._power(padded_BS) + waveforms.LOG_FLOOR)


def sounds(stored: Tensor) -> Tensor:
    """A batch's sound as floats: int16 samples in [-1, 1], log-mels unchanged."""
    return stored.float() / waveforms.INT16_SCALE if stored.dtype == torch.int16 else stored


class LogMel(nn.Module):
    """`schemas.waveforms.log_mel` for waves in [-1, 1]: float32 (B, samples) to (B, mels, samples // HOP).

    The Fourier transform is a product with its matrix, in float64: a weak bin next to a loud tone is
    the small difference of large sums, and any runtime can multiply matrices.
    """

    analysis: Tensor
    filterbank: Tensor

    def __init__(self) -> None:
        super().__init__()
        bins = np.arange(waveforms.N_FFT // 2 + 1)
        angles = 2 * np.pi * np.outer(np.arange(waveforms.WINDOW), bins) / waveforms.N_FFT
        basis = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * waveforms.window()[:, None]
        self.register_buffer("analysis", torch.from_numpy(basis))
        self.register_buffer("filterbank", torch.from_numpy(waveforms.mel_filterbank().T.copy()))

    def forward(self, wave_BS: Tensor) -> Tensor:
        """Log10 mel power, frame i centred on sample (i + 0.5) * HOP, zeros beyond the ends."""
        before = (waveforms.WINDOW - waveforms.HOP) // 2
        after = waveforms.WINDOW - waveforms.HOP - before
        padded_BS = nn.functional.pad(wave_BS.double(), (before, after))
        framed_BTW = padded_BS.unfold(1, waveforms.WINDOW, waveforms.HOP)
        real_BTF, imaginary_BTF = (framed_BTW @ self.analysis).chunk(2, dim=-1)
        mel_BTM = (real_BTF.square() + imaginary_BTF.square()) @ self.filterbank
        return torch.log10(mel_BTM + waveforms.LOG_FLOOR).transpose(1, 2).float()


@torch.no_grad()
def learn_sound_statistics(model: AvcModel, dataset: Dataset) -> None:
    """Sets `audio_mean` and `audio_std` of a model for each bin of its front end, over valid sound of some clips.

    Raises DataError for a clip whose sound contains NaN or infinity.
    """
    rows = np.linspace(0, len(dataset) - 1, min(STATISTICS_CLIPS, len(dataset))).astype(int)
    dataset = dataset.holding((row, sound_suffix(model.view)) for row in rows.tolist())
    total = torch.zeros(3, model.front_end.num_bins, dtype=torch.float64)  # count, sum, sum of squares
    for row in rows.tolist():
        audio_FT = model.front_end(sounds(_valid_sound(dataset, row, model))[None])[0].double()
        if not torch.isfinite(audio_FT).all():
            problem = (
                "it holds values that are not numbers, so the training has diverged before its first step"
            )
            raise dataset.damaged(row, sound_suffix(model.view), problem)
        total += torch.stack([torch.ones_like(audio_FT).sum(1), audio_FT.sum(1), audio_FT.square().sum(1)])
    mean, square = total[1:] / total[0]
    least = LEAST_DEVIATION if model.front_end.is_spectrum else LEAST_WAVE_DEVIATION
    model.audio_mean.copy_(mean[:, None])
    model.audio_std.copy_((square - mean.square()).clamp_min(least**2).sqrt()[:, None])


def _valid_sound(dataset: Dataset, row: int, model: AvcModel) -> torch.Tensor:
    valid_ms = int(dataset.clips.valid_ms[row])
    if model.view.sound == "log_mel":
        return torch.from_numpy(dataset.log_mel(row)[:, : valid_ms // waveforms.HOP_MS].astype(np.float32))
    return torch.from_numpy(
        dataset.wave(row, slice(valid_ms * dataset.profile.sample_rate_hz // 1000)).copy()
    )
