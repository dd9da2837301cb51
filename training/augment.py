"""Augmentation on the device the model runs on; its random numbers come with the steps, keyed by them.

Loudness, brightness and the like identify a video without saying what it shows: varied at random, they are no
shortcut (strengths as in the L3-Net family: brightness 32/255, saturation 0.5 to 1.5).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
FRAMES_NDIM = 5  # of steps that show several frames


@dataclass(frozen=True)
class Augmentation:
    """How far inputs may be moved; zeros leave them as they are."""

    flip: bool = True
    brightness: float = 32 / 255
    contrast: float = 0.3
    saturation: float = 0.5
    # Any hue, and often none: colour tells videos apart long before it tells what sounds.
    hue_turns: float = 0.5
    grey_share: float = 0.2
    gain_db: float = 6.0
    tilt_db: float = 6.0  # of the spectrum's ends against each other: microphones and rooms differ so
    mask_mels: int = 8  # mild SpecAugment (Park et al. 2019): at most an eighth of the bins
    mask_frames: int = 10  # and a tenth of the time


def augment_images(images_BCHW: Tensor, strength: Augmentation, draws_BU: Tensor) -> Tensor:
    """Pictures in [0, 1], each flipped or not, brighter or darker, paler or more colourful.

    All frames of a step (B, frames, 3, H, W) are changed alike. `draws_BU`: numbers in [0, 1), six a picture.
    """
    if images_BCHW.ndim == FRAMES_NDIM:
        tall_BCHW = images_BCHW.transpose(1, 2).flatten(2, 3)
        tall_BCHW = augment_images(tall_BCHW, strength, draws_BU)
        return tall_BCHW.unflatten(2, (images_BCHW.shape[1], -1)).transpose(1, 2)
    uniform = _centred(draws_BU)
    if strength.flip:
        images_BCHW = torch.where(uniform[0] < 0.0, images_BCHW.flip(-1), images_BCHW)
    luma = torch.tensor(LUMA, device=images_BCHW.device).view(1, 3, 1, 1)
    grey_B1HW = (images_BCHW * luma).sum(1, keepdim=True)
    colour_B111 = (1 + strength.saturation * uniform[1]) * (uniform[5] >= 2 * strength.grey_share - 1)
    turn_B33 = _hue_turn(2 * math.pi * strength.hue_turns * uniform[4, :, 0, 0, 0])
    chroma_BCHW = torch.einsum("bij,bjhw->bihw", turn_B33, images_BCHW - grey_B1HW)
    images_BCHW = grey_B1HW + colour_B111 * chroma_BCHW
    mean_B111 = grey_B1HW.mean((2, 3), keepdim=True)
    images_BCHW = mean_B111 + (1 + strength.contrast * uniform[2]) * (images_BCHW - mean_B111)
    return (images_BCHW + strength.brightness * uniform[3]).clamp(0.0, 1.0)


def augment_wave(wave_BCS: Tensor, strength: Augmentation, draws_BU: Tensor) -> Tensor:
    """Waves, each louder or softer. `draws_BU`: numbers in [0, 1), six a sound."""
    return wave_BCS * 10 ** (strength.gain_db * _centred(draws_BU)[0, :, :, :, 0] / 20)


def augment_log_mel(log_mel_BMT: Tensor, strength: Augmentation, draws_BU: Tensor) -> Tensor:
    """Log power spectra, each louder or softer, with a band and a moment covered by its mean.

    `draws_BU`: numbers in [0, 1), six a sound.
    """
    uniform = _centred(draws_BU)[:, :, 0]
    slope_M1 = torch.linspace(-0.5, 0.5, log_mel_BMT.shape[1], device=log_mel_BMT.device)[:, None]
    # A gain is a constant in log10 power.
    log_mel_BMT = (
        log_mel_BMT + (strength.gain_db * uniform[0] + strength.tilt_db * uniform[1] * slope_M1) / 10
    )
    fill_B11 = log_mel_BMT.mean((1, 2), keepdim=True)
    mels_BM1 = _covered(log_mel_BMT.shape[1], strength.mask_mels, draws_BU[:, 2:4])[:, :, None]
    frames_B1T = _covered(log_mel_BMT.shape[2], strength.mask_frames, draws_BU[:, 4:6])[:, None]
    return torch.where(mels_BM1 | frames_B1T, fill_B11, log_mel_BMT)


def _hue_turn(angle_B: Tensor) -> Tensor:
    """Rotations of colour about the grey axis: (B, 3, 3)."""
    cos, sin = angle_B.cos()[:, None, None], angle_B.sin()[:, None, None]
    mean_33 = torch.full((3, 3), 1 / 3, device=angle_B.device)
    cross_33 = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle_B.device) / math.sqrt(3)
    return cos * torch.eye(3, device=angle_B.device) + (1 - cos) * mean_33 + sin * cross_33


def _centred(draws_BU: Tensor) -> Tensor:
    """Numbers in [-1, 1): (U, B, 1, 1, 1)."""
    return (2 * draws_BU.T - 1)[:, :, None, None, None]


def _covered(length: int, most: int, draws_B2: Tensor) -> Tensor:
    """A run of at most `most` places in each row: bool (B, length)."""
    width = (draws_B2[:, :1] * (most + 1)).floor()
    start = (draws_B2[:, 1:] * (length - width + 1)).floor()
    place = torch.arange(length, device=draws_B2.device)[None]
    return (place >= start) & (place < start + width)
