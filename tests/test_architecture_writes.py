"""What is written under a root or a state folder is written by `schemas/storage` or `schemas/files`: whole, and synced.

A call that makes, changes, renames or removes a file elsewhere stands here, with the reason why it may.
"""

import ast
from collections import Counter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("schemas", "tasks", "training", "flows")
MODULES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
WRITERS = ("schemas/storage.py", "schemas/files.py")
OWN = {"write_text", "write_bytes", "rename", "move"}  # functions of ours have these names; methods are meant
# Methods and functions that change files, whatever they are called on. SQLite writes by its own rules.
CHANGING = {
    "write_text", "write_bytes", "touch", "mkdir", "makedirs", "rename", "renames", "rmdir", "symlink_to",
    "hardlink_to", "truncate", "copyfile", "copyfileobj", "copytree", "copy2", "move", "rmtree", "OSFile",
    "save_model", "fdopen", "unlink", "hardlink", "link", "symlink",
}  # fmt: skip
NO_FILES = {"store.move"}  # of MLflow's tables
WRITING = set("wax+")  # in the mode of an open file
TORCH = "torch"

SCRATCH = "in a scratch folder, which the next run empties"
TEMPORARY = "the temporary file of `replacing`, or of a TemporaryDirectory"
LOCK = "a file that is locked, and says at most by whom"
LOG = "a log, of which nothing depends on a line"
REDONE = "a removal that the next run, or the next that holds the lease, does again if it comes undone"
STREAM = "no file: a pipe, a buffer in memory, or a path inside a tar"
PROCESS = "the note of a process, which means nothing without it"
EXPORT = "in the folder of an export, which is synced whole and then renamed; no part of a root"
ALLOWED = {
    "flows/builds/memory.py": {"unlink": (1, "settings of an earlier version, which those of the root precede")},
    "flows/builds/mend.py": {"unlink": (7, REDONE)},
    "flows/builds/rebuild.py": {"rmtree": (2, REDONE)},
    "flows/canary.py": {"rmtree": (1, REDONE)},
    "flows/commands/logs.py": {"open": (1, LOG)},
    "flows/compare_models.py": {"unlink": (1, REDONE)},
    "flows/experiments/run_marker.py": {"open": (1, LOCK)},
    "flows/experiments/upkeep.py": {"unlink": (1, REDONE)},
    "flows/services/alarms.py": {"unlink": (1, "of alarms that a new server tells once more")},
    "flows/services/keeper.py": {"open": (5, f"{LOCK}; {LOG}"), "unlink": (2, PROCESS)},
    "flows/services/rotation.py": {
        "open": (3, LOG), "copyfileobj": (2, LOG), "truncate": (1, LOG), "replace": (1, LOG),
    },
    "flows/services/runs.py": {"unlink": (4, PROCESS)},
    "flows/services/watchdog.py": {"rmtree": (1, "the folder for temporary files of a command")},
    "schemas/databases.py": {"unlink": (1, REDONE)},
    "tasks/acquisition/ledger.py": {"unlink": (1, "lines of a generation that the Parquet file says it holds")},
    "tasks/acquisition/retention.py": {"unlink": (1, REDONE), "rmdir": (1, REDONE)},
    "tasks/export.py": {
        "write_text": (1, EXPORT), "replace": (1, EXPORT), "rmtree": (2, EXPORT), "unlink": (1, EXPORT),
    },
    "tasks/exports/hf.py": {
        "mkdir": (2, EXPORT), "write_text": (1, EXPORT), "copyfile": (1, EXPORT), "link": (1, EXPORT),
    },
    "tasks/exports/litdata.py": {"mkdir": (1, EXPORT)},
    "tasks/extract.py": {"unlink": (3, REDONE)},
    "tasks/feature_files.py": {"OSFile": (1, TEMPORARY)},
    "tasks/features/audio.py": {"open": (1, STREAM)},
    "tasks/files/packed.py": {"mkdir": (1, SCRATCH)},
    "tasks/leases.py": {"open": (1, LOCK), "truncate": (1, LOCK), "unlink": (2, REDONE)},
    "tasks/media/cut.py": {
        "open": (1, SCRATCH), "unlink": (3, SCRATCH), "link": (1, SCRATCH), "copyfile": (1, SCRATCH),
    },
    "tasks/media/encode.py": {"open": (2, STREAM)},
    "tasks/media/sandbox.py": {"fdopen": (1, STREAM)},
    "tasks/processes.py": {"write_text": (1, TEMPORARY)},
    "tasks/shard_files.py": {"open": (2, TEMPORARY)},
    "tasks/sources/folder.py": {"mkdir": (1, SCRATCH), "symlink_to": (1, SCRATCH)},
    "tasks/sources/parquet.py": {"write_bytes": (1, SCRATCH)},
    "tasks/sources/scenes/encode.py": {"open": (1, TEMPORARY)},
    "tasks/sources/scenes/faults.py": {"write_bytes": (1, TEMPORARY)},
    "tasks/sources/tars.py": {"open": (1, SCRATCH), "unlink": (1, REDONE)},
    "tasks/transport/direct.py": {"replace": (1, SCRATCH), "unlink": (2, SCRATCH), "write_text": (1, TEMPORARY)},
    "tasks/transport/lanes.py": {"open": (1, LOCK)},
    "tasks/transport/limited.py": {"fdopen": (1, STREAM)},
    "tasks/transport/partials.py": {"rmtree": (2, SCRATCH), "unlink": (2, SCRATCH)},
    "tasks/versions/prune.py": {"unlink": (1, REDONE)},
    "tasks/versions/records.py": {"unlink": (2, REDONE)},
    "tasks/versions/traces.py": {"open": (1, f"{LOG}; synced"), "truncate": (1, f"{LOG}; synced")},
    "tasks/versions/unpacking.py": {"copyfile": (1, EXPORT)},
    "training/networks/checkpoint.py": {"save": (1, TEMPORARY)},
    "training/reading/shards.py": {"copyfileobj": (1, TEMPORARY)},
    "training/report/figures.py": {"open": (1, STREAM)},
    "training/tracking/registry.py": {
        "save": (1, TEMPORARY), "save_model": (1, TEMPORARY), "mkdir": (1, TEMPORARY), "copyfile": (1, TEMPORARY),
    },
    "training/tracking/runs.py": {"open": (1, "a line a step, whose cut end is dropped when it is read")},
}  # fmt: skip


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def is_writing(call: ast.Call) -> bool:
    """Whether it opens a file to write: by a mode that is written there."""
    modes = [*call.args[:2], *(one.value for one in call.keywords if one.arg == "mode")]
    texts = [one.value for one in modes if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return any(len(text) <= len("r+b") and WRITING & set(text) for text in texts)


def changes(path: Path) -> Counter[str]:
    """The calls in a module that change files, by their names; `open` where it is to write."""
    found: Counter[str] = Counter()
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)):
            continue
        is_method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if is_method else node.func.id
        if name in OWN and (not is_method or ast.unparse(node.func) in NO_FILES):
            continue
        is_of_path = name == "replace" and len(node.args) == 1 and not node.keywords
        is_of_path = is_of_path or ast.unparse(node.func) == "os.replace"
        is_of_torch = name == "save" and ast.unparse(node.func).startswith(TORCH)
        if name in CHANGING or is_of_path or is_of_torch or (name == "open" and is_writing(node)):
            found[name] += 1
    return found


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path) not in WRITERS], ids=name_of)
def test_files_are_changed_through_storage(path):
    allowed = {name: count for name, (count, _) in ALLOWED.get(name_of(path), {}).items()}

    assert changes(path) == allowed


def test_each_exception_has_a_reason_and_is_of_a_module_that_is_there():
    assert set(ALLOWED) <= {name_of(path) for path in MODULES}
    assert all(why for calls in ALLOWED.values() for _, why in calls.values())


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ('path.open("w")', {"open": 1}),
        ('open(path, mode="ab")', {"open": 1}),
        ('path.open("rb")', {}),
        ("path.write_text(text)", {"write_text": 1}),
        ("write_text(path, text)", {}),
        ("temporary.replace(path)", {"replace": 1}),
        ('text.replace("a", "b")', {}),
        ("os.replace(one, other)", {"replace": 1}),
        ("shutil.rmtree(folder)", {"rmtree": 1}),
        ("torch.save(content, path)", {"save": 1}),
    ],
)
def test_what_counts_as_a_change_of_files(tmp_path, line, names):
    (tmp_path / "one.py").write_text(line)

    assert changes(tmp_path / "one.py") == names
