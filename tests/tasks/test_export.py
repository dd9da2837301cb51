"""A version in other formats, each read back by its own library: every member of every sample, byte for byte."""

import ast
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import fsspec
import pytest
from documents import REPOSITORY, output_of
from roots import Root, write_clips

from flows.commands.cli import main
from schemas.errors import DataError, RequestError
from schemas.shard import exclude_path, index_path, read_version, receipt_path, tar_path
from schemas.storage import open_root
from tasks import exports
from tasks.export import PARTIAL, export
from tasks.leases import unread
from tasks.progress import observing
from tasks.versions.verify import check_shard, check_version, read_samples

IDS = ["-dash", "_under", "plain", "zeta"]
MOSAIC = REPOSITORY / "build" / "mosaic"
# What a reader's process prints: the digest of each member, by key and suffix.
DIGESTS = """
import hashlib, json
def told(rows):
    digests = {row.pop("key"): {name: hashlib.sha256(one).hexdigest() for name, one in row.items()} for row in rows}
    print("DIGESTS", json.dumps(digests))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A version of two splits."""
    folder = tmp_path_factory.mktemp("media")
    root = Root(tmp_path_factory.mktemp("root"), f"folder:{folder}", write_clips(folder, IDS))
    root.config = replace(root.config, val_share=0.5)
    root.build()
    assert {shard.split for shard in read_version(root.path).shards} == {"train", "val"}
    return root.path


@pytest.fixture
def root(built, tmp_path):
    return shutil.copytree(built, tmp_path / "root")


def digests_in(root) -> dict[str, dict[str, str]]:
    """Of what the tars hold, as DIGESTS prints them."""
    samples = {}
    for shard in read_version(root).shards:
        samples |= read_samples(tar_path(root, shard))
    return {
        key: {suffix: sha256(one).hexdigest() for suffix, (_, one) in members.items()}
        for key, members in samples.items()
    }


def read_by(snippet: str, folder: Path, **environment: str) -> dict[str, dict[str, str]]:
    """What a reader in a process of its own finds."""
    output = output_of(DIGESTS + snippet, folder, **environment)
    (line,) = [line for line in output.splitlines() if line.startswith("DIGESTS ")]
    return json.loads(line.removeprefix("DIGESTS "))


def exported(root, name: str, folder: Path, **environment: str) -> str:
    """Exports as a user does, and returns what was printed."""
    command = [sys.executable, "-m", "flows.commands.cli", "export", "--root", root, "--to", name, folder]
    done = subprocess.run(
        [str(one) for one in command],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_datasets_reads_the_folder_of_hf(root, tmp_path):
    folder = tmp_path / "out"
    said = exported(root, "hf", folder)
    snippet = """
from pathlib import Path
from datasets import Audio, load_dataset
rows = []
for split in ("train", "val"):
    for row in load_dataset(str(Path.cwd()), split=split, streaming=True).cast_column("wav", Audio(decode=False)):
        rows.append({"key": row["__key__"], "wav": row["wav"]["bytes"]})
told(rows)
"""

    found = read_by(snippet, folder, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "cache"))

    assert found == {key: {"wav": members["wav"]} for key, members in digests_in(root).items()}
    assert f'next, in Python: datasets.load_dataset("{folder}", split="' in said
    assert f"version {read_version(root).digest[:12]}: 4 samples of 2 shards" in said


def test_the_folder_of_hf_is_a_root_of_its_own(root, tmp_path):
    folder = tmp_path / "out"

    export(root, None, "hf", folder)

    version = read_version(folder)
    assert version == read_version(root)
    assert check_version(folder, version.digest).differences == []
    assert [check_shard(folder, shard).differences for shard in version.shards] == [[], []]
    assert (folder / "README.md").read_text() == (root / "README.md").read_text()
    # Parts of manifests name what failed and what was taken down.
    assert {path.name for path in (folder / "shards").iterdir()} == {
        path(folder, shard).name for shard in version.shards for path in (tar_path, index_path)
    }


def test_tars_are_linked_on_their_own_disk(root, tmp_path):
    export(root, None, "hf", tmp_path / "out")

    for shard in read_version(root).shards:
        assert tar_path(tmp_path / "out", shard).samefile(tar_path(root, shard))


def test_litdata_reads_its_folder(root, tmp_path):
    folder = tmp_path / "out"
    exported(root, "litdata", folder)
    snippet = """
import litdata
told([dict(row) for split in ("train", "val") for row in litdata.StreamingDataset(split)])
"""

    assert read_by(snippet, folder, HOME=str(tmp_path)) == digests_in(root)


