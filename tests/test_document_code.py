"""Every fenced block of the documents is run by a test, or says why it can't be; and the blocks that are run fast."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import avc_fixtures as shards
import pytest
from documents import PAGES, REPOSITORY, TYPED, Block, blocks, output_of

from tasks.transport.lane_config import read_lanes

NOT_RUN = 12  # blocks that bear a mark: raise it only for what no test can have
MAX_PROSE = 120
MAX_README = 90
BLOCKS = [block for page in PAGES for block in blocks(page)]
# What a block of Python has in it -> the test that runs it.
ELSEWHERE = {
    ("docs/shards.md", ""): "tests/schemas/test_readers.py::test_a_snippet_of_the_document_reads_every_clip",
    ("docs/training.md", "seconds=120"): "tests/training/test_loop.py::test_the_documents_example_runs",
    (
        "docs/training.md",
        "@champion",
    ): "tests/training/test_store.py::test_the_document_s_champion_is_found_in_the_folder_that_it_names",
}
SHORTER = {"seconds=120": "seconds=None, steps=2", "num_scenes=360": "num_scenes=3"}  # what costs minutes
NUM_VIDEOS = {"train": 8, "val": 4, "eval": 6}
SOURCE = re.compile(r"\b(?:flows|tasks|training|schemas|tests|benchmarks|docs)/[\w/]+\.py\b")
# What other benchmarks measure with, or run in a peer's interpreter; and `make chaos`, which docs/operating.md has.
NO_BENCHMARK = {"__init__", "chaos", "content", "extract_peer", "read_peer"}


def run_by(block: Block) -> str:
    """The test elsewhere that runs a block of Python; empty for none."""
    return next(
        (test for (page, part), test in ELSEWHERE.items() if page == block.page and part in block.code), ""
    )


def unmarked(language: str) -> list[Block]:
    """The blocks of a language that are run."""
    return [block for block in BLOCKS if block.language == language and not block.why]


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_of_a_page_belongs_to_a_block(page):
    lines = (REPOSITORY / page).read_text().splitlines()

    assert sum(line.lstrip().startswith("```") for line in lines) == 2 * len(blocks(page))
    assert sum(line.startswith("<!-- not run: ") for line in lines) == sum(
        bool(one.why) for one in blocks(page)
    )


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_is_run_or_says_why_not(block):
    ways = {
        "console": block.page in TYPED,
        "python": True,  # by the tests below, or by that of ELSEWHERE
        "json": True,
        "ini": True,
        "{toctree}": True,  # `make check` builds the pages
    }
    assert block.why or ways.get(block.language, False), f"{block} is typed by nobody, and bears no mark"


def test_the_unit_for_systemd_is_one(tmp_path):
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze: apt-get install systemd")
    (block,) = [one for one in BLOCKS if one.language == "ini"]
    unit = tmp_path / "mcgurk.service"
    unit.write_text(block.code.replace("%h/mcgurk/.venv/bin/mcgurk", sys.executable))

    command = [analyze, "verify", "--user", str(unit)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"XDG_RUNTIME_DIR": str(tmp_path)}, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_the_blocks_that_are_not_run_are_counted():
    assert sum(bool(block.why) for block in BLOCKS) == NOT_RUN


@pytest.mark.parametrize("test", sorted(set(ELSEWHERE.values())))
def test_what_is_run_elsewhere_is_run_there(test):
    path, name = test.split("::")
    tree = ast.parse((REPOSITORY / path).read_text())

    assert name in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """What the demo leaves, as far as a reader of shards sees it."""
    root = tmp_path_factory.mktemp("documents") / "demo"
    shards.write_dataset(root, shards.corresponding(NUM_VIDEOS))
    return root


@pytest.mark.parametrize("block", [one for one in unmarked("python") if not run_by(one)], ids=str)
def test_a_block_of_python_runs(block, demo, tmp_path):
    (tmp_path / "demo").symlink_to(demo)
    code = block.code
    for long, short in SHORTER.items():
        code = code.replace(long, short)

    output = output_of(code, tmp_path, PYTHONPATH=str(REPOSITORY))

    if "webdataset" in code:
        assert len(output.splitlines()) == sum(NUM_VIDEOS.values())
    if "val_auc" in code:
        # The step, its loss and the AUC of the validation after it.
        assert re.fullmatch(r"1 \d\.\d+ \d\.\d+\n2 \d\.\d+ \d\.\d+\n", output)
    if "write_lists" in code:
        assert len(list((tmp_path / "studio").glob("media/*.mp4"))) == 3


@pytest.mark.parametrize("block", unmarked("json"), ids=str)
def test_a_list_of_lanes_is_taken(block, tmp_path):
    (tmp_path / "lanes.json").write_text(block.code)

    assert [lane.name for lane in read_lanes(tmp_path, ())] == [one["name"] for one in json.loads(block.code)]


@pytest.mark.parametrize("page", PAGES)
def test_prose_fits_a_line(page):
    text = (REPOSITORY / page).read_text()
    for block in blocks(page):
        text = text.replace(block.code, "")

    assert [line for line in text.splitlines() if len(line) >= MAX_PROSE and not line.startswith("|")] == []


def test_the_readme_is_short():
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= MAX_README


def test_pages_that_code_names_are_there():
    named = {
        name
        for package in ("flows", "tasks", "training", "schemas", "benchmarks")
        for path in (REPOSITORY / package).rglob("*")
        if path.suffix in (".py", ".html", ".md")
        for name in re.findall(r"\bdocs/[\w/-]+\.(?:md|py)", path.read_text())
    }
    assert named and {name for name in named if not (REPOSITORY / name).is_file()} == set()


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page):
    named = set(SOURCE.findall((REPOSITORY / page).read_text()))

    assert {name for name in named if not (REPOSITORY / name).is_file()} == set()


def test_every_benchmark_has_its_section():
    text = (REPOSITORY / "docs" / "benchmarks.md").read_text() + (
        REPOSITORY / "docs" / "studies.md"
    ).read_text()
    folder = REPOSITORY / "benchmarks"
    modules = {path.stem for path in folder.glob("*.py")}
    modules |= {path.parent.name for path in folder.glob("*/__main__.py")}
    modules -= NO_BENCHMARK

    assert {name for name in modules if f"python -m benchmarks.{name}" not in text} == set()
