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
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from documents import TYPED, blocks
from real_servers import hosting, object_store

from flows.services.servers import free_port
from tasks.sources.scenes.corpus import CorpusConfig, media_path, render_scene

pytestmark = pytest.mark.slow

STAYING = {  # commands that stay, and what they say when they are there
    "mcgurk serve": "Deployments",
    "dask scheduler": "Scheduler at",
    "dask worker": "Registered to",
    "prefect worker": "started!",
}
# On a terminal, as a reader has it.
STAYS = """script -qefc '{line}' {log} >/dev/null &
until grep -q '{said}' {log}; do kill -0 $! || {{ cat {log}; exit 1; }}; sleep 0.2; done"""
A_SHORT_ONE = "mcgurk train --set steps=2 "  # nobody waits an hour for a test
PREFECT_LOGIN = "PREFECT_API_AUTH_STRING"
NO_CREDENTIALS = "AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... AWS_DEFAULT_REGION=..."
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
# By their hashes for evaluation, too, where no list says so: in a folder that is cut in windows.
EVAL = ("other006", "other007", "other011", "other014")
OTHERS = tuple(f"video{n:02d}" for n in range(12))


def commands(page: str) -> list[str]:
    """What the reader of a page types, line by line; a line that goes on stands as several."""
    typed_here = [block.code for block in blocks(page) if block.language == "console" and not block.why]
    lines = [line[2:] for code in typed_here for line in code.splitlines() if line.startswith(("$ ", "> "))]
    return [re.sub(r"\s+#.*", "", line) for line in lines]


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
    (folder / "hub-files").mkdir()
    rows = [{"__key__": video_id, "mp4": (videos / f"{video_id}.mp4").read_bytes()} for video_id in OTHERS]
    pq.write_table(pa.Table.from_pylist(rows), folder / "hub-files" / "0.parquet")
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
    rows = [f"videos/{video_id}.mp4,Dog|Cat" for video_id in OTHERS]
    (folder / "mine.csv").write_text("\n".join(["file,label", *rows, ""]))
    for name, ids in {"train": TRAIN, "test": EVAL}.items():
        (folder / f"{name}.csv").write_text("\n".join(["file", *(f"{video_id}.mp4" for video_id in ids), ""]))
    split = ["train"] * 8 + ["test"] * 4
    lines = [f'{video_id},0,"dog barking",{split[n]}' for n, video_id in enumerate(OTHERS)]
    (folder / "vggsound.csv").write_text("\n".join([*lines, ""]))
    for name, ids in {"train": TRAIN, "eval": EVAL}.items():
        lines = [f"{video_id}_0\t1.000\t2.500\t{label(n)}" for n, video_id in enumerate(ids)]
        header = "segment_id\tstart_time_seconds\tend_time_seconds\tlabel"
        (folder / f"audioset_{name}_strong.tsv").write_text("\n".join([header, *lines, ""]))


@pytest.fixture(scope="module")
def stand_ins(folder, prefect_server, tmp_path_factory) -> Iterator[dict[str, str]]:
    """What stands in the text -> what is there instead."""
    ports = (free_port(), free_port())
    with ExitStack() as stack:
        host = stack.enter_context(hosting({path.stem: path for path in (folder / "videos").iterdir()}))
        store = stack.enter_context(object_store(tmp_path_factory.mktemp("store")))
        login = os.environ[PREFECT_LOGIN]
        credentials = " ".join(f"{name}={value}" for name, value in store.items())
        yield {
            "http://host/": f"{host.address}/",
            "VIDEO_ID": OTHERS[0],
            "/srv/data": "data",
            f"AWS_ENDPOINT_URL=https://store.example {NO_CREDENTIALS}": credentials,
            f"https://prefect.example/api {PREFECT_LOGIN}=...": f"{prefect_server} {PREFECT_LOGIN}={login}",
            "10.0.0.1 --port 8786": f"127.0.0.1 --port {ports[0]}",
            "tcp://10.0.0.1:8786": f"tcp://127.0.0.1:{ports[0]}",
            "--port 8786": f"--port {ports[1]}",
            "tls://10.0.0.1:8786": f"tls://127.0.0.1:{ports[1]}",
            "R/reports/RUN/best.pt": "$(ls R/reports/*/best.pt)",
            "--nworkers 8": "--nworkers 2",  # this machine has not the memory of theirs
        }


def typed(page: str, stand_ins: Mapping[str, str]) -> str:
    """The page as a script; a command that stays is left when what it serves is there."""
    text = "\n".join([TYPED[page], *commands(page)]).replace("mcgurk train ", A_SHORT_ONE)
    for named, here in stand_ins.items():
        text = text.replace(named, here)
    lines = ["set -e", "trap 'code=$?; kill $(jobs -p) 2>/dev/null || true; wait; exit $code' EXIT"]
    for number, line in enumerate(text.splitlines()):
        said = next((said for begins, said in STAYING.items() if line.startswith(begins)), None)
        lines.append(line if said is None else STAYS.format(line=line, said=said, log=f"log{number}"))
    return "\n".join(lines)


@pytest.mark.parametrize("page", TYPED)
def test_the_commands_of_a_page_can_be_typed_one_after_the_other(page, folder, stand_ins, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": str(tmp_path)}

    done = subprocess.run(
        ["bash", "-xc", typed(page, stand_ins)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
