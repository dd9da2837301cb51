"""Checkpoints: state dictionaries with what is needed to build their model and to trust their inputs."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from schemas import signal
from schemas.storage import replacing
from training.models import AvcModel, configure, load

FORMAT = 1
FRONT_END = ("SAMPLE_RATE_HZ", "WINDOW", "HOP", "N_FFT", "N_MELS", "MEL_LOW_HZ", "MEL_HIGH_HZ", "LOG_FLOOR")


def front_end() -> dict[str, float]:
    """The constants of the signal chain that a model's weights are only good for."""
    return {name: float(getattr(signal, name)) for name in FRONT_END}


def save_checkpoint(path: Path, model_name: str, config: Any, state: dict, facts: dict[str, Any]) -> None:
    """Writes a checkpoint whole or not at all; `facts` (plain values) say how it came to be."""
    content = {
        "format": FORMAT,
        "model": model_name,
        "config": asdict(config),
        "front_end": front_end(),
        "state": {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()},
        "facts": facts,
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint. Raises ValueError where it was made with another signal chain."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} has checkpoint format {content.get('format')}, this reads {FORMAT}")
    ours, theirs = front_end(), content["front_end"]
    differing = [name for name in sorted(ours | theirs) if ours.get(name) != theirs.get(name)]
    if differing:
        values = ", ".join(f"{name}: {theirs.get(name)} there, {ours.get(name)} here" for name in differing)
        raise ValueError(f"{path} was trained on another front end ({values}); train again")
    return content


def load_model(path: Path) -> AvcModel:
    """The model of a checkpoint, on the CPU and in evaluation mode."""
    content = read_checkpoint(path)
    name = content["model"]
    model = load(name).build(configure(name, content["config"]))
    model.load_state_dict(content["state"])
    return model.eval()


def num_parameters(model: nn.Module) -> int:
    """How many numbers are learnt."""
    return sum(parameter.numel() for parameter in model.parameters())
