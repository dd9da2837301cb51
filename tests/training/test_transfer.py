"""Pretrained trunks: the weights that are shipped, checkpoints by path, frozen or tuned."""

import math
from dataclasses import replace

import pytest
import torch
import torchaudio
from avc_fixtures import SHORT_RUN
from costs import multiply_adds

from schemas.errors import RequestError
from training.loop import train
from training.models import load_model, transfer
from training.networks.checkpoint import num_parameters
from training.networks.pretrained import audio_trunk, image_trunk

SMALL = transfer.Config(audio_width=8, hidden=32, embedding=16)


@torch.inference_mode()
def test_efficientnet_lite0_is_the_one_of_imagenet():
    """3.37 M parameters without its classifier (4.65 M with) and 0.407 GMAC at 224 px: the model card of Lite0."""
    trunk = image_trunk("efficientnet_lite0", "").eval()

    places, macs = multiply_adds(trunk, torch.zeros(1, 3, 224, 224))

    assert places.shape == (1, 1280, 7, 7)
    assert num_parameters(trunk) == 4_652_008 - 1_281_000
    assert macs / 1e9 == pytest.approx(0.407, rel=0.06)


def test_shipped_weights_are_not_random_ones():
    """Pretrained filters answer edges: the stem's are smooth, where untrained ones are noise."""
    torch.manual_seed(0)
    shipped, untrained = (image_trunk("efficientnet_lite0", w).net._conv_stem.weight for w in ("", "random"))

    def roughness(weight):
        return (torch.diff(weight, dim=-1).square().mean() / weight.square().mean()).item()

    assert roughness(shipped) < 0.65 * roughness(untrained)


def test_a_trunk_by_path_has_the_weights_of_its_file(tmp_path):
    torch.manual_seed(0)
    net = torchaudio.models.wav2vec2_base()
    torch.save(net.state_dict(), tmp_path / "net.pt")

    trunk = audio_trunk("torchaudio:wav2vec2_base", str(tmp_path / "net.pt"))

    first = next(iter(net.parameters()))
    second = next(iter(trunk.parameters()))
    assert torch.equal(first, second)
    with torch.inference_mode():
        assert trunk.eval()(torch.randn(1, 1, 16_000)).shape == (1, 768, 1, 49)


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint"):
        image_trunk("efficientnet_lite0", str(tmp_path / "none.pth"))
    torch.save({"something": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"lacks 247 weights of the network, first _conv_stem.weight"):
        image_trunk("efficientnet_lite0", str(tmp_path / "other.pth"))
    with pytest.raises(ValueError, match="no pretrained image trunk 'vgg'"):
        image_trunk("vgg", "")
    with pytest.raises(ValueError, match="no pretrained audio trunk 'vggish'"):
        audio_trunk("vggish", "")
    with pytest.raises(
        RequestError, match="cannot make torchaudio:wave2vec .*name an architecture that torchaudio"
    ):
        audio_trunk("torchaudio:wave2vec", "random")
    with pytest.raises(RequestError, match="timm:vgg needs a package that is missing .*timm.*install it"):
        image_trunk("timm:vgg", "random")


def test_a_frozen_trunk_does_not_change_and_a_tuned_one_does(dataset, tmp_path):
    before = image_trunk("efficientnet_lite0", "").state_dict()

    changed = {}
    for is_frozen in (True, False):
        config = replace(SMALL, is_image_frozen=is_frozen)
        folder = tmp_path / str(is_frozen)
        run = replace(SHORT_RUN, steps=2, sampling=replace(SHORT_RUN.sampling, clips_per_batch=4))
        told = list(train(dataset, "transfer", config, run, folder))
        after = load_model(folder / "last.pt").trunk["image"].state_dict()
        changed[is_frozen] = sum(not torch.equal(before[name], after[name]) for name in before)
        assert math.isfinite(told[-1]["val_loss"])

    assert changed[True] == 0 and changed[False] > 100
