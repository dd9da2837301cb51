"""What was said once stays said: each setting of a root until another is named, wherever its state lies."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from roots import write_clips

from flows.builds.memory import find_state, recall, remember, with_remembered
from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve, state_folder
from flows.commands.announce import command, settings_text
from flows.commands.cli import main
from schemas.feature import Profile
from schemas.shard import make_version, write_version

TOLD = BuildOptions("r", "small", source="folder:/videos", labels=("Dog",), per_class=3)


def after(tmp_path, told: BuildOptions, asked: BuildOptions) -> BuildOptions:
    """`asked` of a root that was told `told`."""
    remember(tmp_path, told)
    return with_remembered(asked, recall(tmp_path))


def test_a_preset_that_is_named_changes_the_preset_only(tmp_path):
    found = after(tmp_path, TOLD, BuildOptions("r", preset="dense"))

    assert found == BuildOptions("r", "dense", source="folder:/videos", labels=("Dog",), per_class=3)


def test_a_source_that_is_named_changes_the_source_only(tmp_path):
    found = after(tmp_path, TOLD, BuildOptions("r", source="youtube"))

    assert found == BuildOptions("r", "small", source="youtube", labels=("Dog",), per_class=3)


def test_a_list_that_is_named_leaves_preset_source_and_choice(tmp_path):
    found = after(tmp_path, TOLD, BuildOptions("r", segments=("more.csv",)))

    assert (found.preset, found.source, found.labels, found.per_class) == (
        "small",
        "folder:/videos",
        ("Dog",),
        3,
    )


@pytest.mark.parametrize(
    ("asked", "labels", "per_class"),
    [({"labels": ("Cat",)}, ("Cat",), None), ({"per_class": 5}, (), 5), ({"labels": ("all",)}, (), None)],
)
def test_a_choice_is_one_thing(tmp_path, asked, labels, per_class):
    found = after(tmp_path, TOLD, BuildOptions("r", segments=("more.csv",), **asked))

    assert (found.labels, found.per_class) == (labels, per_class)


def test_windows_stay_for_folders_and_go_with_what_cannot_be_cut(tmp_path):
    told = BuildOptions("r", "small", source="folder:/videos", window=10.0)

    assert after(tmp_path, told, BuildOptions("r", "dense")).window == 10.0
    assert after(tmp_path, told, BuildOptions("r", source="folder:/more")).window == 10.0
    assert after(tmp_path, told, BuildOptions("r", source="youtube")).window is None
    assert after(tmp_path, told, BuildOptions("r", segments=("list.csv",))).window is None
    assert after(tmp_path, TOLD, BuildOptions("r", window=5.0)).labels == ()


def test_what_an_earlier_version_kept_in_the_state_folder_counts(tmp_path):
    (tmp_path / "state").mkdir()
    old = tmp_path / "state" / "build.json"
    old.write_text('{"labels":["Dog"],"preset":"small","source":"folder:/videos"}')

    assert with_remembered(BuildOptions("r"), recall(tmp_path)).labels == ("Dog",)
    remember(tmp_path, BuildOptions("r", "dense", source="youtube"))
    assert recall(tmp_path)["preset"] == "dense"
    assert not old.exists()


def test_the_state_folder_is_found_again(tmp_path):
    root = tmp_path / "root"
    state = tmp_path / "elsewhere"
    assert state_folder(root, None) == root / "state"

    remember(root, BuildOptions("r"), state_folder(root, str(state)))

    assert state_folder(root, None) == state
    assert state_folder(root, str(tmp_path / "third")) == tmp_path / "third"
    remember(root, BuildOptions("r"), root / "state")  # named again: as if it had never been elsewhere
    assert state_folder(root, None) == root / "state"


def test_the_state_of_a_moved_root_is_found_and_a_copy_must_name_its_own(tmp_path):
    root = tmp_path / "root"
    state = tmp_path / "elsewhere"
    other = tmp_path / "other"
    remember(root, BuildOptions("r"), state)
    shutil.copytree(root, other)

    with pytest.raises(ValueError, match="is a copy of .*: give it its own with --state DIR"):
        find_state(other)
    with pytest.raises(ValueError, match="is the state folder of .*root: give .*other its own folder"):
        find_state(other, str(state))

    shutil.rmtree(root)  # it was moved
    assert find_state(other) == find_state(other, str(state)) == state
    remember(other, BuildOptions("r"), state)
    root.mkdir()
    assert find_state(other) == state


def test_a_state_folder_in_the_root_moves_with_it(tmp_path):
    root = tmp_path / "root"
    remember(root, BuildOptions("r"), root / "mine")
    root.rename(tmp_path / "moved")

    assert find_state(tmp_path / "moved") == tmp_path / "moved" / "mine"


def test_a_state_folder_that_is_away_is_named(tmp_path):
    remember(tmp_path / "root", BuildOptions("r"), tmp_path / "disk" / "state")
    shutil.rmtree(tmp_path / "disk")

    with pytest.raises(ValueError, match="disk/state, which is not here: bring it back, or name another"):
        find_state(tmp_path / "root")


def test_who_only_lists_versions_of_a_copy_needs_no_state(tmp_path, capsys):
    """A root that was copied to another machine says where its state was, which tells of trainings only."""
    remember(tmp_path / "root", TOLD, tmp_path / "disk" / "state")
    shutil.rmtree(tmp_path / "disk")
    write_version(tmp_path / "root", make_version(Profile(), ["json"], []), {})

    assert main(["versions", "--root", str(tmp_path / "root")]) == 0
    assert "1 version(s) exist" in capsys.readouterr().out


def test_a_root_on_a_store_remembers_a_folder_of_this_machine(tmp_path):
    from schemas.storage import open_root

    root = open_root("memory://bucket/root")
    assert find_state(root) is None
    with pytest.raises(ValueError, match="needs a local folder for its state: --state DIR"):
        state_folder(root, None)

    remember(root, BuildOptions("r"), tmp_path)

    assert state_folder(root, None) == tmp_path


def test_commands_name_what_the_root_does_not_know_and_can_be_pasted(tmp_path):
    root = tmp_path / "my root"
    state = tmp_path / "the state"

    assert shlex.split(command("train", str(root), state)) == [
        "mcgurk", "train", "--root", str(root), "--state", str(state),
    ]  # fmt: skip
    remember(root, BuildOptions("r"), state)
    assert command("build", str(root), state, "--from", "pack") == f"mcgurk build --root '{root}' --from pack"
    assert command("serve", "data", None) == "mcgurk serve --root data"


def test_a_build_says_its_settings_before_it_starts_and_what_a_change_does(tmp_path, mcgurk):
    root = tmp_path / "root"
    state = tmp_path / "elsewhere"
    (segments,) = write_clips(tmp_path / "videos", ["one", "two"])
    lists = ("--segments", str(segments), "--source", f"folder:{tmp_path}/videos", "--state", str(state))
    told = mcgurk("build", "--root", str(root), "--preset", "small", "--compute", "threads", *lists)

    assert told.startswith(
        f"root     {root}\nstate    {state}\npreset   small\nsource   folder:{tmp_path}/videos\n"
    )
    assert not (root / "state").exists()
    plan = json.loads(mcgurk("plan", "--root", str(root), "--json"))
    assert all(counts["done"] and not counts["stale"] for counts in plan.values())

    changed = mcgurk("plan", "--root", str(root), "--preset", "seed")
    assert f"source   folder:{tmp_path}/videos\n" in changed
    assert "preset   seed  (until now small)" in changed
    assert "2 sample(s) are rebuilt in the profile seed, without log_mel; version" in changed
    assert f"next: mcgurk build --root {root} --preset seed" in changed

    moved = mcgurk("plan", "--root", str(root), "--source", "youtube")
    assert "existing clips stay; 0 segment(s) without a clip are requested from it when due" in moved


def test_every_verb_finds_the_state_folder(tmp_path, mcgurk, capsys):
    root = tmp_path / "root"
    state = tmp_path / "elsewhere"
    (segments,) = write_clips(tmp_path / "videos", ["one", "two", "three"])
    source = ("--segments", str(segments), "--source", f"folder:{tmp_path}/videos")
    mcgurk(
        "build",
        "--root",
        str(root),
        "--preset",
        "small",
        "--compute",
        "threads",
        *source,
        "--state",
        str(state),
    )

    for verb in (["status"], ["verify"], ["prune"], ["forget", "one"]):
        assert main([*verb, "--root", str(root)]) == 0
    assert not (root / "state").exists()
    assert resolve(BuildOptions(str(root))).state == state
    assert b"one_0" not in b"".join(path.read_bytes() for path in (state / "attempts").iterdir())
    assert settings_text(resolve(BuildOptions(str(root)))).count("until now") == 0
    assert Path(root / "build.json").is_file()
    capsys.readouterr()
