"""The power goes at any moment of a build: what is on the disk then, whatever of it was not synced, is built upon."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from file_calls import Call, can_record, record
from kills import proved
from power_loss import Disk, Image, at_end, images
from real_servers import Host, hosting, run_mcgurk
from roots import write_corpus

from flows.builds.memory import remember
from flows.builds.pipeline import resolve
from flows.builds.plan import plan_one, plan_publish
from flows.builds.takedown import finish_takedowns
from flows.commands.cli import parsed
from flows.stages import TABLE, Tools
from schemas.identity import Identity
from schemas.storage import TEMPORARY
from tasks import index, publish
from tasks.download import DownloadContext
from tasks.funnel import measure_funnel
from tasks.leases import NAMES, lease, remove_partial_writes
from tasks.tombstones import read_tombstones
from tasks.versions.erase import slots_of
from tasks.versions.traces import Named, find_traces

NUM_QUICK = 5  # of all images
SEED = 7
OTHER_BOOT = "00000000-0000-0000-0000-000000000000"
NUM_CLIPS = 3
GONE = "train00"
NUM_TAKE_DOWNS = 3


@dataclass
class Recorded:
    """A build as the kernel saw it, what came of it, and the host that it fetched from."""

    root: Path
    arguments: list[str]
    host: Host
    calls: list[Call]
    stands: dict[str, str]

    def images(self) -> list[Image]:
        """Every image of a power loss during the build."""
        return list(images(self.calls, Disk(str(self.root)), SEED))

    def written(self, image: Image) -> Path:
        """The root as it is when the power is back."""
        image.write(self.root, str(self.root))
        self.host.asked.clear()
        return self.root


@pytest.fixture(scope="module")
def recorded(prefect_server, tmp_path_factory) -> Iterator[Recorded]:
    if not can_record():
        pytest.skip("no strace that may trace: apt-get install strace")
    folder = tmp_path_factory.mktemp("power")
    lists = [str(path) for path in write_corpus(folder / "media", 1, 2)]
    with ExitStack() as stack:
        host = stack.enter_context(hosting({path.stem: path for path in (folder / "media").glob("*.mp4")}))
        root = folder / "root"
        options = ["--root", str(root), "--preset", "small", "--source", f"{host.address}/{{video_id}}.mp4"]
        arguments = ["build", *options, "--segments", *lists, "--compute", "threads"]
        calls = record(arguments, root, {"PREFECT_API_URL": prefect_server})
        yield Recorded(root, arguments, host, before_this_start(calls), proved(root, NUM_CLIPS))


def before_this_start(calls: list[Call]) -> list[Call]:
    """The calls as if they were made before the machine's last start, as all that precedes a power loss is."""
    boot = Identity.own().boot.encode()
    return [replace(call, data=call.data.replace(boot, OTHER_BOOT.encode())) for call in calls]


def committed(calls: list[Call]) -> set[str]:
    """The videos of which the ledger said that their attempt is on the disk: file and name were synced."""
    waiting: dict[str, set[str]] = {}
    named: set[str] = set()
    found: set[str] = set()
    for call in calls:
        if "/attempts/" in call.path and call.kind == "write":
            ids = {json.loads(line)["video_id"] for line in call.data.splitlines() if line}
            waiting[call.path] = waiting.get(call.path, set()) | ids
        elif call.kind == "sync" and call.path in waiting and call.path in named:
            found |= waiting.pop(call.path)
        elif call.kind == "sync" and call.path.endswith("/attempts"):
            named |= waiting.keys()
            for path in list(waiting):
                found |= waiting.pop(path)
    return found


def built_by_command(recorded: Recorded) -> None:
    run_mcgurk(*recorded.arguments)


def built_by_stages(recorded: Recorded) -> None:
    """What the command has each stage do, without Prefect's hundreds of milliseconds around each."""
    pipeline = resolve(parsed(recorded.arguments).options)
    remember(pipeline.root, pipeline.options, pipeline.state)
    tools = Tools(map, DownloadContext(pipeline.now, pipeline.state))
    with lease(pipeline.state, *NAMES):
        remove_partial_writes(pipeline.root, *NAMES)
    finish_takedowns(pipeline)
    index.index(pipeline.root, pipeline.lists, pipeline.config.index)
    for row in (row for row in TABLE if row.make):
        if due := plan_one(pipeline, row.name).due():
            row.run(pipeline, tools, row.over(pipeline), due)
    if plan_publish(pipeline, plan_one(pipeline, "pack")).due():
        publish.publish(pipeline.root, pipeline.settings)


def check(recorded: Recorded, image: Image, build: Callable[[Recorded], None]) -> None:
    """That a build after the power loss gives what an undisturbed one does, and fetches nothing twice."""
    root = recorded.written(image)
    build(recorded)
    assert proved(root, NUM_CLIPS) == recorded.stands
    funnel = measure_funnel(root)
    assert (funnel["segments"], funnel["in_shards"]) == (NUM_CLIPS, NUM_CLIPS)
    assert set(recorded.host.asked) & committed(recorded.calls[: image.after]) == set()


