"""The command line: few verbs, few options, each explained, none of it slow to start."""

import os
import re
import socket
import subprocess
import sys

import avc_fixtures as shards
import pytest
from real_servers import REPOSITORY

from flows.arguments import flag_of, options_of, written
from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.commands.cli import VERBS, main, parsed, summary_of, verb_named
from flows.presets import PRESETS

BUILD = {
    "--root", "--preset", "--segments", "--labels", "--per-class", "--sample", "--source", "--window",
    # How many of one's own videos are set apart is said once a root, and not a property of a preset.
    "--val-share", "--eval-share", "--from", "--only", "--parts", "--compute", "--state", "--refetch", "--retry",
    "--receipt", "--strict", "--growth", "--with-media",
}  # fmt: skip
# Frozen: hyper-parameters live in presets. A new option is a decision, so it is made here too.
OPTIONS = {
    "demo": {"--root"},
    "build": BUILD,
    "plan": BUILD | {"--json"},
    # --set: which checkpoint a trunk or a curriculum begins from is a path, and no preset can know it.
    "train": {"--root", "--preset", "--model", "--study", "--set", "--state"},
    "status": {"--root", "--state", "--json"},
    "failures": {"--root", "--csv", "--json"},
    "doctor": {"--state", "--json"},
    "verify": {"--root", "--state", "--rebuild", "--mend", "--compute", "--json"},
    "prune": {"--root", "--state"},
    "recheck": {"--root", "--state", "--drop-removed"},
    "forget": {"video_ids", "--root", "--state"},
    "versions": {"--root", "--state", "--json"},
    "diff": {"first", "second", "--root", "--json"},
    "export": {"folder", "--root", "--to"},
    "serve": {
        "--root",
        "--state",
        "--origin",
        "--mlflow-login",
        "--database",
        "--port",
        "--mlflow-port",
        "--notify",
        "--ping",
    },
    "deploy": {"--root", "--notify", "--ping"},
}


def test_verbs_and_options_are_frozen():
    found = {name: options_of(verb_named(name).Options) for name in VERBS}

    assert {name: {flag_of(field, one) for field, one, _ in some} for name, some in found.items()} == OPTIONS


def test_each_file_of_a_verb_is_one_that_is_listed():
    commands = [path for path in (REPOSITORY / "flows" / "commands").glob("*.py")]
    verbs = {path.stem for path in commands if path.read_text().startswith('"""`mcgurk ')}

    assert verbs == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb, capsys):
    with pytest.raises(SystemExit, match="0"):
        parsed([verb, "--help"])

    shown = capsys.readouterr().out
    assert f"example:\n  mcgurk {verb}" in shown and summary_of(verb) in shown


def test_an_option_that_is_named_again_adds():
    again = parsed(["train", "--root", "r", "--set", "seconds=60", "--set", "patience=3", "seed=1"])

    assert again.options.set == ("seconds=60", "patience=3", "seed=1")
    assert parsed(["train", "--root", "r"]).options.set == ()


def test_options_are_written_as_they_are_read():
    typed = ["--root", "r", "--segments", "a.csv", "b.csv", "--window", "2", "--from", "pack", "--strict"]

    assert written(parsed(["build", *typed]).options) == typed


@pytest.mark.parametrize(
    "arguments",
    [
        ["-NoSoundT04", "--two", "plain", "--root", "r"],
        ["--root", "r", "-NoSoundT04", "--two", "plain"],
        ["--root=r", "--", "-NoSoundT04", "--two", "plain"],
        ["-NoSoundT04", "--root", "r", "--", "--two", "plain"],
    ],
)
def test_ids_may_begin_with_a_dash(arguments):
    options = parsed(["forget", *arguments]).options

    assert (options.root, options.video_ids) == ("r", ("-NoSoundT04", "--two", "plain"))


@pytest.mark.parametrize("arguments", [[], ["--study", "negatives"], ["--model", "many_to_many"]])
def test_a_wrong_setting_of_a_model_is_told_before_anything_starts(tmp_path, capsys, arguments):
    exit_code = main(
        ["train", "--root", str(tmp_path), "--preset", "demo", *arguments, "--set", "model.widht=8"]
    )

    assert exit_code == 2 and " has no setting widht; choose from " in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.db"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "sync"], "sync needs more than profile 'small': frame_rate_hz 1.0 instead of 25"),
        (
            ["--model", "contrastive/large"],
            "contrastive/large needs more than profile 'small': frame_short_side_px 128",
        ),
        (["--model", "contrastive,l3/paper"], "l3/paper needs more than profile 'small': "),
        (
            ["--study", "frame-difference"],
            "contrastive/motion needs more than profile 'small': frame_rate_hz 1.0 < 4.0",
        ),
        (["--set", "judged_on=Bagpipes"], "unknown label or category 'Bagpipes'"),
        (["--set", "negatives=same_class"], "no two steps that do not match by same_class"),
    ],
)
def test_what_a_version_can_t_be_trained_to_is_told_before_anything_starts(tmp_path, capsys, arguments, told):
    clips = shards.corresponding({"train": 4, "val": 4, "eval": 4}, num_kinds=4)
    shards.write_dataset(tmp_path, clips)

    exit_code = main(["train", "--root", str(tmp_path), "--preset", "demo", *arguments])

    said = capsys.readouterr().err.strip()
    assert exit_code == 2 and said.startswith("mcgurk train: ") and told in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.rglob("*.db")), "no server was started and no run begun"


