"""A training in a process of its own: `python training_process.py ROOT FOLDER SETTINGS`, a line of JSON a step."""

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from avc_fixtures import SHORT_RUN, TINY

from schemas.shard import read_version
from training.loop import TrainConfig, train
from training.reading.dataset import open_dataset
from training.reading.sampling import Sampling


def config(clips_per_batch: int = 8, **settings) -> TrainConfig:
    """Of a training that is the same in every process, and to rounding by however many ranks."""
    run = replace(SHORT_RUN, num_threads=1, is_deterministic=True, precision="float32")
    return replace(run, sampling=Sampling(clips_per_batch, 2), **settings)


def main() -> None:
    root, folder = (Path(path) for path in sys.argv[1:3])
    dataset = open_dataset(root, read_version(root))
    for metrics in train(dataset, "contrastive", TINY, config(**json.loads(sys.argv[3])), folder):
        # In one write: `print` may give the end of the line another, and ranks share a pipe.
        sys.stdout.write(json.dumps(metrics) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
