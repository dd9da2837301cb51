"""What is registered: a model with everything from pixels and wave to its logit inside."""

import torch
from torch import Tensor, nn

from schemas import signal
from training.frontend import LogMel
from training.models import AvcModel

EXAMPLE_BATCH = 2  # torch.export takes a dimension of size 1 for a constant


class Scorer(nn.Module):
    """`forward(frames, audio)` gives the logit that each frame, or run of frames, belongs to its sound."""

    def __init__(self, model: AvcModel) -> None:
        super().__init__()
        self.model = model
        # What is stored as a log-mel is made of the wave here.
        self.front_end = LogMel() if model.view.sound == "log_mel" else model.front_end

    def forward(self, frames: Tensor, audio: Tensor) -> Tensor:
        """Logits (B,) of uint8 frames and waves in [-1, 1] as `examples` has them."""
        images = frames.transpose(-1, -2).transpose(-2, -3).float() / 255
        V = self.model.encode_image(images)["vector"]
        A = self.model.encode_audio(self.front_end(audio))["vector"]
        return self.model.calibrated(self.model.paired(V, A))


def examples(model: AvcModel) -> tuple[Tensor, Tensor]:
    """Frames (B, [frames,] px, px, 3) and waves (B, samples), or (B, channels, samples), of silence and black."""
    view, constants = model.view, model.front_end.constants
    run = (view.num_frames,) if view.num_frames > 1 else ()
    frames = torch.zeros(EXAMPLE_BATCH, *run, view.frame_px, view.frame_px, 3, dtype=torch.uint8)
    if view.sound == "log_mel":
        return frames, torch.zeros(EXAMPLE_BATCH, signal.SAMPLE_RATE_HZ * view.sound_ms // 1000)
    samples = round(constants["sample_rate_hz"] * view.sound_ms / 1000)
    return frames, torch.zeros(EXAMPLE_BATCH, int(constants.get("channels", 1)), samples)
