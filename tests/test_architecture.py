"""The rules of the design that a reader of imports can hold: who may import whom, how long, how named."""

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("schemas", "tasks", "training", "flows")
MODULES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
PYTHON_FILES = sorted(
    [*MODULES, *(REPOSITORY / "tests").rglob("*.py"), *(REPOSITORY / "benchmarks").rglob("*.py")]
)
MAX_BODY = 50
MAX_MODULE = 400
MAX_PARAMETERS = 5

MAY_IMPORT = {
    "schemas": {"schemas"},
    "tasks": {"schemas", "tasks"},
    "training": {"schemas", "training"},
    "flows": {"schemas", "tasks", "training", "flows"},
}
# Costly or foreign packages, and the only places that may know them.
ONLY_IN = {
    "prefect": {
        "flows/task_runs.py",
        "flows/run_page.py",
        "flows/build_dataset.py",
        "flows/run_experiment.py",
        "flows/compare_models.py",
        "flows/canary.py",
        "flows/prune.py",
        "flows/recheck_take_downs.py",
        "flows/services/servers.py",
        "flows/credentials.py",
        "flows/services/runs.py",
        "flows/services/deployments.py",
        "flows/services/alarms.py",
    },
    "dask": {"flows/compute.py", "flows/services/local_cluster.py"},
    "distributed": {"flows/compute.py", "flows/services/local_cluster.py"},
    "great_expectations": {"schemas/expectations.py"},
    "mlflow": {
        "training/tracking/connection.py",
        "training/tracking/program.py",
        "training/tracking/pruning.py",
        "training/tracking/runs.py",
        "training/tracking/registry.py",
    },
    "yt_dlp": {"tasks/transport/ytdlp.py", "tasks/transport/ytdlp_hatches.py"},
    "ffmpeg": {"tasks/acquisition/doctor.py"},
    "av": {
        "tasks/media/",
        "training/reading/dataset.py",  # our own files, of our own making
        "tasks/sources/scenes/encode.py",
    },
    "torch": {"training/"},
    "streaming": {"tasks/exports/mds.py"},
    "litdata": {"tasks/exports/litdata.py"},
    "webdataset": {"training/reading/streaming.py"},
    "torchaudio": {"training/"},
}

# The rooms of a package from the ground up: a room imports what stands before its level, and itself.
LEVELS = {
    "tasks": (
        {"processes", "progress", "columns", "parts", "feature_files", "tombstones"},
        {"leases", "funnel", "inventory", "shard_files", "lists", "transport", "media"},
        {"files", "features"},
        {"sources", "standing"},
        {"acquisition"},
        {"failures", "versions", "windows"},
        {"own_lists", "story", "exports"},
        {"status", "export"},
        {"index", "download", "validate", "extract", "pack"},
        {"publish", "from_receipt"},
    ),
    "training": (
        {"reading", "estimates"},
        {"interface"},
        {"networks"},
        {"learning"},
        {"models", "tracking"},
        {"evaluation", "loop"},
        {"report"},
    ),
    "flows": (
        {"arguments", "presets", "credentials", "services", "task_runs"},
        {"compute", "run_page"},
        {"stages"},
        {"builds"},
        {"experiments"},
        {"build_dataset", "run_experiment", "prune", "recheck_take_downs"},
        {"compare_models", "canary"},
        {"commands"},
    ),
}


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_packages_import_only_what_stands_below_them(path):
    package = path.relative_to(REPOSITORY).parts[0]

    ours = {name.split(".")[0] for name in imports(path)} & set(PACKAGES)

    assert ours <= MAY_IMPORT[package]


def room_of(module: str) -> str:
    """`networks` of `training.networks.losses`; a module at the top is a room of its own."""
    return module.split(".")[1] if "." in module else ""


