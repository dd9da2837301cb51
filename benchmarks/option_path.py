"""How many files and functions of ours one option of `build` passes through, before and after a change of the code.

`python -m benchmarks.option_path [--option per_class] [--before CHECKOUT]`: one plan, with a value that nothing
else has; each call of our code that has the value, in an argument or in a field of one, is a stop.
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
OURS = ("schemas", "tasks", "training", "flows")
VALUE = 987_654_321  # of a number of segments; nothing else is as large
DEEPEST = 4  # fields of fields that are looked into
OWN = f"{os.environ.get('PYTHONPATH', HERE)}/"  # where the traced code lies


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--option", choices=("per_class", "sample"), default="per_class", help="one that is a number"
    )
    parser.add_argument("--before", help="a checkout of the code to compare with")
    parser.add_argument("--trace", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trace:
        print(json.dumps(stops_of(options.option)))
        return
    sides = {"before": options.before, "now": str(HERE)}
    counts = {name: _traced(code, options.option) for name, code in sides.items() if code}
    flag = f"--{options.option.replace('_', '-')}"
    print(f"{flag:<14}{'files passed':>14}{'functions':>12}{'files that name it':>20}{'lines':>8}")
    for name, stops in counts.items():
        passed = {stop.partition(":")[0] for stop in stops}
        lines = named_in(Path(sides[name]), options.option)
        print(f"{name:<14}{len(passed):>14}{len(stops):>12}{len(set(lines)):>20}{len(lines):>8}")


def named_in(code: Path, option: str) -> list[str]:
    """The files of the four packages that name an option, one for each line that does."""
    name = re.compile(rf"\b{option}\b|--{option.replace('_', '-')}\b")
    paths = [path for package in OURS for path in sorted((code / package).rglob("*.py"))]
    return [str(path) for path in paths for line in path.read_text().splitlines() if name.search(line)]


def _traced(code: str, option: str) -> list[str]:
    """The stops in the code of a checkout, found by a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--trace", "--option", option]
    environment = {**os.environ, "PYTHONPATH": code}
    done = subprocess.run(command, env=environment, cwd=code, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def stops_of(option: str) -> list[str]:
    """`file:function` of each call of ours that had the value while a plan was made."""
    run = _command_line()
    found: set[str] = set()

    def look(frame: Any, event: str, argument: object) -> None:
        path = frame.f_code.co_filename
        if (
            event == "call"
            and path.startswith(OWN)
            and ".venv" not in path
            and any(_has(one) for one in frame.f_locals.values())
        ):
            found.add(f"{path.removeprefix(OWN)}:{frame.f_code.co_qualname}")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.csv"
        path.write_text('aaaaaaaaaaa, 0.000, 10.000, "/m/04rlf"\n')
        arguments = ["plan", "--root", f"{folder}/root", "--segments", str(path), "--source", "youtube"]
        sys.setprofile(look)
        try:
            run([*arguments, f"--{option.replace('_', '-')}", str(VALUE)])
        finally:
            sys.setprofile(None)
    return sorted(found)


def _command_line() -> Any:
    """The console script of whichever code is traced."""
    # An editable install would serve the modules that the traced code lacks.
    sys.meta_path[:] = [one for one in sys.meta_path if "ditable" not in repr(one)]
    name = "flows.commands.cli" if Path(OWN, "flows", "commands").is_dir() else "flows.cli"
    return import_module(name).main


def _has(value: object, depth: int = 0) -> bool:
    """Whether a value is ours, or holds it in its fields."""
    if isinstance(value, int | str):
        return value in (VALUE, str(VALUE))
    if depth < DEEPEST:
        return any(_has(one, depth + 1) for one in _inside(value))
    return False


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, argparse.Namespace):
        yield from vars(value).values()
    elif dataclasses.is_dataclass(value):
        yield from (getattr(value, field.name, None) for field in dataclasses.fields(value))
    elif isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value


if __name__ == "__main__":
    main()
