"""When a training of a root is due, and that at most one waits: decided at a build's end, on a real server."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import avc_fixtures as shards
import pytest
from real_servers import Api, serving, started, wait_for
from scene_files import write_scenes

from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.experiments.due import last_trained, recorded, why_done, why_due
from schemas.files import read_json, write_json
from schemas.shard import latest_digest
from tasks.leases import training_mark

NOW = datetime(2026, 11, 29, tzinfo=UTC)
FINAL = ("Completed", "Skipped", "Failed", "Crashed", "Cancelled")


def version(root, num_train: int):
    """A new version of a root, with as many training clips."""
    return shards.write_dataset(root, shards.corresponding({"train": num_train, "val": 2, "eval": 4}))


def trained(state, one, begun_at: datetime | None = None) -> None:
    with training_mark(state, one.digest), recorded(state, one):
        pass
    if begun_at:
        record = read_json(state / "trained.json")
        write_json(state / "trained.json", {**record, "begun_at": begun_at.isoformat()})


def test_the_first_version_that_is_enough_is_due(tmp_path):
    too_little = shards.write_dataset(
        tmp_path / "few", shards.corresponding({"train": 4, "val": 1, "eval": 4})
    )

    assert why_due(tmp_path / "few", tmp_path / "state", too_little, 0.2, NOW) == ""
    assert "no version" in why_due(tmp_path, tmp_path / "state", version(tmp_path, 6), 0.2, NOW)


@pytest.mark.parametrize(
    ("num_train", "growth", "is_due"), [(13, 0.2, False), (14, 0.2, True), (13, 0.1, True)]
)
def test_a_version_that_has_grown_by_the_share_is_due(tmp_path, num_train, growth, is_due):
    state = tmp_path / "state"
    trained(state, version(tmp_path, 10), NOW)  # 16 samples

    why = why_due(tmp_path, state, version(tmp_path, num_train), growth, NOW + timedelta(days=1))

    assert why == (f"{num_train + 6} samples instead of 16" if is_due else "")


def test_after_a_week_any_new_version_is_due_and_the_same_never(tmp_path):
    state = tmp_path / "state"
    old = version(tmp_path, 10)
    trained(state, old, NOW)
    new = version(tmp_path, 11)
    later = NOW + timedelta(days=7)

    assert why_due(tmp_path, state, new, 0.2, later - timedelta(hours=1)) == ""
    assert "started at 2026-11-29" in why_due(tmp_path, state, new, 0.2, later)
    assert why_due(tmp_path, state, old, 0.2, later) == ""
    assert "which finished" in why_done(state, old) and why_done(state, new) == ""


def test_a_training_that_was_killed_is_due_again_and_one_that_failed_is_not(tmp_path):
    state = tmp_path / "state"
    one = version(tmp_path, 10)
    with training_mark(state, one.digest), suppress(KeyboardInterrupt), recorded(state, one):
        assert why_due(tmp_path, state, one, 0.2, NOW) == "", "it is at work"
        raise KeyboardInterrupt
    assert last_trained(state).outcome == "running"
    assert why_due(tmp_path, state, one, 0.2, NOW) == "the last training was cut short"
    assert why_done(state, one) == "", "and it is gone on with"

    with training_mark(state, one.digest), suppress(RuntimeError), recorded(state, one):
        raise RuntimeError("diverged")
    assert last_trained(state).outcome == "failed"
    assert why_due(tmp_path, state, one, 0.2, NOW) == "" and "which failed" in why_done(state, one)


def test_the_share_is_remembered_and_must_be_one(tmp_path):
    from flows.builds.memory import remember

    asked = BuildOptions(str(tmp_path), preset="demo", source="studio", growth=0.5)
    remember(tmp_path, resolve(asked).options)

    assert resolve(BuildOptions(str(tmp_path))).options.growth == 0.5
    for share in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="--growth .*: it must be a share above 0"):
            resolve(BuildOptions(str(tmp_path), preset="demo", growth=share))


def built(output, *arguments: str, **environment: str) -> None:
    """A build as a user starts it."""
    with started("build", *arguments, output=output, **environment) as process:
        assert process.wait(300) == 0, output.read_text()


def roots_due(api: Api) -> list[str]:
    """The roots of the events that a training is due."""
    found = api.ask("/events/filter", {"filter": {"event": {"name": ["mcgurk.training.due"]}}, "limit": 50})
    return sorted(one["payload"]["root"] for one in found["events"])


@pytest.mark.slow
def test_one_training_of_this_root_waits_and_takes_the_newest_version(tmp_path):
    root, other, output = (tmp_path / name for name in ("root", "other", "output"))
    videos = write_scenes(tmp_path / "videos")
    later = tmp_path / "later.mp4"
    sorted(videos.glob("*.mp4"))[0].rename(later)
    how = ("--preset", "tiny", "--source", f"folder:{videos}", "--window", "10")
    root.mkdir()
    with serving(root, tmp_path / "serve.out") as (_, api):
        api.send("PATCH", "/work_pools/gpu", {"is_paused": True})
        built(output, "--root", str(root), *how)
        (waiting,) = wait_for(lambda: api.runs("on-new-version"), "the training that is due")
        assert waiting["parameters"] == {"options": {"root": str(root), "only_new": True}}
        first = latest_digest(root)

        later.rename(videos / later.name)
        built(output, "--root", str(root))
        assert latest_digest(root) != first
        ours = {"PREFECT_API_URL": api.address, "PREFECT_API_AUTH_STRING": api.login}
        built(output, "--root", str(other), *how, **ours)
        wait_for(lambda: roots_due(api) == sorted(map(str, (root, other))), "the event of the other root")
        assert [run["id"] for run in api.runs("on-new-version")] == [waiting["id"]]

        api.send("PATCH", "/work_pools/gpu", {"is_paused": False})
        wait_for(lambda: api.state_of(waiting["id"])[0] in FINAL, "the training")
        assert api.state_of(waiting["id"])[0] == "Completed"
        assert last_trained(root / "state").digest == latest_digest(root)
        again = api.begin("on-new-version")
        wait_for(lambda: api.state_of(again)[0] in FINAL, "the second training")
        assert api.state_of(again)[0] == "Skipped"
