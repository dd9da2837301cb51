"""What the training tests share: one small version, written once, and one tiny trained model."""

from pathlib import Path

import avc_fixtures as shards
import pytest
import torch
from avc_fixtures import tiny_run, written

from training.reading.dataset import Dataset

NUM_VIDEOS = {"train": 48, "val": 18, "eval": 24}


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # two fight each other wherever another job wants the second core


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Dataset:
    return written(tmp_path_factory.mktemp("fitting"), shards.corresponding(NUM_VIDEOS))


@pytest.fixture(scope="session")
def shuffled(tmp_path_factory) -> Dataset:
    return written(tmp_path_factory.mktemp("shuffled"), shards.corresponding(NUM_VIDEOS, is_shuffled=True))


@pytest.fixture(scope="session")
def trained(dataset, tmp_path_factory) -> Path:
    return tiny_run(dataset, tmp_path_factory.mktemp("run"))
