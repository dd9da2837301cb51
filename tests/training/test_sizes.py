"""Layer tables of our own networks: weights, multiplications and shapes, worked out by hand."""

import pytest
import torch
from costs import at, convolutions, multiply_adds

from training.models import contrastive, many_to_many, sync
from training.networks.checkpoint import num_parameters

# `contrastive`: 3x3 convolutions in pairs, a BatchNorm each, pooled between the stages; the first looks at 112 px by
# 7x7 with stride 4 (28 x 28 places, then 14 x 14 and 7 x 7), or at 64 x 100 log-mel by 3x3 with stride 2
# (32 x 50, 16 x 25, 8 x 12, 4 x 6). Four frequency rows of 128 channels are 512 for the sound's head.
IMAGE = (3, 16, 16, 32, 32, 64, 64)
AUDIO = (2, 16, 16, 32, 32, 64, 64, 128, 128)
IMAGE_PLACES = [784, 784, 196, 196, 49, 49]
AUDIO_PLACES = [1600, 1600, 400, 400, 96, 96, 24, 24]


def trunk(first_kernel: int, *channels: int) -> int:
    """Parameters of a `vgg`: its convolutions, and scale and shift of a norm after each."""
    return sum(convolutions(first_kernel, *channels)) + 2 * sum(channels[1:])


