"""A root on an S3-compatible store, built by a cluster that somebody else started and that loses a worker."""

import json
import re
import shlex
from pathlib import Path

import preloaded
import psutil
import pytest
from real_servers import dask_cluster, object_store
from roots import write_corpus

from schemas.manifest import part_numbers, part_path, read_header
from schemas.shard import read_version
from schemas.storage import lost_files, open_root
from training.reading.dataset import open_dataset
from training.reading.decoding import load_batch
from training.reading.sampling import Epoch, Sampling
from training.reading.streaming import batches

ROOT = "s3://bucket/root"
EVAL = 4
TRAIN = 12
VAL = ("train47", "train128")  # by the hashes of these ids
CLIPS = EVAL + TRAIN + len(VAL)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The environment in which s3://bucket is there."""
    with object_store(tmp_path_factory.mktemp("store")) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


class Remote:
    """The root as a user drives it: mcgurk in processes that hold the credentials."""

    def __init__(self, folder: Path, store: dict[str, str]) -> None:
        self.folder = folder
        self.store = store
        self.lists = [str(path) for path in write_corpus(folder / "media", EVAL, TRAIN, VAL)]

    @property
    def build(self) -> list[str]:
        asked = [
            "--preset",
            "small",
            "--source",
            f"folder:{self.folder / 'media'}",
            "--segments",
            *self.lists,
        ]
        return ["build", "--root", ROOT, "--state", str(self.folder / "state"), *asked]

    def mcgurk(self, *arguments: str, code: int = 0) -> str:
        return preloaded.run(arguments, self.folder / "output", self.store, code)


@pytest.fixture(scope="module")
def remote(store, prefect_server, tmp_path_factory):
    """The root after a build during which a worker was killed while it decoded."""
    folder = tmp_path_factory.mktemp("remote")
    remote = Remote(folder, store)
    with dask_cluster(folder / "cluster", 3, store) as cluster:
        command = [*remote.build, "--compute", cluster.address]
        build = preloaded.start(command, folder / "output", store)
        killed = _kill_one_that_decodes(cluster, build)
        build.join()
    assert (build.exitcode, killed) == (0, True), (folder / "output").read_text()
    return remote


def _kill_one_that_decodes(cluster, build) -> bool:
    while build.is_alive():
        for worker in cluster.workers:
            media = psutil.Process(worker.pid).children(recursive=True)
            if media:
                worker.kill()
                worker.wait()
                psutil.wait_procs(media, timeout=30)
                return not any(process.is_running() for process in media)
        build.join(0.02)
    return False


def test_it_is_whole_and_has_the_bytes_of_a_local_build(remote):
    local = remote.folder / "local"
    arguments = ["--root", str(local), *remote.build[5:], "--compute", "threads"]

    remote.mcgurk("build", *arguments)

    version = read_version(open_root(ROOT))
    assert version == read_version(local)
    assert sum(shard.num_samples for shard in version.shards) == CLIPS


def test_a_second_build_does_nothing(remote):
    before = _objects()

    plan = json.loads(remote.mcgurk("plan", *remote.build[1:], "--json").splitlines()[-1])
    told = remote.mcgurk(*remote.build, "--compute", "threads")

    assert all(counts["done"] and sum(counts.values()) == counts["done"] for counts in plan.values())
    assert told.count("nothing to do") >= 7
    assert _objects() == before


def _objects() -> dict[str, tuple]:
    store = open_root(ROOT).fs
    found = store.find("bucket/root", detail=True, refresh=True)
    return {name: (facts["size"], facts["LastModified"]) for name, facts in found.items()}


def test_no_object_is_half_written_or_left_over(remote):
    root = open_root(ROOT)
    headers = [
        header
        for name in ("clips", "features", "shards")
        for part in part_numbers(root / name)
        if (header := read_header(part_path(root / name, part)))
    ]

    assert len(headers) == 9
    assert [name for header in headers for name in lost_files(root, header.files)] == []
    assert [name for name in _objects() if name.rsplit("/", 1)[1].startswith(".")] == []


def test_its_version_is_proved_from_the_objects_and_from_the_clips(remote):
    state = str(remote.folder / "state")
    told = remote.mcgurk("verify", "--root", ROOT, "--state", state, "--rebuild", "--compute", "threads")

    assert f"{CLIPS} clips, 3 rebuilt" in told
    assert "every shard rebuilt from its clips is identical" in told


def test_training_streams_its_tars(remote):
    root = open_root(ROOT)
    dataset = open_dataset(root, read_version(root)).split("train")
    epoch = Epoch(dataset, Sampling(clips_per_batch=4, steps_per_clip=2), 0, 0)

    streamed = list(batches(epoch))

    assert dataset.shards.has_ranges
    assert len(streamed) == TRAIN // 4
    for batch, plan in zip(streamed, epoch, strict=True):
        alone = load_batch(dataset, plan, epoch.sampling.view)
        assert all((getattr(batch, name) == value).all() for name, value in vars(alone).items())


def test_a_model_is_trained_from_its_tars_and_registered(remote):
    state = remote.folder / "state"
    told = remote.mcgurk("train", "--root", ROOT, "--state", str(state), "--set", "steps=2")

    assert "promoted: the first champion" in told
    (report,) = re.findall(r"^report  (.+)$", told, re.MULTILINE)
    assert Path(report).is_relative_to(state) and Path(report).stat().st_size > 10_000
    assert (state / "mlruns" / "mlflow.db").is_file()
    (following,) = re.findall(r"^next: mcgurk (.+)$", told, re.MULTILINE)
    assert "last trained on at" in remote.mcgurk(*shlex.split(following)), "and it is taken"


def test_a_take_down_reaches_the_store_and_prune_keeps_what_stands(remote):
    options = ["--root", ROOT, "--state", str(remote.folder / "state")]

    remote.mcgurk("forget", "train03", *options)
    pruned = remote.mcgurk("prune", *options)
    status = json.loads(remote.mcgurk("status", "--root", ROOT, "--json").splitlines()[-1])

    version = read_version(open_root(ROOT))
    assert status["dataset_version"] == version.digest
    assert (status["in_shards"], status["forgotten"]) == (CLIPS - 1, 1)
    assert "0 file(s) removed" in pruned
    assert [name for name in _objects() if "train03" in name] == []
    assert "every byte matches what was recorded" in remote.mcgurk("verify", *options)
