"""The stored log-mel rebuilt in torch, and a model with it inside: pixels and wave in, logits out."""

import numpy as np
import torch
from torch import Tensor, nn

from schemas import signal
from training.models import AvcModel


class LogMel(nn.Module):
    """`schemas.signal.log_mel` for waves in [-1, 1]: float32 (B, samples) to (B, mels, samples // HOP).

    The Fourier transform is a product with its matrix, in float64: a weak bin beside a loud tone is the
    small difference of large sums, and any runtime can multiply matrices.
    """

    analysis: Tensor
    filterbank: Tensor

    def __init__(self) -> None:
        super().__init__()
        bins = np.arange(signal.N_FFT // 2 + 1)
        angles = 2 * np.pi * np.outer(np.arange(signal.WINDOW), bins) / signal.N_FFT
        basis = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * signal.window()[:, None]
        self.register_buffer("analysis", torch.from_numpy(basis))
        self.register_buffer("filterbank", torch.from_numpy(signal.mel_filterbank().T.copy()))

    def forward(self, wave_BS: Tensor) -> Tensor:
        """Log10 mel power, frame i centred on sample (i + 0.5) * HOP, zeros beyond the ends."""
        before = (signal.WINDOW - signal.HOP) // 2
        after = signal.WINDOW - signal.HOP - before
        padded_BS = nn.functional.pad(wave_BS.double(), (before, after))
        framed_BTW = padded_BS.unfold(1, signal.WINDOW, signal.HOP)
        real_BTF, imaginary_BTF = (framed_BTW @ self.analysis).chunk(2, dim=-1)
        mel_BTM = (real_BTF.square() + imaginary_BTF.square()) @ self.filterbank
        return torch.log10(mel_BTM + signal.LOG_FLOOR).transpose(1, 2).float()


class Scorer(nn.Module):
    """What is registered: `forward(frames, audio)` gives the logit that each frame belongs to its sound."""

    def __init__(self, model: AvcModel) -> None:
        super().__init__()
        self.model, self.log_mel = model, LogMel()

    def forward(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Logits (B,) of uint8 frames (B, px, px, 3) and waves in [-1, 1] of 1 s, float32 (B, 16000)."""
        images_BCHW = frames.permute(0, 3, 1, 2).float() / 255
        V = self.model.encode_image(images_BCHW)["vector"]
        A = self.model.encode_audio(self.log_mel(audio))["vector"]
        return self.model.score(V, A).diagonal()
