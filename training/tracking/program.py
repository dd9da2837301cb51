"""How `mlflow.pyfunc` scores arrays with a registered program.

A copy of this file is stored in each registered model, beside its program: it must not import anything from this
repository.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow.pytorch
import numpy as np
import torch


class Program:
    """The exported program of a model, from arrays to logits."""

    def __init__(self, program: torch.nn.Module) -> None:
        self._program = program

    def predict(self, data: Mapping[str, np.ndarray], params: Mapping[str, Any] | None = None) -> np.ndarray:
        """Logits (B,) that `frames` (uint8) belong to the `audio` (float32) of the same row; it takes no `params`."""
        frames, audio = (torch.from_numpy(np.ascontiguousarray(data[name])) for name in ("frames", "audio"))
        with torch.inference_mode():
            return self._program(frames, audio).numpy()


def _load_pyfunc(path: str) -> Program:
    """The program in a model's data folder; MLflow calls this function by name."""
    return Program(mlflow.pytorch.load_model(str(Path(path).parent)))
