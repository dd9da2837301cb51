"""The blocks of README and docs, typed by a reader: in a shell that knows nothing of us, in the folder of the text.

Only what no test can have is put in its place: addresses of hosts, stores and servers, and the hours of a training.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from real_servers import hosting, object_store

from flows.servers import free_port, login, prefect_api
from tasks.sources.scenes.corpus import CorpusConfig, media_path, render_scene

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/lists.md", "docs/operating.md", "docs/clusters.md", "docs/training.md")
FENCE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = ("$ make", "$ pip install mcgurk[slurm]")  # tried by continuous integration, and in test_recipes
STAYING = {  # commands that stay, and what they say when they are there
    "mcgurk serve": "Deployments",
    "dask scheduler": "Scheduler at",
    "dask worker": "Registered to",
    "prefect worker": "started!",
}
NO_CREDENTIALS = "AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... AWS_DEFAULT_REGION=..."
NEW = "{number}"  # a folder of the store for each block
STAYS = "{line} >{log} 2>&1 & until grep -q '{said}' {log}; do kill -0 $! || {{ cat {log}; exit 1; }}; sleep 0.2; done"
A_SHORT_ONE = "mcgurk train --set steps=2 "  # nobody waits an hour for a test
LABELS = {
    "/m/0jbk": "Animal",
    "/m/0bt9lr": "Dog",
    "/m/01yrx": "Cat",
    "/m/07yv9": "Vehicle",
    "/m/04szw": "Musical instrument",
}
TRAIN = (
    "train47",
    "train128",
    *(f"train{n:02d}" for n in range(4)),
)  # the first two become val, by their hashes
EVAL = tuple(f"eval{n:02d}" for n in range(4))
OTHERS = tuple(f"video{n:02d}" for n in range(12))


@dataclass(frozen=True)
class Block:
    """One block of commands: where it stands, and its lines."""

    place: str
    lines: tuple[str, ...]

    @property
    def commands(self) -> list[str]:
        """What is typed, with lines that go on as one."""
        typed = [line[2:] if line[:2] in ("$ ", "> ") else None for line in self.lines]
        text = "\n".join(line for line in typed if line is not None)
        return [line.rstrip() for line in re.sub(r"\s+#.*", "", text).splitlines()]


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page that are tried here."""
    text = (REPOSITORY / page).read_text()
    for found in FENCE.finditer(text):
        if not found[1].startswith(ELSEWHERE):
            yield Block(f"{page}:{text.count(chr(10), 0, found.start()) + 1}", tuple(found[1].splitlines()))


BLOCKS = [block for page in PAGES for block in blocks(page)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the text takes for granted: a folder with videos, copies, and lists of both."""
    folder = tmp_path_factory.mktemp("folder")
    videos = folder / "videos"
    ids = (*TRAIN, *EVAL, *OTHERS)
    corpus = CorpusConfig(len(ids), seed=5)
    for index, video_id in enumerate(ids):
        render_scene(videos, corpus, index)
        media_path(videos, corpus, index).rename(videos / f"{video_id}.mp4")
    (videos / "media").rmdir()
    _write_lists(folder)
    (folder / "copies").mkdir()
    with tarfile.open(folder / "copies" / "vggsound-0.tar", "w") as tar:
        for video_id in ids:
            tar.add(videos / f"{video_id}.mp4", f"{video_id}.mp4")
    return folder


def _write_lists(folder: Path) -> None:
    machine_ids = list(LABELS)
    parents = {"/m/0jbk": ["/m/0bt9lr", "/m/01yrx"]}
    classes = [{"id": mid, "name": name, "child_ids": parents.get(mid, [])} for mid, name in LABELS.items()]
    (folder / "ontology.json").write_text(json.dumps(classes))
    rows = [f'{n},{mid},"{name}"' for n, (mid, name) in enumerate(LABELS.items())]
    (folder / "class_labels_indices.csv").write_text("\n".join(["index,mid,display_name", *rows, ""]))

    def label(n: int) -> str:
        return machine_ids[n % len(machine_ids)]

    for name, ids in {"balanced_train": TRAIN, "unbalanced_train": OTHERS[:6], "eval": EVAL}.items():
        lines = [f'{video_id}, 0.000, 10.000, "{label(n)}"' for n, video_id in enumerate(ids)]
        (folder / f"{name}_segments.csv").write_text("\n".join([*lines, ""]))
    split = ["train"] * 8 + ["test"] * 4
    lines = [f'{video_id},0,"dog barking",{split[n]}' for n, video_id in enumerate(OTHERS)]
    (folder / "vggsound.csv").write_text("\n".join([*lines, ""]))
    for name, ids in {"train": TRAIN, "eval": EVAL}.items():
        lines = [f"{video_id}_0\t1.000\t2.500\t{label(n)}" for n, video_id in enumerate(ids)]
        header = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel"
        (folder / f"audioset_{name}_strong.tsv").write_text("\n".join([header, *lines, ""]))


@pytest.fixture(scope="module")
def stand_ins(folder, tmp_path_factory) -> Iterator[dict[str, str]]:
    """What stands in the text -> what is there instead."""
    state = tmp_path_factory.mktemp("prefect")
    with ExitStack() as stack:
        host = stack.enter_context(hosting({path.stem: path for path in (folder / "videos").iterdir()}))
        store = stack.enter_context(object_store(tmp_path_factory.mktemp("store")))
        api = stack.enter_context(prefect_api(state))
        credentials = " ".join(f"{name}={value}" for name, value in store.items())
        yield {
            "http://host/": f"{host.address}/",
            "VIDEO_ID": OTHERS[0],
            "/srv/data": "data",
            f"AWS_ENDPOINT_URL=https://store.example {NO_CREDENTIALS}": credentials,
            "https://prefect.example/api PREFECT_API_AUTH_STRING=...": f"{api} PREFECT_API_AUTH_STRING={login(state)}",
            "s3://bucket/audioset --state state": f"s3://bucket/audioset{NEW} --state state",
        }


def typed(block: Block, stand_ins: Mapping[str, str], number: int) -> str:
    """The block as a script; a command that stays is left when what it serves is there."""
    lines = []
    text = "\n".join(block.commands)
    for named, here in {**stand_ins, "10.0.0.1:8786": f"127.0.0.1:{free_port()}"}.items():
        text = text.replace(named, here)
    text = text.replace(NEW, str(number)).replace("--host 10.0.0.1", "--host 127.0.0.1")
    for line in text.replace("mcgurk train ", A_SHORT_ONE).splitlines():
        said = next((said for begins, said in STAYING.items() if line.startswith(begins)), None)
        lines.append(line if said is None else STAYS.format(line=line, said=said, log=f"log{len(lines)}"))
    return "\n".join(["set -e", "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT", *lines])


@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=[block.place for block in BLOCKS])
def test_a_block_can_be_typed_as_it_stands(number, folder, stand_ins, tmp_path):
    block = BLOCKS[number]
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": str(tmp_path)}

    done = subprocess.run(
        ["bash", "-c", typed(block, stand_ins, number)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