def test_a_version_of_too_few_clips_is_told_before_anything_starts(tmp_path, capsys):
    shards.write_dataset(tmp_path, shards.corresponding({"train": 6, "val": 1, "eval": 4}))

    assert main(["train", "--root", str(tmp_path), "--preset", "demo"]) == 2
    assert "is too little to train on: val has 1 of 2 videos that are needed" in capsys.readouterr().err


def test_a_deleted_experiment_is_told_before_anything_starts(tmp_path, capsys):
    from training.tracking.runs import MlflowClient, Store, connect

    shards.write_dataset(tmp_path, shards.corresponding({"train": 4, "val": 4, "eval": 4}, num_kinds=4))
    connect(Store(tmp_path), is_new=True)
    MlflowClient().delete_experiment("1")

    assert main(["train", "--root", str(tmp_path), "--preset", "demo"]) == 2
    assert "experiment 'mcgurk' of sqlite:" in capsys.readouterr().err
    assert not (tmp_path / "state" / "prefect").exists()


def test_help_pays_for_no_heavy_import():
    heavy = ("torch", "mlflow", "great_expectations", "prefect", "distributed", "pandas", "scipy")
    code = (
        "import sys, contextlib\nfrom flows.commands.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)

    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr


def test_a_dask_worker_pays_for_no_heavy_import():
    code = (
        "import sys, tasks.extract, tasks.sources.scenes.corpus\n"
        "print([n for n in ('torch', 'mlflow', 'great_expectations', 'prefect') if n in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)

    assert done.stdout.strip() == "[]", done.stderr


def test_parts_are_numbers_and_ranges():
    assert BuildOptions("r").part_numbers is None
    assert BuildOptions("r", parts="3,7-9").part_numbers == [3, 7, 8, 9]


@pytest.mark.parametrize("parts", ["three", "9-7", "7-", "-7", "1,,2"])
def test_malformed_parts_are_refused(parts):
    with pytest.raises(ValueError, match="write numbers and ranges as 3,7-9"):
        _ = BuildOptions("r", parts=parts).part_numbers


def test_from_starts_at_a_stage_and_an_unknown_one_names_the_choices(tmp_path):
    assert BuildOptions("r", from_stage="validate-features").stage_names == (
        "validate-features",
        "pack",
        "publish",
    )
    with pytest.raises(ValueError, match="use one of index, validate-segments, download"):
        resolve(BuildOptions(str(tmp_path), from_stage="shard"))


def test_a_root_that_is_not_there_is_not_served(tmp_path, capsys):
    assert main(["serve", "--root", str(tmp_path / "nowhere")]) == 2
    assert f"--root {tmp_path}/nowhere: no such folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", ["--port", "--mlflow-port"])
def test_a_port_that_is_named_and_taken_is_refused_with_its_holder(flag, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        exit_code = main(["serve", "--root", str(tmp_path), flag, str(port)])

    assert exit_code == 2
    assert f"{flag} {port}: taken by process {os.getpid()} (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--port", "65536"), "--port 65536: a port is a number from 1 to 65535"),
        (("--mlflow-port", "-1"), "--mlflow-port -1: a port is a number from 1 to 65535"),
        (("--port", "0"), "--port 0: a port is a number from 1 to 65535"),
        (("--port", "4300", "--mlflow-port", "4300"), "--mlflow-port 4300: --port gives it to Prefect"),
    ],
)
def test_a_port_that_is_none_or_is_named_twice_is_refused(options, sentence, tmp_path, capsys):
    assert main(["serve", "--root", str(tmp_path), *options]) == 2
    assert f"mcgurk serve: {sentence}" in capsys.readouterr().err


def test_a_root_on_a_store_is_not_served(tmp_path, capsys):
    assert main(["serve", "--root", "s3://bucket/root", "--state", str(tmp_path)]) == 2
    assert "MLflow's database needs a disk" in capsys.readouterr().err


def test_the_help_of_preset_names_all_of_them():
    (text,) = (option.help for field, option, _ in options_of(BuildOptions) if field.name == "preset")

    assert all(re.search(rf"\b{name}\b", text) for name in PRESETS)