def imported_rooms(path: Path, package: str) -> set[str]:
    """The rooms of its own package that a file imports from."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package}."):
            found.add(room_of(node.module))
    return found


@pytest.mark.parametrize("package", LEVELS)
def test_each_room_stands_on_those_below_it(package):
    height = {room: number for number, level in enumerate(LEVELS[package]) for room in level}
    files = [path for path in MODULES if name_of(path).startswith(f"{package}/")]
    rooms = {path: room_of(name_of(path).removesuffix(".py").replace("/", ".")) for path in files}

    assert {room for room in rooms.values() if room != "__init__"} == set(height)
    upwards = [
        f"{name_of(path)} imports {package}.{other}"
        for path, room in rooms.items()
        for other in imported_rooms(path, package) - {room}
        if room != "__init__" and height[other] >= height[room]
    ]
    assert upwards == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_foreign_packages_are_known_in_one_place(path):
    top = {name.split(".")[0] for name in imports(path)}

    misplaced = {
        name
        for name, places in ONLY_IN.items()
        if name in top and not name_of(path).startswith(tuple(places))
    }

    assert not misplaced


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_and_functions_are_small_and_documented(path):
    tree = ast.parse(path.read_text())

    assert ast.get_docstring(tree)
    assert len(path.read_text().splitlines()) <= MAX_MODULE
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.end_lineno - node.body[0].lineno + 1
            parameters = [a for a in (*node.args.args, *node.args.kwonlyargs) if a.arg not in ("self", "cls")]
            assert body <= MAX_BODY, f"{node.name} has {body} lines"
            assert len(parameters) <= MAX_PARAMETERS, f"{node.name} has {len(parameters)} parameters"


def is_parallel(node: ast.AST) -> bool:
    """Whether it gives several names several expressions on one line; a swap does, and is none."""
    if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)):
        return False
    target = node.targets[0]
    if not isinstance(target, ast.Tuple):
        return False
    return sorted(map(ast.unparse, target.elts)) != sorted(map(ast.unparse, node.value.elts))


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
def test_each_line_assigns_one_thing(path):
    lines = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if is_parallel(node)]

    assert lines == []


# Folders of which every module is a plug-in, and the imports between plug-ins that are meant.
PLUGINS = ("training/models", "training/evaluation", "tasks/sources", "tasks/features", "tasks/exports")
SIBLINGS = {
    ("training/models/avol.py", "training.models.ave"),
    ("tasks/sources/studio.py", "tasks.sources.http"),
}


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports from, `from package import module` included."""
    found = imports(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("folder", PLUGINS)
def test_no_plug_in_imports_another(folder):
    files = [path for path in (REPOSITORY / folder).glob("*.py") if path.name != "__init__.py"]
    plugins = {f"{folder.replace('/', '.')}.{path.stem}": path for path in files}

    found = {
        (name_of(path), other)
        for name, path in plugins.items()
        for other in imported_modules(path) & plugins.keys() - {name}
    }

    assert found - SIBLINGS == set()


def test_nothing_is_called_utils():
    banned = {"utils", "util", "common", "helpers", "core", "misc"}

    assert not [name_of(path) for path in MODULES if banned & set(path.with_suffix("").parts[-3:])]


def test_the_lock_holds_exact_versions_and_no_addresses():
    lines = (REPOSITORY / "requirements.lock").read_text().splitlines()

    assert [line for line in lines if not re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []


def test_each_exception_to_the_rules_of_security_bears_its_reason():
    """`# noqa: S603  (why that is safe)`."""
    files = [*MODULES, *(REPOSITORY / "benchmarks").rglob("*.py"), *(REPOSITORY / ".ci").glob("*.py")]
    lines = [
        (path, line)
        for path in files
        for line in path.read_text().splitlines()
        if re.search(r"noqa:.*\bS\d", line)
    ]

    assert len(lines) > 10
    bare = [
        f"{name_of(path)}: {line.strip()}"
        for path, line in lines
        if not re.search(r"noqa:[ A-Z0-9,]+\(\w.*\)", line)
    ]
    assert bare == []


def test_one_place_of_the_stages_catches_whatever_a_stranger_causes():
    """`LaneWorkers._guarded`: what one video's answer raises is its own failure. All else that is unknown stops."""
    found = []
    for path in (one for one in MODULES if name_of(one).startswith("tasks/")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                handlers = [one for one in ast.walk(function) if isinstance(one, ast.ExceptHandler)]
                found += [(name_of(path), function.name) for one in handlers if catches_all(one)]

    assert found == [("tasks/acquisition/fetching.py", "_guarded")]


def catches_all(handler: ast.ExceptHandler) -> bool:
    """Whether it takes any exception and does not end in raising it as it came."""
    names = {one.id for one in ast.walk(handler.type) if isinstance(one, ast.Name)} if handler.type else {""}
    last = handler.body[-1]
    is_passed_on = isinstance(last, ast.Raise) and last.exc is None
    return bool(names & {"Exception", "BaseException", ""}) and not is_passed_on
