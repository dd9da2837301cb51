"""A stage that failed is run again in four ways, each with one effect: what is done is not done again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import browsing
from real_servers import Api, Host, hosting, serving, snapshot, started, wait_for
from roots import write_clips

from schemas.shard import read_version

pytestmark = pytest.mark.slow

IDS = [f"clip{n:02d}" for n in range(14)]
ENDED = ("Completed", "Failed", "Crashed")
DONE_BEFORE = ("segments", "clips")


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[Path, Path, Host, Api]]:
    """A folder for roots, a list of clips, the host that has them, and a Prefect with our deployments."""
    folder = tmp_path_factory.mktemp("retries")
    (path,) = write_clips(folder / "media", IDS)
    with (
        hosting({video_id: folder / "media" / f"{video_id}.mp4" for video_id in IDS}) as host,
        serving(folder / "served", folder / "serve.out") as (_, api),
    ):
        yield folder, path, host, api


def by_page(api: Api, root: Path, run: str, chromium: str, folder: Path) -> str:
    """Retry, clicked in the page by who has logged in."""
    page_of = api.address.removesuffix("/api")
    with browsing(chromium) as page:
        page.open(f"{page_of}/login")
        wait_for(lambda: page.value("!!document.querySelector('input')"), "the login")
        page.value("document.querySelector('input').focus()")
        page.type(api.login)
        page.click("Login")
        page.await_text("Dashboard")
        page.open(f"{page_of}/runs/flow-run/{run}")
        page.click("Retry")
        page.await_text("This will retry flow run")
        page.click("Retry")
        wait_for(lambda: api.ask(f"/flow_runs/{run}")["run_count"] == 2, "the second try")
    return run


def by_command(api: Api, root: Path, run: str, chromium: str, folder: Path) -> str:
    """`prefect flow-run retry`."""
    given = {"PREFECT_API_URL": api.address, "PREFECT_API_AUTH_STRING": api.login}
    output = folder / "retry.out"
    with started("flow-run", "retry", run, output=output, program="prefect", **given) as process:
        assert process.wait(60) == 0, output.read_text()
    return run


def by_schedule(api: Api, root: Path, run: str, chromium: str, folder: Path) -> str:
    """The next run that a schedule makes."""
    hourly = api.deployment("hourly")
    minutes = {"interval": 60}  # more often, a flood of runs keeps the server busy
    soon = {"schedule": minutes, "active": True, "parameters": {"options": {"root": str(root)}}}
    (schedule,) = api.ask(f"/deployments/{hourly['id']}/schedules", [soon])

    def begun() -> list[dict]:
        ours = [one for one in api.runs("hourly") if one["parameters"]["options"] == {"root": str(root)}]
        return [
            one for one in ours if one["auto_scheduled"] and one["state_name"] in ("Running", "Completed")
        ]

    try:
        return wait_for(begun, "a scheduled run")[0]["id"]
    finally:
        api.send("DELETE", f"/deployments/{hourly['id']}/schedules/{schedule['id']}")


def by_build(api: Api, root: Path, run: str, chromium: str, folder: Path) -> str:
    """`mcgurk build --from`, beside `serve`, whose server is another state folder's."""
    output = folder / "build.out"
    with started("build", "--root", str(root), "--from", "extract", output=output) as process:
        assert process.wait(180) == 0, output.read_text()
    return ""


@pytest.mark.parametrize("way", [by_page, by_command, by_schedule, by_build])
def test_a_failed_stage_is_run_again_and_nothing_before_it(served, chromium, way: Callable):
    folder, path, host, api = served
    root = folder / way.__name__
    root.mkdir()
    (root / "features").write_text("not a folder: the machine is broken here")
    source = f"{host.address}/{{video_id}}"
    options = {"root": str(root), "preset": "demo", "segments": [str(path)], "source": source}
    run = api.begin("hourly", {"options": options})
    wait_for(lambda: api.state_of(run)[0] in ENDED, "the failed build")
    assert api.state_of(run)[0] == "Failed"
    asked = host.asked.copy()
    before = done(root)
    assert before

    (root / "features").unlink()
    again = way(api, root, run, chromium, folder)

    if again:
        wait_for(lambda: api.state_of(again)[0] in ENDED, "the second try")
        assert api.state_of(again)[0] == "Completed"
    assert (host.asked, done(root)) == (
        asked,
        before,
    )  # not one part before the failed stage was written again
    assert read_version(root).num_samples == len(IDS)


def done(root: Path) -> dict[str, tuple[int, int]]:
    """The parts and media of the stages that had ended well, each with its size and time."""
    return {name: seen for name, seen in snapshot(root).items() if name.startswith(DONE_BEFORE)}