@pytest.mark.slow
def test_mosaic_reads_its_folder(root, tmp_path):
    if not (MOSAIC / "streaming").is_dir():
        pytest.skip("no MosaicML streaming in build/mosaic: make build/mosaic/.ready")
    folder = tmp_path / "out"
    said = exported(root, "mds", folder, PYTHONPATH=str(MOSAIC))
    snippet = """
from streaming import StreamingDataset
told([row for split in ("train", "val") for row in StreamingDataset(local=".", split=split, batch_size=1)])
"""

    assert read_by(snippet, folder, PYTHONPATH=str(MOSAIC)) == digests_in(root)
    assert f'streaming.StreamingDataset(local="{folder}", split="' in said


def test_a_library_that_is_not_installed_is_named_with_the_command_that_installs_it(root, tmp_path, capsys):
    code = main(["export", "--root", str(root), "--to", "mds", str(tmp_path / "out")])

    told = capsys.readouterr().err
    assert code == 2
    assert "--to mds needs mosaicml-streaming, which is not installed: pip install 'mcgurk[mds]'" in told
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_an_unknown_format_is_refused_with_the_choices(root, tmp_path, capsys):
    assert main(["export", "--root", str(root), "--to", "zip", str(tmp_path / "out")]) == 2
    assert "no format 'zip'; choose from hf, litdata, mds" in capsys.readouterr().err


def test_a_folder_elsewhere_is_refused(root, capsys):
    assert main(["export", "--root", str(root), "--to", "hf", "s3://bucket/out"]) == 2
    assert "s3://bucket/out is not a folder on this machine" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_there_is_never_written_over(kind, root, tmp_path):
    target = tmp_path / "out"
    theirs = target if kind == "file" else target / "theirs"
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("mine")

    with pytest.raises(RequestError, match="exists and is not an empty folder"):
        export(root, None, "hf", target)

    assert theirs.read_text() == "mine"


def test_an_empty_folder_is_taken(root, tmp_path):
    (tmp_path / "out").mkdir()

    export(root, None, "hf", tmp_path / "out")

    assert read_version(tmp_path / "out") == read_version(root)


def test_a_link_stays_and_what_it_leads_to_is_written(root, tmp_path):
    (tmp_path / "disk").mkdir()
    for name, there in (("empty", "disk/empty"), ("nothing", "disk/new")):
        (tmp_path / name).symlink_to(tmp_path / there)
    (tmp_path / "disk" / "empty").mkdir()

    for name in ("empty", "nothing"):
        done = export(root, None, "hf", tmp_path / name)
        assert (tmp_path / name).is_symlink() and not done.folder.is_symlink()
        assert read_version(done.folder) == read_version(tmp_path / name) == read_version(root)


@pytest.mark.parametrize("name", ["file/out", "x" * 250])
def test_what_no_folder_can_be_named_is_refused(name, root, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")

    assert main(["export", "--root", str(root), "--to", "hf", str(tmp_path / name)]) == 2

    assert "can't be a folder" in capsys.readouterr().err


def test_a_disk_of_its_own_is_refused_before_anything_is_written(root, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "disk")  # to mount takes rights

    with pytest.raises(RequestError, match="is a mount point and can't be replaced: name a folder in it"):
        export(root, None, "hf", tmp_path / "disk")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "root"]


def test_a_full_disk_is_that_of_the_export(root, tmp_path, monkeypatch, capsys):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(source), None, str(target))

    monkeypatch.setattr(shutil, "copyfile", full)

    assert main(["export", "--root", str(root), "--to", "hf", str(tmp_path / "out")]) == 1

    told = capsys.readouterr().err
    assert "is full, and nothing is left of the export: make room, or name a folder on another disk" in told
    assert str(root) not in told.partition("stopped:")[2]
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize("inside", ["published", "versions/published", "../link/published"])
def test_a_folder_in_the_root_is_refused_as_no_take_down_reaches_it(root, tmp_path, inside):
    (tmp_path / "link").symlink_to(root)

    with pytest.raises(RequestError, match="lies in the root, where a take-down would not reach it"):
        export(root, None, "hf", root / inside)


def test_what_is_printed_is_python_whatever_the_folder_is_named(root, tmp_path):
    folder = tmp_path / 'a "quoted\\folder'

    done = export(root, None, "hf", folder)

    assert ast.literal_eval(done.read.partition("(")[2].partition(", split=")[0]) == str(folder)


