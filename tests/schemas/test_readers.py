"""Read by everybody: the snippets of docs/shards.md, each in a process of its own, on a version just built."""

import re
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from documents import REPOSITORY, output_of
from roots import Root, write_clips

from schemas.shard import read_version

DOCUMENT = (REPOSITORY / "docs" / "shards.md").read_text()
IDS = ["-dash", "_under", "plain", "zeta"]
SNIPPETS = {
    re.findall(r"^#+ (.+)$", DOCUMENT[: found.start()], re.MULTILINE)[-1] + f" {number}": found[1]
    for number, found in enumerate(re.finditer(r"^```python\n(.+?)^```", DOCUMENT, re.MULTILINE | re.DOTALL))
}
MAY_REPEAT = "Several nodes"  # which draws with replacement


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readers")
    root = Root(folder / "root", f"folder:{folder / 'media'}", write_clips(folder / "media", IDS))
    root.build()
    assert len(read_version(root.path).shards) == 2
    return root.path


@pytest.fixture(scope="module")
def address(root):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_of_the_document_reads_every_clip(name, root, address, tmp_path, system_ffmpeg):
    if "HTTP" in name and not shutil.which("curl"):
        pytest.skip("no curl: apt-get install curl")
    snippet = SNIPPETS[name].replace("127.0.0.1:8000", address)
    path = str(REPOSITORY) if "mcgurk" in snippet else ""

    caches = {"HF_HOME": str(tmp_path), "CROISSANT_CACHE": str(tmp_path)}
    output = output_of(snippet, root, HF_HUB_OFFLINE="1", PYTHONPATH=path, **caches)

    told = [word for word in output.split() if re.fullmatch(r"\S+_0_\d+", word)]
    assert sorted(set(told)) == sorted(f"{video}_0_2000" for video in IDS)
    assert len(told) == len(IDS) or MAY_REPEAT in name
