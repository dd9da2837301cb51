"""Augmentation on the device of the model; the random numbers come with the steps, and are keyed by them.

Loudness, brightness and the like identify a video without telling what it shows: varied at random, they are no shortcut
(strengths as in the L3-Net family: brightness 32/255, saturation 0.5 to 1.5). The position of a crop, and the shift of
a sound, are planned with the batch (`training/reading/sampling.py`), so that less is read.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from schemas.errors import RequestError

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
LEAST_POWER = 1e-12  # silence has no power to compare with
FRAMES_NDIM = 5  # of steps that show several frames


@dataclass(frozen=True)
class Augmentation:
    """How far inputs may be changed; zeros leave them unchanged."""

    flip: bool = True
    brightness: float = 32 / 255
    contrast: float = 0.3
    saturation: float = 0.5
    # Any hue, and often none: colour tells videos apart long before it tells what makes a sound.
    hue_turns: float = 0.5
    grey_share: float = 0.2
    gain_db: float = 6.0
    tilt_db: float = 6.0  # of the spectrum's ends against each other: microphones and rooms differ as much
    mask_bins: float = 1 / 8  # mild SpecAugment (Park et al. 2019): at most this share of the bins
    mask_time: float = 1 / 10  # and this share of the time
    blur_share: float = 0.0  # of the pictures, out of focus
    blur_share_of_width: float = 0.02  # at most: the deviation of the blur
    mix_share: float = 0.0  # of the sounds, mixed with another of the batch
    mix_db: float = 10.0  # at least this far below, at most twice as far: the sound stays the picture's own


STRENGTHS = {
    "none": Augmentation(
        flip=False,
        brightness=0.0,
        contrast=0.0,
        saturation=0.0,
        hue_turns=0.0,
        grey_share=0.0,
        gain_db=0.0,
        tilt_db=0.0,
        mask_bins=0.0,
        mask_time=0.0,
    ),
    "usual": Augmentation(),
    "strong": Augmentation(blur_share=0.3, mix_share=0.3),
}


def strength_named(name: str) -> Augmentation:
    """One of STRENGTHS. Raises RequestError with the choices."""
    if name not in STRENGTHS:
        raise RequestError(f"no augmentation {name!r}; choose from {', '.join(STRENGTHS)}")
    return STRENGTHS[name]


def augment_images(images_BCHW: Tensor, strength: Augmentation, draws_BU: Tensor) -> Tensor:
    """Pictures in [0, 1], each flipped or not, brighter or darker, paler or more colourful, in focus or not.

    All frames of a step (B, frames, 3, H, W) are changed alike. `draws_BU`: numbers in [0, 1), six per picture.
    """
    if strength.flip:
        rows_N = (draws_BU[:, 0] < 0.5).nonzero()[:, 0]
        images_BCHW = images_BCHW.index_copy(0, rows_N, images_BCHW[rows_N].flip(-1))
    if (
        strength.brightness
        or strength.contrast
        or strength.saturation
        or strength.hue_turns
        or strength.grey_share
    ):
        images_BCHW = _coloured(images_BCHW, strength, draws_BU)
    if not strength.blur_share:
        return images_BCHW
    if images_BCHW.ndim == FRAMES_NDIM:
        num_frames = images_BCHW.shape[1]
        frame_draws_BU = draws_BU.repeat_interleave(num_frames, 0)
        return _blurred(images_BCHW.flatten(0, 1), strength, frame_draws_BU).unflatten(0, (-1, num_frames))
    return _blurred(images_BCHW, strength, draws_BU)


def _coloured(images_BCHW: Tensor, strength: Augmentation, draws_BU: Tensor) -> Tensor:
    """One affine map of colours for each picture, or each step's frames: a single pass over the pixels."""
    rows_BHW3 = images_BCHW.movedim(-3, -1)  # as decoders return them: no copy
    pixels_BP3 = rows_BHW3.flatten(1, -2)
    map_B33, offset_B3 = _colour_map(pixels_BP3.mean(1), strength, draws_BU)
    changed_BP3 = torch.baddbmm(offset_B3[:, None], pixels_BP3, map_B33.transpose(1, 2)).clamp_(0.0, 1.0)
    return changed_BP3.view(rows_BHW3.shape).movedim(-1, -3)


