"""The console script `mcgurk`: few verbs, few options; everything else lives in presets."""

import argparse
import logging
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from flows.commands import verbs
from flows.commands.logs import stopped_told
from flows.services.endings import Ending, ending
from flows.services.watchdog import watched
from tasks.transport import templates

log = logging.getLogger("flows.commands.cli")


@dataclass(frozen=True)
class Verb:
    """One verb: what it does, an example, its options and the function that does it."""

    summary: str
    example: str
    options: tuple[str, ...]
    run: Callable[[argparse.Namespace], int]


OPTIONS: dict[str, dict] = {
    "video_ids": {"nargs": "+", "metavar": "VIDEO_ID", "help": "may begin with a dash, as some do"},
    "--root": {"required": True, "metavar": "DIR", "help": "where segments, clips, shards and versions lie"},
    "--preset": {
        "help": "a complete configuration: demo, tiny, small, standard, lean, dense, video, seed or multisensory; "
        "default: what ROOT was last built with",
    },
    "--segments": {
        "nargs": "+",
        "action": "extend",
        "default": [],
        "metavar": "LIST",
        "help": "lists of segments: AudioSet's, VGGSound's, AVE's or your own, as CSV in any dialect, JSON lines or "
        "Parquet",
    },
    "--window": {
        "type": float,
        "metavar": "SECONDS",
        "help": "cut videos of folder:PATH, and files that a list names without times, in windows of that length",
    },
    "--val-share": {
        "type": float,
        "metavar": "SHARE",
        "help": "of the videos for validation, where no list says which (of your own files 0.1)",
    },
    "--eval-share": {
        "type": float,
        "metavar": "SHARE",
        "help": "of the videos for evaluation, where no list says which (of your own files 0.1)",
    },
    "--source": {
        "metavar": "S",
        "help": "youtube, http://host/{video_id}.mp4 (a secret in it as {env:NAME} or {block:NAME}), folder:PATH, "
        "tars:PATH, parquet:PATH or studio",
    },
    "--labels": {
        "nargs": "+",
        "action": "extend",
        "default": [],
        "metavar": "NAME",
        "help": "of the lists only segments with these labels (names or machine ids) or one that stands below them; "
        "all: with any; none: the names of folders are no labels",
    },
    "--per-class": {
        "type": int,
        "metavar": "N",
        "help": "of those so many of each label, of training and of evaluation",
    },
    "--sample": {
        "type": int,
        "metavar": "N",
        "help": "of those so many of training and of evaluation, of each label as many as of any other",
    },
    "--from": {"dest": "from_stage", "metavar": "STAGE", "help": "start at this stage"},
    "--only": {"choices": ("failed", "stale", "all"), "default": "all", "help": "which parts to do"},
    "--parts": {"metavar": "3,7-9", "help": "only these parts"},
    "--compute": {
        "default": "local",
        "metavar": "C",
        "help": "local (a Dask cluster here, the default), threads (no crash containment) or tcp://scheduler:8786",
    },
    "--state": {"metavar": "DIR", "help": "ledgers, logs and databases; default ROOT/state"},
    "--refetch": {
        "action": "store_true",
        "help": "fetch media again that were not kept, where other code, tools or another preset need them",
    },
    "--strict": {"action": "store_true", "help": "stop at a malformed line of a list"},
    "--growth": {
        "type": float,
        "metavar": "SHARE",
        "help": "a served root is trained on when its version has grown by this share since the last one that was "
        "trained on (default 0.2), or after a week",
    },
    "--with-media": {"action": "store_true", "help": "embed some frames and sounds in the data card"},
    "--model": {
        "metavar": "M",
        "help": "a model or model/preset of training/models, default: the preset's; several with commas are compared",
    },
    "--study": {
        "metavar": "NAME",
        "help": "instead of a model: the variants of a study, such as learning-curve (docs/training.md), compared "
        "with three seeds each; none of them is registered",
    },
    "--set": {
        "nargs": "+",
        "action": "extend",
        "default": [],
        "metavar": "NAME=VALUE",
        "help": "settings of the training (flows/presets.py: seconds, seed, augmentation, patience, ...), and with "
        "model.NAME those of the model's Config",
    },
    "--rebuild": {
        "action": "store_true",
        "help": "also extract and pack everything anew from the clips, beside what stands, and compare",
    },
    "--json": {"action": "store_true", "help": "machine-readable"},
    "--origin": {
        "nargs": "+",
        "action": "extend",
        "default": [],
        "metavar": "URL",
        "help": "other addresses whose pages may use Prefect's API, such as that of a proxy before it",
    },
    "--mlflow-login": {"action": "store_true", "help": "have MLflow ask for the login that Prefect asks for"},
}
WATCHED = ("demo", "build", "train", "verify", "forget", "serve", "deploy")  # start processes, or write long
BUILD_OPTIONS = (
    "--root", "--preset", "--segments", "--labels", "--per-class", "--sample", "--source", "--window",
    "--val-share", "--eval-share", "--from", "--only", "--parts", "--compute", "--state", "--refetch", "--strict",
    "--growth", "--with-media",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns 0 only if it did what was asked."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(ids_apart(arguments) if arguments[:1] == ["forget"] else arguments)
    shown = [templates.shown(one) for one in arguments]
    options.given = shown[1:]
    _log_plainly()
    with ExitStack() as stack:
        watchdog = stack.enter_context(watched()) if options.verb in WATCHED else None
        end = stack.enter_context(ending(shlex.join(["mcgurk", *shown]), watchdog))
        code = _run(options, end)
        if end.number is None and watchdog:
            watchdog.done()
    end.say()
    return code if end.number is None else end.exit_code


def _run(options: argparse.Namespace, end: Ending) -> int:
    try:
        if end.watchdog:
            verbs.swept(options, end.watchdog)
        return VERBS[options.verb].run(options)
    except BaseException as error:
        if end.number is not None:  # whatever the signal broke: what is said of it is said at the end
            log.debug("stopped", exc_info=error)
            return end.exit_code
        if not isinstance(error, (ValueError, RuntimeError, OSError)):
            raise
        print(stopped_told(options, error), file=sys.stderr)
        # What the user asked for cannot be done; or a stage, a gate, a server or the machine stopped.
        return 2 if isinstance(error, (ValueError, FileNotFoundError)) else 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="mcgurk", description="Does this sound belong to this picture?")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, verb in VERBS.items():
        one = verbs.add_parser(
            name,
            help=verb.summary,
            description=verb.summary,
            epilog=f"example:\n  {verb.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for option in verb.options:
            settings = OPTIONS[option]
            if name == "demo" and option == "--root":
                settings = {**settings, "required": False, "default": "demo"}
            one.add_argument(option, **settings)
    return top


def ids_apart(arguments: Sequence[str]) -> list[str]:
    """The arguments of `forget` with its ids behind `--`: to argparse, `-NoSoundT04` would be an option."""
    named = [option for option in VERBS["forget"].options if option.startswith("--")]
    verb, *waiting = arguments
    options = [verb]
    ids = []
    while waiting:
        one = waiting.pop(0)
        if one == "--":
            ids = [*ids, *waiting]
            waiting = []
        elif one in named:
            options += [one, *waiting[:1]]
            waiting = waiting[1:]
        elif one in ("-h", "--help") or one.startswith(tuple(f"{name}=" for name in named)):
            options.append(one)
        else:
            ids.append(one)
    return [*options, "--", *ids]


def _log_plainly() -> None:
    """Our own lines on the console, one a message; other libraries only when they warn."""
    console = logging.StreamHandler()
    console.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for name in ("flows", "tasks", "training"):
        ours = logging.getLogger(name)
        ours.setLevel(logging.INFO)
        ours.addHandler(console)
        ours.propagate = False
    for noisy in ("distributed", "great_expectations", "httpx", "mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # third parties' deprecations are not the user's business


VERBS: dict[str, Verb] = {
    "demo": Verb(
        "the whole job on generated scenes, offline, in minutes",
        "mcgurk demo",
        ("--root",),
        verbs.demo,
    ),
    "build": Verb(
        "segments -> clips -> features -> shards: does what is missing, failed or stale",
        "mcgurk build --root data --preset small --segments eval_segments.csv --source folder:videos",
        BUILD_OPTIONS,
        verbs.build,
    ),
    "plan": Verb(
        "what build would do, and why, without doing it",
        "mcgurk plan --root data",
        (*BUILD_OPTIONS, "--json"),
        verbs.plan,
    ),
    "train": Verb(
        "trains, evaluates and offers for promotion, as one MLflow run",
        "mcgurk train --root data --model contrastive --set seconds=3600 patience=3 model.width=32",
        ("--root", "--preset", "--model", "--study", "--set", "--state"),
        verbs.train,
    ),
    "status": Verb(
        "what became of every segment, and what is due when",
        "mcgurk status --root data",
        ("--root", "--state", "--json"),
        verbs.status,
    ),
    "doctor": Verb(
        "what this machine and its lanes lack for acquisition, with the remedy for each",
        "mcgurk doctor --state data/state",
        ("--state", "--json"),
        verbs.doctor,
    ),
    "verify": Verb(
        "every digest anew from the bytes on disk; exit 1 names what differs",
        "mcgurk verify --root data --rebuild",
        ("--root", "--state", "--rebuild", "--compute", "--json"),
        verbs.verify,
    ),
    "prune": Verb(
        "removes the shards that no kept version, no running training and no manifest names",
        "mcgurk prune --root data",
        ("--root", "--state"),
        verbs.prune,
    ),
    "forget": Verb(
        "take-down: media, rows, shards, pages and artefacts of videos; tags the models that saw them",
        "mcgurk forget dQw4w9WgXcQ -NoSoundT04 --root data",
        ("video_ids", "--root", "--state"),
        verbs.forget,
    ),
    "serve": Verb(
        "Prefect with our deployments, a worker and MLflow, for one machine",
        "mcgurk serve --root data",
        ("--root", "--state", "--origin", "--mlflow-login"),
        verbs.serve,
    ),
    "deploy": Verb(
        "our deployments on a Prefect server of your own, for whose workers see docs/operating.md",
        "mcgurk deploy --root data",
        ("--root",),
        verbs.deploy,
    ),
}


if __name__ == "__main__":
    sys.exit(main())