@pytest.mark.parametrize("name", ["hf", "litdata"])
def test_damage_is_not_passed_on_and_leaves_nothing(name, root, tmp_path):
    tar = tar_path(root, read_version(root).shards[-1])
    content = bytearray(tar.read_bytes())
    content[1000] ^= 1
    tar.write_bytes(content)

    with pytest.raises(DataError, match=rf"{tar.name} is damaged: its sha256 is not .* --mend"):
        export(root, None, name, tmp_path / "out")

    assert [path.name for path in tmp_path.iterdir()] == ["root"]


@pytest.mark.parametrize(
    ("name", "path_of"), [("hf", index_path), ("hf", receipt_path), ("litdata", receipt_path)]
)
def test_neither_is_a_damaged_table(name, path_of, root, tmp_path):
    version = read_version(root)
    path = path_of(root, version.shards[-1] if path_of is index_path else version.digest)
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)

    with pytest.raises(DataError, match=rf"{path.name} is damaged: .* --mend"):
        export(root, None, name, tmp_path / "out")

    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_sidecar_that_is_gone_is_named(root, tmp_path):
    sidecar = index_path(root, read_version(root).shards[0])
    sidecar.unlink()

    with pytest.raises(DataError, match=rf"{sidecar.name} is gone; .* --mend"):
        export(root, None, "hf", tmp_path / "out")


def test_a_shard_that_is_gone_is_named(root, tmp_path):
    tar = tar_path(root, read_version(root).shards[0])
    tar.unlink()

    with pytest.raises(DataError, match=rf"{tar.name} is gone"):
        export(root, None, "hf", tmp_path / "out")


def test_what_a_killed_export_left_is_removed(root, tmp_path):
    left = tmp_path / f".out{PARTIAL}"
    (left / "shards").mkdir(parents=True)
    (left / "half").write_text("of a tar")

    export(root, None, "hf", tmp_path / "out")

    assert not left.exists() and not (tmp_path / "out" / "half").exists()


def test_two_exports_to_one_folder_are_not_mixed(root, tmp_path):
    left = tmp_path / f".out{PARTIAL}"
    left.mkdir()
    handle = os.open(left, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)

    with pytest.raises(RequestError, match="is being written by another export"):
        export(root, None, "hf", tmp_path / "out")

    os.close(handle)
    assert left.is_dir()


def test_prune_leaves_alone_what_is_being_exported(root, tmp_path):
    digest = read_version(root).digest
    found = []

    def look(what: str, done: int, total: int) -> None:
        with unread(root / "state", digest) as is_unread:
            found.append((what, done, total, is_unread))

    with observing(look):
        export(root, root / "state", "hf", tmp_path / "out")

    assert found == [("export", 1, 2, False), ("export", 2, 2, False)]


def test_the_exclusion_list_goes_along_and_leaves_nothing_out(root, tmp_path):
    version = read_version(root)
    exclude_path(root, version.digest).write_text("plain_0_2000\n")

    done = export(root, None, "litdata", tmp_path / "out")

    assert done.num_excluded == 1
    assert (tmp_path / "out" / f"{version.digest}.exclude.txt").read_text() == "plain_0_2000\n"
    count = sum(
        len(json.loads(path.read_text())["chunks"]) > 0 for path in (tmp_path / "out").glob("*/index.json")
    )
    assert count == 2


def test_the_card_goes_along_with_the_way_to_read(root, tmp_path):
    export(root, None, "litdata", tmp_path / "out")

    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("# Dataset version ") and "The labels are AudioSet's, CC BY 4.0." in card
    assert 'import litdata\n\nlitdata.StreamingDataset("./' in card
    assert "webdataset" not in card.partition("## Reading it")[2]
    (receipt,) = (tmp_path / "out").glob("*.receipt.parquet")
    assert f"`{receipt.name}` says all of it but the media" in card


@pytest.mark.parametrize("name", exports.names())
def test_each_format_is_a_plug_in(name):
    module = exports.format_named(name)

    assert "{folder}" in module.READ and "{split}" in module.READ
    assert module.__doc__


@pytest.mark.parametrize("name", ["hf", "litdata"])
def test_a_root_on_a_store_is_exported_too(name, root, tmp_path):
    store = fsspec.filesystem("memory")
    store.put(str(root / "versions"), "/bucket/root/versions", recursive=True)
    store.put(str(root / "shards"), "/bucket/root/shards", recursive=True)

    there = export(open_root("memory://bucket/root"), None, name, tmp_path / "there")
    here = export(root, None, name, tmp_path / "here")

    assert there.version == here.version
    assert files_in(tmp_path / "there") == files_in(tmp_path / "here")


def files_in(folder: Path) -> dict[str, bytes]:
    """All but LitData's indexes, which hold the time of day."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "index.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
