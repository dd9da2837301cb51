"""Verdicts that fall: by appeal, by another file of one's own, and by other bytes of a host on another day."""

import os
from dataclasses import replace

import pytest
import timecode
from real_servers import hosting
from small_roots import PROFILE, RECIPE, clip_rows, day, indexed, media
from timecode import Recipe

from schemas.errors import RequestError
from schemas.manifest import read_manifest
from schemas.rules import Rules
from tasks import download, validate
from tasks.acquisition.appeals import reopened
from tasks.download import DownloadConfig
from tasks.parts import plan_stage

NOISE = bytes(range(256)) * 64
TEMPLATE = "/{video_id}.mp4"
YEAR = 400.0
MUTE = Recipe(seconds=2, has_audio=False)


class Corpus:
    """A root of one source, downloaded and checked on simulated days."""

    def __init__(self, root, source):
        self.root = root
        self.source = source

    def build(self, days=0.0, retry=()):
        """Does what is due on that day; returns how many videos were asked for."""
        config = DownloadConfig(self.source, lanes=1)
        stage = download.stage(self.root, config)
        on = day(self.root, days)
        again = reopened(self.root, self.root / "state", self.source, retry)
        due = download.with_due(stage, plan_stage(stage), on.now, reopened=again).due()
        tried = download.run(stage, due, config, replace(on, reopened=again)) if due else 0
        checks = validate.stage(self.root, "clips", Rules(), PROFILE)
        validate.run(checks, plan_stage(checks).due(), Rules(), PROFILE)
        return tried

    def fates(self):
        rows = (row for _, row in read_manifest(self.root / "clips/checked"))
        return {row["key"].rsplit("_", 2)[0]: (row["outcome"], row["reason"]) for row in rows}


@pytest.fixture
def mine(tmp_path):
    """A folder with a good file, one that is none, one without sound; and a segment whose file is not there."""
    folder = media(tmp_path / "media", {"good": RECIPE, "mute": MUTE})
    (folder / "noise.mp4").write_bytes(NOISE)
    corpus = Corpus(
        indexed(tmp_path / "root", ["good", "noise", "mute", "absent", "short"]), f"folder:{folder}"
    )
    timecode.write(folder / "short.mp4", replace(RECIPE, seconds=1))
    corpus.build()
    return corpus, folder


def test_a_verdict_about_a_local_file_stands_at_once_and_for_good(mine):
    corpus, _ = mine
    judged = {
        "good": ("ok", ""), "noise": ("quarantined", "decodable"), "mute": ("quarantined", "has_audio"),
        "absent": ("waiting", "removed"), "short": ("unavailable", "too_short"),
    }  # fmt: skip

    assert corpus.fates() == judged
    assert corpus.build(0.1) == 0
    assert corpus.build(YEAR) == 1  # the one that is not there, as the ladder wants it


@pytest.mark.parametrize("video_id", ["noise", "mute", "absent", "short"])
def test_a_verdict_about_a_local_file_falls_when_another_is_there(mine, video_id):
    corpus, folder = mine
    timecode.write(folder / f"{video_id}.mp4", RECIPE)

    assert corpus.build(0.01) == 1

    assert corpus.fates()[video_id] == ("ok", "")
    assert corpus.build(0.02) == 0


def test_another_file_that_is_no_better_is_tried_once(mine):
    corpus, folder = mine
    (folder / "noise.mp4").write_bytes(NOISE + NOISE)

    assert (corpus.build(0.01), corpus.build(0.02)) == (1, 0)
    assert corpus.fates()["noise"] == ("quarantined", "decodable")


def test_a_file_that_is_touched_is_another_one(mine):
    corpus, folder = mine
    os.utime(folder / "noise.mp4", (1, 1))

    assert corpus.build(0.01) == 1


def test_what_has_a_sample_is_left_alone_whatever_lies_there_now(mine):
    corpus, folder = mine
    (folder / "good.mp4").write_bytes(NOISE)

    assert corpus.build(0.01) == 0
    assert corpus.fates()["good"] == ("ok", "")


@pytest.mark.parametrize("kind", ["short", "page", "noise"])
def test_bytes_of_a_host_are_judged_on_two_days(tmp_path, kind):
    bad = tmp_path / "bad"
    if kind == "short":
        timecode.write(tmp_path / "bad.mp4", replace(RECIPE, seconds=1)).rename(bad)
    else:
        bad.write_bytes(b"<!doctype html><html></html>" if kind == "page" else NOISE)
    good = timecode.write(tmp_path / "good.mp4", RECIPE)
    reason = {"short": "too_short", "page": "not_media", "noise": "decodable"}[kind]
    corpus = Corpus(indexed(tmp_path / "root", ["gone", "mended"]), "")
    with hosting({"gone": bad, "mended": bad}) as host:
        corpus.source = host.address + TEMPLATE
        corpus.build()
        first = corpus.fates()
        assert corpus.build(0.1) == 0
        host.files["mended"] = good
        corpus.build(1.0)
        corpus.build(8.0)

    assert first == dict.fromkeys(("gone", "mended"), ("waiting", reason))
    outcome = "quarantined" if kind == "noise" else "unavailable"
    assert corpus.fates() == {"gone": (outcome, reason), "mended": ("ok", "")}


@pytest.mark.parametrize("name", ["decodable", "later"])
def test_an_appeal_tries_again_at_once_by_class_or_by_video(tmp_path, name):
    bad = tmp_path / "bad"
    bad.write_bytes(NOISE)
    corpus = Corpus(indexed(tmp_path / "root", ["later", "absent"]), "")
    with hosting({"later": bad}) as host:
        corpus.source = host.address + TEMPLATE
        for days in (0.0, 1.0):
            corpus.build(days)
        assert corpus.fates()["later"] == ("quarantined", "decodable")
        asked = host.asked["absent"]
        host.files["later"] = timecode.write(tmp_path / "good.mp4", RECIPE)

        assert (corpus.build(1.1), corpus.build(1.2, [name])) == (0, 1)

        assert corpus.fates()["later"] == ("ok", "") and host.asked["absent"] == asked


def test_an_appeal_in_vain_leaves_the_verdict(mine):
    corpus, _ = mine
    judged = corpus.fates()

    assert corpus.build(0.1, ["decodable", "absent", "has_audio"]) == 3

    assert corpus.fates() == judged
    assert clip_rows(corpus.root)["mute"]["outcome"] == "ok"


def test_an_appeal_of_what_is_no_class_and_no_missing_video_is_refused(mine):
    corpus, _ = mine

    with pytest.raises(RequestError, match=r"--retry good: neither a class of failure nor a video"):
        corpus.build(0.1, ["decodable", "good"])
    assert corpus.build(0.1, ["copyright"]) == 0  # a class of which there is none now
