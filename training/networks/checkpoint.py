"""Checkpoints: state dictionaries with the configuration of their model and the constants of its inputs."""

import pickle
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from torch import Tensor, nn

from schemas.errors import MissingError, RequestError
from schemas.storage import replacing
from training.interface import AvcModel

FORMAT = 2
DIGEST = "sha256"  # stored beside the fields of Checkpoint
REMEDY = "restore it from a copy, or remove it and train again"


class ResumeError(RequestError):
    """A checkpoint that this code cannot load, or from which this training cannot be resumed."""


class Checkpoint(TypedDict):
    """The content of a checkpoint file."""

    format: int
    model: str  # the name of its file in `models/`
    config: dict[str, Any]  # fields of its Config
    front_end: dict[str, float]  # the constants of its front end
    state: dict[str, Tensor]
    facts: dict[str, Any]  # how it was made: plain values and tensors


def save_checkpoint(
    path: Path, model_name: str, config: Any, model: AvcModel, facts: Mapping[str, Any]
) -> None:
    """Writes a checkpoint completely or not at all; `facts` (plain values and tensors) describe how it was made."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "model": model_name,
        "config": asdict(config),
        "front_end": model.front_end.constants,
        "state": {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()},
        "facts": dict(facts),
    }
    with replacing(path) as temporary:
        torch.save({**content, DIGEST: digest_of_content(content)}, temporary)


def read_checkpoint(path: Path) -> Checkpoint:
    """The content of a checkpoint. Raises ResumeError for one of another format, and as `read_weights` does."""
    content = read_weights(path)
    if content.get("format") != FORMAT:
        raise ResumeError(
            f"{path} has checkpoint format {content.get('format')}, and this mcgurk reads {FORMAT}: train again"
        )
    digest = content.pop(DIGEST, None)  # absent in older ones
    if digest is not None and digest != digest_of_content(content):
        raise ResumeError(f"{path} is damaged: it is not what was saved; {REMEDY}")
    return cast(Checkpoint, content)


def digest_of_content(content: Any) -> str:
    """sha256 of plain values and tensors, by their names, types, shapes and bytes."""
    found = sha256()
    _add(found, content)
    return found.hexdigest()


def _add(found: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        for name, one in value.items():
            _add(found, name)
            _add(found, one)
    elif isinstance(value, list | tuple):
        for one in value:
            _add(found, one)
    elif isinstance(value, Tensor):
        found.update(f"{value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    else:
        found.update(f"{type(value).__name__} {value!r};".encode())


def read_weights(path: Path) -> dict[str, Any]:
    """The mapping that torch saved, on the CPU.

    Raises MissingError if there is no file, ResumeError if it holds anything but tensors and plain values by name.
    """
    if not path.is_file():
        raise MissingError(f"there is no checkpoint {path}: give the path of a file that torch.save wrote")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        EOFError,
        RuntimeError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
    ):
        raise ResumeError(
            f"{path} is not a checkpoint of tensors and plain values only, or is damaged: give one that torch.save "
            f"wrote from a state dictionary; {REMEDY}"
        ) from None  # torch's own message says how to load it anyway
    if not isinstance(content, dict):
        raise ResumeError(f"{path} is not a checkpoint: it holds a {type(content).__name__} instead of names")
    return content


def require_same(path: Path, what: str, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raises ResumeError, with both values, if the checkpoint at `path` has another `what` than `ours`."""
    differing = [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]
    if differing:
        values = ", ".join(f"{name}: {theirs.get(name)} there, {ours.get(name)} here" for name in differing)
        raise ResumeError(f"{path} was trained on another {what} ({values}); train again")


def num_parameters(model: nn.Module) -> int:
    """The number of parameters, frozen ones included."""
    return sum(parameter.numel() for parameter in model.parameters())