def _colour_map(mean_B3: Tensor, strength: Augmentation, draws_BU: Tensor) -> tuple[Tensor, Tensor]:
    """The change of colours c, as M c + d: M (B, 3, 3) and d (B, 3). `mean_B3`: the mean of the pictures.

    Hue turns and saturation scales the part of a colour besides its luma; contrast scales the distance from the
    picture's mean luma; brightness is added.
    """
    uniform_UB11 = _centred(draws_BU)[..., 0]
    luma_3 = torch.tensor(LUMA, device=mean_B3.device)
    turn_B33 = _hue_turn(2 * math.pi * strength.hue_turns * uniform_UB11[4, :, 0, 0])
    colour_B11 = (1 + strength.saturation * uniform_UB11[1]) * (
        uniform_UB11[5] >= 2 * strength.grey_share - 1
    )
    contrast_B11 = 1 + strength.contrast * uniform_UB11[2]
    # A rotation about the grey axis leaves grey unchanged, so rotating c minus its luma is rotating c, minus its luma.
    map_B33 = contrast_B11 * (colour_B11 * turn_B33 + (1 - colour_B11) * luma_3)
    mean_luma_B1 = (mean_B3 * luma_3).sum(1, keepdim=True)
    offset_B1 = (1 - contrast_B11[:, 0]) * mean_luma_B1 + strength.brightness * uniform_UB11[3, :, 0]
    return map_B33, offset_B1.expand(-1, 3)


def _blurred(images_BCHW: Tensor, strength: Augmentation, draws_BU: Tensor) -> Tensor:
    """Some of the pictures out of focus: a Gaussian each, its deviation up to a share of the width."""
    drawn_B = _again(draws_BU[:, 0])
    rows_N = (drawn_B < strength.blur_share).nonzero()[:, 0]
    if not len(rows_N):
        return images_BCHW
    most_px = strength.blur_share_of_width * images_BCHW.shape[-1]
    deviation_N1 = most_px * (drawn_B[rows_N] / strength.blur_share).clamp_min(0.05)[:, None]
    reach = math.ceil(2 * most_px)
    place_K = torch.arange(-reach, reach + 1, device=images_BCHW.device)
    kernel_NK = (-(place_K**2) / (2 * deviation_N1**2)).softmax(1)
    # One convolution for all: every channel of every picture is a group with its picture's kernel.
    some_1GHW = images_BCHW[rows_N].flatten(0, 1)[None]
    kernel_G1K = kernel_NK.repeat_interleave(images_BCHW.shape[1], 0)[:, None]
    for kernel_G1HW, padding in (
        (kernel_G1K[:, :, None], (reach, reach, 0, 0)),
        (kernel_G1K[..., None], (0, 0, reach, reach)),
    ):
        some_1GHW = functional.conv2d(
            functional.pad(some_1GHW, padding, mode="replicate"), kernel_G1HW, groups=len(kernel_G1K)
        )
    return images_BCHW.index_copy(0, rows_N, some_1GHW[0].unflatten(0, (len(rows_N), -1)))


def augment_wave(wave_BCS: Tensor, strength: Augmentation, draws_BU: Tensor) -> Tensor:
    """Waves, each louder or softer, with a moment of silence and, for some, another wave mixed under them.

    `draws_BU`: numbers in [0, 1), six per sound.
    """
    if strength.mix_share:
        other_B, gain_B = _under(strength, draws_BU)
        power_B = wave_BCS.square().mean((1, 2)).clamp_min(LEAST_POWER)
        gain_B = gain_B * (power_B / power_B[other_B]).sqrt()
        wave_BCS = wave_BCS + gain_B[:, None, None] * wave_BCS[other_B]
    wave_BCS = wave_BCS * 10 ** (strength.gain_db * _centred(draws_BU)[0, :, :, :, 0] / 20)
    length = wave_BCS.shape[2]
    return wave_BCS.masked_fill(_covered(length, strength.mask_time, draws_BU[:, 4:6])[:, None], 0.0)


