"""A build on a small disk: it fetches, extracts and lets go in turns, and says what another extraction would cost."""

import logging
from dataclasses import replace

import pytest
from clocks import FakeClock
from hostile import HostileHost, hostile
from roots import MONDAY, PROFILE
from small_roots import RECIPE
from timecode import write

from flows import presets
from flows.builds.options import BuildOptions
from flows.builds.pipeline import resolve
from flows.builds.plan import plan_all
from flows.commands.text import plan_text
from schemas.layout import MEDIA
from schemas.manifest import part_numbers
from schemas.shard import read_version
from tasks.download import DownloadConfig
from tasks.index import IndexConfig

IDS = [f"video{n}" for n in range(8)]


@pytest.fixture
def options(prefect_server, tmp_path, monkeypatch):
    """A build of eight clips with room for less than three, and its host."""
    clip = write(tmp_path / "clip.mp4", RECIPE)
    path = tmp_path / "list.csv"
    path.write_text("".join(f'{one}, 0.000, 2.000, "/m/09x0r"\n' for one in IDS))
    download = DownloadConfig(unextracted_gb=2.5 * clip.stat().st_size / 1e9, keep_media=False)
    tight = presets.PipelineConfig(PROFILE, IndexConfig(part_size=4, val_share=0.0), download)
    monkeypatch.setitem(presets.PRESETS, "tight", lambda: tight)
    other = replace(tight, profile=replace(PROFILE, frame_short_side_px=64))
    monkeypatch.setitem(presets.PRESETS, "other", lambda: other)
    with hostile(HostileHost(clip, FakeClock(MONDAY.timestamp()))) as host:
        source = f"{host.address}/{{video_id}}.mp4"
        yield BuildOptions(str(tmp_path / "root"), "tight", (str(path),), source, compute="threads"), host


@pytest.fixture
def lines(caplog):
    """What fetching logs: whether it reaches the root logger depends on when Prefect was imported."""
    logger = logging.getLogger("tasks.acquisition.fetching")
    logger.addHandler(caplog.handler)
    logger.setLevel("INFO")
    logger.propagate = False
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel("NOTSET")
    logger.propagate = True


def test_a_build_goes_in_turns_and_keeps_no_media(options, lines):
    from flows.build_dataset import build_dataset

    asked, host = options
    root = resolve(asked).root

    build_dataset(asked)

    turns = [one.args[1] for one in lines.records if "wait until the media on disk" in one.msg]
    assert turns == [5, 2]
    assert sum(shard.num_samples for shard in read_version(root).shards) == len(IDS)
    assert not [path for path in (root / MEDIA).rglob("*") if path.is_file()]
    assert part_numbers(root / "clips") == [0, 1]
    host.log.clear()
    build_dataset(asked)
    assert host.log == []

    with pytest.raises(
        ValueError, match=r"preset other needs the media of 8 clip\(s\) again, which were not kept; nothing"
    ):
        build_dataset(replace(asked, preset="other"))
    assert host.log == []
    other = replace(asked, preset="other", refetch=True)
    told = plan_text(plan_all(resolve(other)))
    assert "8 clip(s) are fetched again: extraction changed, and their media were not kept" in told
    build_dataset(replace(other, parts="0"))
    assert len({video for _, video in host.log}) == 4  # nobody asked for the other part
    build_dataset(other)
    assert {video for _, video in host.log} == set(IDS)
    assert sum(shard.num_samples for shard in read_version(root).shards) == len(IDS)
