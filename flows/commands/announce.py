"""What is printed before anything starts: the settings of a build, and the effect of changed ones; and commands."""

# pyarrow.compute makes its functions when it is imported: a type checker cannot see them.
# pyright: reportAttributeAccessIssue=false

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from flows.builds.memory import find_state, remembered_state
from flows.builds.pipeline import Pipeline
from schemas.errors import RequestError
from schemas.layout import SEGMENTS
from schemas.manifest import part_numbers
from schemas.shard import latest_digest, read_version
from schemas.storage import open_root
from tasks import features
from tasks.columns import read_columns
from tasks.transport.templates import without_secrets

WIDTH = 9  # of a setting's name


def settings_text(pipeline: Pipeline) -> str:
    """Root, state, preset, source and choice of a build, and below them the effect of each changed one."""
    settings = _settings(pipeline)
    before = _before(pipeline)
    changed = [name for name, value in before.items() if value != settings[name]]
    lines = [f"{'root':<{WIDTH}}{pipeline.root}"]
    for name, value in settings.items():
        was = f"  (until now {before[name]})" if name in changed else ""
        lines.append(f"{name:<{WIDTH}}{value}{was}")
    lines += [f"{'split':<{WIDTH}}{_shares(pipeline)}"] if pipeline.windows else []
    return "\n".join([*lines, *(_EFFECTS[name](pipeline) for name in changed)])


def _shares(pipeline: Pipeline) -> str:
    config = pipeline.config.index
    return (
        f"{config.val_share:.0%} of the videos are validation and {config.eval_share:.0%} evaluation, unless a list "
        "says which (--val-share, --eval-share)"
    )


def command(verb: str, root: Path | str, state: Path | None, *more: str) -> str:
    """A command of ours, ready to be pasted into a shell; it names the state folder if the root does not."""
    folder = root if isinstance(root, Path) else open_root(root)
    try:
        is_known = state is None or find_state(folder) == state
    except RequestError:
        is_known = False
    where = ["--root", str(root), *([] if is_known else ["--state", str(state)])]
    return shlex.join(["mcgurk", verb, *where, *more])


def require_segments(root: Path) -> None:
    """Raises RequestError for a root that has no segments, with the command that makes them."""
    if not part_numbers(root / SEGMENTS):
        build = shlex.join(["mcgurk", "build", "--root", str(root)])
        raise RequestError(
            f"{root} has no segments: build a dataset there first: {build} --segments LIST --source S"
        )


def _settings(pipeline: Pipeline) -> dict[str, str]:
    options = pipeline.options
    return {
        "state": str(pipeline.state),
        "preset": options.preset or "",
        "source": pipeline.config.download.source,
        "choice": _choice(vars(options)),
    }


def _before(pipeline: Pipeline) -> dict[str, str]:
    """The same settings as the root remembers them; empty for a new root."""
    kept = pipeline.before
    if not kept:
        return {}
    settings = {name: without_secrets(kept[name])[0] for name in ("preset", "source") if name in kept}
    state = remembered_state(pipeline.root, kept)
    return {**({"state": str(state)} if state else {}), **settings, "choice": _choice(kept)}


def _choice(options: Mapping[str, Any]) -> str:
    parts = [f"windows of {options['window']:g} s"] if options.get("window") else []
    parts += ["labels " + ", ".join(options["labels"])] if options.get("labels") else []
    parts += [f"{options['per_class']:,} of each label"] if options.get("per_class") else []
    parts += [f"{options['sample']:,} in all"] if options.get("sample") else []
    return "; ".join(parts) or "all segments of the lists"


def _of_state(pipeline: Pipeline) -> str:
    del pipeline
    return "another state folder: attempts, lanes and logs in the old one stay there and are no longer read"


def _of_preset(pipeline: Pipeline) -> str:
    """How many samples are rebuilt, and which of their features are dropped."""
    if latest_digest(pipeline.root) is None:
        return "another preset: no version was built with the old one yet"
    version = read_version(pipeline.root)
    profile = pipeline.config.profile
    if version.profile == profile:
        return "another preset of the same profile: no sample changes"
    dropped = sorted(set(features.of_profile(version.profile)) - set(features.of_profile(profile)))
    lost = f", without {', '.join(dropped)}" if dropped else ""
    return (
        f"another preset: {version.num_samples:,} sample(s) are rebuilt in the profile {profile.name}{lost}; version "
        f"{version.digest[:12]} stays as it is"
    )


def _of_source(pipeline: Pipeline) -> str:
    """How many segments will be requested from the new source."""
    root = pipeline.root
    had = read_columns(root / "clips", part_numbers(root / "clips"), ("outcome",))["outcome"]
    num_segments = read_columns(root / "segments", part_numbers(root / "segments"), ("row",)).num_rows
    left = num_segments - (pc.sum(pc.equal(had, "ok")).as_py() or 0)
    return f"another source: existing clips stay; {left:,} segment(s) without a clip are requested from it when due"


def _of_choice(pipeline: Pipeline) -> str:
    del pipeline
    return "another choice: segments that have slots keep them, added ones get new slots"


_EFFECTS: Mapping[str, Callable[[Pipeline], str]] = {
    "state": _of_state,
    "preset": _of_preset,
    "source": _of_source,
    "choice": _of_choice,
}