def augment_log_mel(log_mel_BMT: Tensor, strength: Augmentation, draws_BU: Tensor) -> Tensor:
    """Log power spectra, each louder or softer, with a band and a moment covered by its mean.

    Some have another one of the same batch (or of the same piece or rank's share of it) mixed under them. `draws_BU`:
    numbers in [0, 1), six per sound.
    """
    if strength.mix_share:
        other_B, gain_B = _under(strength, draws_BU)
        power_B = (math.log(10) * log_mel_BMT).flatten(1).logsumexp(1) / math.log(10)
        under_B = 2 * gain_B.log10() + power_B - power_B[other_B]
        under_BMT = log_mel_BMT[other_B] + under_B[:, None, None]
        log_mel_BMT = torch.logaddexp(math.log(10) * log_mel_BMT, math.log(10) * under_BMT) / math.log(10)
    uniform = _centred(draws_BU)[:, :, 0]
    slope_M1 = torch.linspace(-0.5, 0.5, log_mel_BMT.shape[1], device=log_mel_BMT.device)[:, None]
    # A gain is a constant in log10 power.
    log_mel_BMT = (
        log_mel_BMT + (strength.gain_db * uniform[0] + strength.tilt_db * uniform[1] * slope_M1) / 10
    )
    fill_B11 = log_mel_BMT.mean((1, 2), keepdim=True)
    mels_BM1 = _covered(log_mel_BMT.shape[1], strength.mask_bins, draws_BU[:, 2:4])[:, :, None]
    frames_B1T = _covered(log_mel_BMT.shape[2], strength.mask_time, draws_BU[:, 4:6])[:, None]
    return torch.where(mels_BM1 | frames_B1T, fill_B11, log_mel_BMT)


def _under(strength: Augmentation, draws_BU: Tensor) -> tuple[Tensor, Tensor]:
    """Which other sound of the batch is mixed under each, and its amplitude relative to it; 0 for most."""
    batch = len(draws_BU)
    drawn_BU = _again(draws_BU)
    other_B = (
        torch.arange(batch, device=draws_BU.device) + 1 + (drawn_BU[:, 1] * (batch - 1)).long()
    ) % batch
    gain_B = 10 ** (-strength.mix_db * (1 + drawn_BU[:, 2]) / 20)
    return other_B, torch.where(drawn_BU[:, 0] < strength.mix_share, gain_B, 0.0)


def _again(draws: Tensor) -> Tensor:
    """Further numbers in [0, 1): the lower bits of the given ones."""
    return (draws * 1024) % 1.0


def _hue_turn(angle_B: Tensor) -> Tensor:
    """Rotations of colour about the grey axis: (B, 3, 3)."""
    cos = angle_B.cos()[:, None, None]
    sin = angle_B.sin()[:, None, None]
    mean_33 = torch.full((3, 3), 1 / 3, device=angle_B.device)
    cross_33 = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle_B.device) / math.sqrt(3)
    return cos * torch.eye(3, device=angle_B.device) + (1 - cos) * mean_33 + sin * cross_33


def _centred(draws_BU: Tensor) -> Tensor:
    """Numbers in [-1, 1): (U, B, 1, 1, 1)."""
    return (2 * draws_BU.T - 1)[:, :, None, None, None]


def _covered(length: int, share: float, draws_B2: Tensor) -> Tensor:
    """A run of at most that share of the positions in each row: bool (B, length)."""
    most = round(share * length)
    width = (draws_B2[:, :1] * (most + 1)).floor()
    start = (draws_B2[:, 1:] * (length - width + 1)).floor()
    place = torch.arange(length, device=draws_B2.device)[None]
    return (place >= start) & (place < start + width)