def residual(first_kernel: int, channels_in: int, width: int, num_stages: int) -> int:
    """Parameters of a `resnet` with a block a stage; all stages but the first have a 1x1 shortcut with a norm."""
    stem = channels_in * width * first_kernel**2 + 2 * width
    first = 2 * 9 * width * width + 4 * width
    wider = [width * 2**stage for stage in range(1, num_stages)]
    return stem + first + sum(9 * c * c // 2 + 9 * c * c + 4 * c + c * c // 2 + 2 * c for c in wider)


def head(channels: int, hidden: int = 256, embedding: int = 128) -> int:
    """Parameters of a projection: 1x1, norm, 1x1 with bias to the embedding and a weight."""
    return channels * hidden + 2 * hidden + (hidden + 1) * (embedding + 1)


def deep(*channels: int) -> list[int]:
    """Two pairs a stage."""
    return [c for c in channels for _ in range(4)]


LEARNT = 2  # temperature and bias
SMALL = trunk(7, *IMAGE) + trunk(3, *AUDIO) + head(64) + head(512) + LEARNT
# Torchvision's, without their last layer
RESNET18 = 11_689_512 - 513_000
RESNET34 = 21_797_672 - 513_000
STEM = 3 * 64 * 49 - 2 * 64 * 9  # by which the stem of a sound, 3x3 of two channels, is smaller
CONTRASTIVE = {
    "small": SMALL,
    **dict.fromkeys(("sigmoid", "within_clip", "within_class", "dropout"), SMALL),
    "motion": SMALL + 3 * 16 * 49,  # three more channels are seen
    "spectrogram": SMALL + 2 * 16 * (49 - 9) + head(8 * 128) - head(512),  # 7x7 with stride 4; eight rows
    "wave": SMALL + 64 * 400 + 2 * 64,  # filters of 25 ms, and their norm
    "shallow": trunk(7, *IMAGE[:5]) + trunk(3, *AUDIO[:7]) + head(32) + head(8 * 64) + LEARNT,
    "deep": trunk(7, 3, *deep(16, 32, 64)) + trunk(3, 2, *deep(16, 32, 64, 128))
    + head(64) + head(512) + LEARNT,
    "residual": residual(7, 3, 16, 3) + residual(3, 2, 16, 3) + head(64) + head(8 * 64) + LEARNT,
    "resnet18": 2 * RESNET18 - STEM + head(512) + head(4 * 512) + LEARNT,
    "large": 2 * RESNET34 - STEM + head(512, 1024, 256) + head(4 * 512, 1024, 256) + LEARNT,
}  # fmt: skip


@pytest.mark.parametrize("preset", contrastive.PRESETS)
def test_every_preset_of_the_default_has_the_parameters_of_its_layers(preset):
    assert num_parameters(contrastive.build(contrastive.PRESETS[preset])) == CONTRASTIVE[preset]


@torch.inference_mode()
def test_the_default_costs_what_its_layers_do():
    """582,868 parameters; 11.5 M multiply-adds a picture and 21.3 M a sound."""
    model = contrastive.build(contrastive.PRESETS["small"]).eval()

    seen, of_picture = multiply_adds(model.encode_image, torch.zeros(1, 3, 112, 112))
    heard, of_sound = multiply_adds(model.encode_audio, torch.zeros(1, 64, 100))

    assert num_parameters(model) == 582_868
    projected = 49 * (64 * 256 + 256 * 129)
    assert of_picture == at(IMAGE_PLACES, convolutions(7, *IMAGE)) + projected == 11_490_304
    projected = 6 * (512 * 256 + 256 * 129)
    assert of_sound == at(AUDIO_PLACES, convolutions(3, *AUDIO)) + projected == 21_278_208
    assert seen["vector"].shape == heard["vector"].shape == (1, 128)
    assert seen["map"].shape == (1, 128, 7, 7) and heard["map"].shape == (1, 128, 6)


# `sync`: 7x7 with stride 4 on a frame's difference and its size (56 px to 14 x 14), 3x3 with stride 2 twice (7 x 7,
# 4 x 4); the sound's bins and their rises by kernels of 4 (stride 1) and 8 (stride 4); over time, 5 and 3 moments.
SEEN = [2 * 16 * 49, 16 * 32 * 9, 32 * 64 * 9]
HEARD = [128 * 128 * 4, 128 * 128 * 8]
IN_TIME = [128 * 128 * 5, 128 * 32 * 3]


@torch.inference_mode()
def test_sync_costs_what_its_layers_do():
    """410,945 parameters; 138 M multiply-adds for six seconds of pictures and 73 M for their sound."""
    model = sync.build(sync.PRESETS["small"]).eval()

    seen, of_pictures = multiply_adds(model.encode_image, torch.zeros(1, 150, 3, 56, 56))
    heard, of_sound = multiply_adds(model.encode_audio, torch.zeros(1, 64, 600))
    curve, of_curve = multiply_adds(model.curve, seen["vector"], heard["vector"])

    norms = 2 * (16 + 32 + 64 + 128 + 128 + 128 + 128)
    biases = 2 * 32
    assert num_parameters(model) == sum(SEEN + HEARD) + 2 * sum(IN_TIME) + norms + biases + 1 == 410_945
    assert of_pictures == 150 * (at([196, 49, 16], SEEN) + sum(IN_TIME)) == 138_336_000
    assert of_sound == at([601, 150], HEARD) + 150 * sum(IN_TIME) == 73_179_136
    assert of_curve == 101 * 150 * 32
    assert seen["map"].shape == (1, 64, 4, 4) and heard["map"].shape == (1, 32, 150)
    assert curve.shape == (1, 101)


def test_the_large_sync_has_the_parameters_of_its_layers():
    """Four times as wide, with 128 dimensions."""
    seen = 2 * 64 * 49 + 64 * 128 * 9 + 128 * 256 * 9
    heard = 128 * 512 * 4 + 512 * 512 * 8
    in_time = 512 * 512 * 5 + 512 * 128 * 3 + 128
    norms = 2 * (64 + 128 + 256 + 4 * 512)

    assert num_parameters(sync.build(sync.PRESETS["large"])) == seen + heard + 2 * in_time + norms + 1


# `many_to_many`: AVE-Net's trunks, a quarter as wide, with stride 2 on 112 px (56 x 56, 28 x 28, 14 x 14, 7 x 7).
SEED = (16, 16, 32, 32, 64, 64, 128, 128)
PROJECTION = 2 * 128 * 128
FUSE = 4 * 128 * 256
GRU = 2 * 3 * 128 * (256 + 128)
ANSWERS = 256


@torch.inference_mode()
def test_the_posters_network_costs_what_its_layers_do():
    """1,084,618 parameters; 41 M multiply-adds a picture, 20 M a sound, 0.43 M a pair in a row of them."""
    model = many_to_many.build(many_to_many.PRESETS["small"]).eval()
    row = torch.zeros(2, 6, 128)  # two clips of six steps

    seen, of_picture = multiply_adds(model.encode_image, torch.zeros(1, 3, 112, 112))
    heard, of_sound = multiply_adds(model.encode_audio, torch.zeros(1, 64, 100))
    (steps, offsets), of_rows = multiply_adds(model.sequence, row, row)

    places = [3136, 3136, 784, 784, 196, 196, 49, 49]
    assert num_parameters(model) == 1_084_618
    assert of_picture == at(places, convolutions(3, 3, *SEED)) + PROJECTION == 41_126_912
    assert of_sound == at(AUDIO_PLACES, convolutions(3, 1, *SEED)) + PROJECTION == 20_096_000
    assert of_rows == 12 * (FUSE + GRU + ANSWERS) + 2 * 9 * 256 == 5_119_488
    assert seen["vector"].shape == heard["vector"].shape == (1, 128)
    assert steps.shape == (2, 6) and offsets.shape == (2, 9)