def failures(recorded: Recorded, some: list[Image], build: Callable[[Recorded], None]) -> list[str]:
    """The images from which a build does not recover, each with its reason."""
    found = []
    for image in some:
        try:
            check(recorded, image, build)
        except Exception as error:
            last = recorded.calls[image.after - 1]
            found.append(f"{image.how} after {image.after}, {last.kind} {last.path}: {error}")
    return found


def test_a_build_after_a_power_loss_gives_what_an_undisturbed_one_does(recorded):
    every = recorded.images()

    assert {image.how for image in every} == {"nothing", "whole", "lost", "zeros", "torn", "drawn"}
    assert failures(recorded, every[:: len(every) // NUM_QUICK], built_by_command) == []
    assert failures(recorded, every[1 :: len(every) // NUM_QUICK], built_by_stages) == []


def test_what_a_build_left_when_it_ended_stays(recorded):
    """Nothing that was not synced survives: it is all there, and nothing is to be done."""
    root = recorded.written(at_end(recorded.calls, Disk(str(recorded.root)), is_synced_only=True))

    plans = json.loads(run_mcgurk("plan", "--root", str(root), "--json"))

    assert proved(root, NUM_CLIPS) == recorded.stands
    assert all(count == 0 for plan in plans.values() for state, count in plan.items() if state != "done")


def test_a_file_that_is_renamed_before_its_bytes_are_on_the_disk_is_noticed(recorded):
    """As `replacing` would do without its fsync: the test can fail."""
    careless = [call for call in recorded.calls if not is_sync_of_bytes(call)]
    some = [image for image in images(careless, Disk(str(recorded.root)), SEED) if image.how == "lost"]

    assert len(some) > len([image for image in recorded.images() if image.how == "lost"])
    found = failures(recorded, some[:: len(some) // 5], built_by_stages)
    assert any("is damaged" in one for one in found), found


def is_sync_of_bytes(call: Call) -> bool:
    """Of a file that `replacing` is about to rename."""
    return call.kind == "sync" and TEMPORARY.fullmatch(Path(call.path).name) is not None


@dataclass
class TakenDown:
    """A take-down on the root of a build: what was there before, and the calls."""

    recorded: Recorded
    before: Path
    calls: list[Call]

    def images(self) -> list[Image]:
        """Every image of a power loss during the take-down."""
        return list(images(self.calls, self.disk(), SEED))

    def disk(self) -> Disk:
        """The disk as it was when the take-down began."""
        shutil.rmtree(self.recorded.root)
        shutil.copytree(self.before, self.recorded.root)
        return Disk.of(self.recorded.root)


@pytest.fixture(scope="module")
def taken_down(recorded, prefect_server, tmp_path_factory) -> TakenDown:
    root = recorded.root
    recorded.written(at_end(recorded.calls, Disk(str(root)), is_synced_only=False))
    before = shutil.copytree(root, tmp_path_factory.mktemp("before") / "root")
    calls = record(["forget", GONE, "--root", str(root)], root, {"PREFECT_API_URL": prefect_server})
    return TakenDown(recorded, before, before_this_start(calls))


def traces(root: Path) -> list[str]:
    """What still shows or names the video that was taken down."""
    slots = slots_of(root, [GONE])
    return find_traces(
        root, root / "state", Named([GONE], [key for keys in slots.values() for key in keys]), slots
    )


def test_what_was_taken_down_does_not_come_back(recorded, taken_down):
    """Even where nothing survives that was not synced."""
    root = recorded.written(at_end(taken_down.calls, taken_down.disk(), is_synced_only=True))

    assert traces(root) == []
    assert proved(root, NUM_CLIPS - 1) != recorded.stands


def unfinished(recorded: Recorded, some: list[Image], build: Callable[[Recorded], None]) -> list[str]:
    """The images after which a build neither finishes the take-down nor finds it not begun, each with its reason."""
    found = []
    for image in some:
        root = recorded.written(image)
        is_begun = bool(read_tombstones(root))
        build(recorded)
        if is_begun and (left := traces(root)):
            found.append(f"{image.how} after {image.after}: {left}")
        elif not is_begun and proved(root, NUM_CLIPS) != recorded.stands:
            found.append(f"{image.how} after {image.after}: another version")
    return found


def test_a_take_down_is_finished_after_a_power_loss(recorded, taken_down):
    every = taken_down.images()

    assert unfinished(recorded, every[:: len(every) // NUM_TAKE_DOWNS], built_by_command) == []


@pytest.mark.slow
def test_each_image_of_a_take_down_is_recovered_from(recorded, taken_down):
    assert unfinished(recorded, taken_down.images(), built_by_stages) == []


@pytest.mark.slow
def test_each_image_of_a_power_loss_is_recovered_from(recorded):
    assert failures(recorded, recorded.images(), built_by_stages) == []
