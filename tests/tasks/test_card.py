"""The card: what a version holds, in a page that works alone; media only where they are asked for."""

import base64
import html.parser
import re
import shutil
from dataclasses import replace

import pytest
from roots import PROFILE, Root, write_clips
from timecode import Recipe, write

from schemas.rules import FeatureRules, Rules
from schemas.segment import segment_key
from schemas.shard import read_version, receipt_path, tar_path
from tasks.versions.card import OURS, has_media, write_card
from tasks.versions.verify import read_samples

IDS = ["plain", "zeta", "still"]
LABELS = {"/m/09x0r": (0, "Speech | <b>talk</b>"), "/m/04rlf": (137, "Music")}


class Page(html.parser.HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def sources(self, tag: str) -> list[str]:
        return [attrs.get("src", "") for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Two clips in a shard, one that does not move and is rejected, one that has no sound."""
    folder = tmp_path_factory.mktemp("media")
    lists = write_clips(folder, [*IDS, "mute"])
    write(folder / "still.mp4", Recipe(seconds=2, frame_rate=10, is_frozen=True))
    write(folder / "mute.mp4", Recipe(seconds=2, frame_rate=10, has_audio=False))
    rules = Rules(features=FeatureRules(max_frozen_share=0.5), min_rows=100)
    root = Root(tmp_path_factory.mktemp("root"), f"folder:{folder}", lists, rules=rules)
    root.profile = replace(PROFILE, frame_rate_hz=2.0)
    root.build()
    return root.path


@pytest.fixture
def root(built, tmp_path):
    return shutil.copytree(built, tmp_path / "root")


def page_of(root, *, with_media=False):
    return write_card(root, read_version(root), LABELS, with_media=with_media).read_text()


def test_the_page_counts_what_the_version_holds(root):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page_of(root)))

    assert "2 clips of 2 videos, each with 4 frames and 2 s of sound" in text
    assert "Of 4 requested segments, 50.0 % are here" in text
    assert "quarantined: has_audio 1 25.0 %" in text
    assert "quarantined: not_frozen 1 25.0 %" in text
    assert "train 2 2" in text
    assert "2 of 2 fill all 2 s" in text


def test_a_page_without_media_has_none_and_names_what_was_rejected(root):
    text = page_of(root)

    assert "data:" not in text and not has_media(root, read_version(root).digest)
    assert segment_key("still", 0, 2000) in text and segment_key("mute", 0, 2000) in text
    assert "build --with-media" in text


def test_a_page_is_of_this_machine_only_and_escapes_foreign_words(root):
    text = page_of(root, with_media=True)

    assert "Speech | &lt;b&gt;talk&lt;/b&gt;" in text
    assert "<script" not in text and "<b>talk" not in text
    assert not re.search(r"https?://|url\(|@import|<link", text)
    assert all(
        source.startswith("data:") for tag in ("img", "audio", "video") for source in Page(text).sources(tag)
    )


def test_the_sample_is_what_the_shard_holds(root):
    page = Page(page_of(root, with_media=True))

    (shard,) = read_version(root).shards
    samples = read_samples(tar_path(root, shard))
    sounds = [base64.b64decode(source.split(",")[1]) for source in page.sources("audio")]
    of_shard = [members["wav"][1] for _, members in sorted(samples.items())]
    assert sounds[:2] == of_shard
    first = base64.b64decode(page.sources("img")[0].split(",")[1])
    assert first == samples[segment_key("plain", 0, 2000)]["000.jpg"][1]


def test_what_was_rejected_is_shown_as_far_as_there_is_something_to_show(root):
    page = Page(page_of(root, with_media=True))

    assert len(page.sources("audio")) == 3  # two samples, and the one that does not move
    (clip,) = page.sources("video")  # the one without sound was never extracted
    media = next((root / "clips" / "media").glob("*/mute_*"))
    assert base64.b64decode(clip.split(",")[1]) == media.read_bytes()


def test_a_card_is_the_same_each_time(root):
    assert page_of(root, with_media=True) == page_of(root, with_media=True)


def test_the_readme_tells_which_tars_are_which_split(root):
    (shard,) = read_version(root).shards

    text = (root / "README.md").read_text()

    front = text.split("---\n")[1]
    assert front.splitlines()[0] == OURS
    assert f"  - split: train\n    path:\n    - shards/{shard.name}.tar\n" in front


def test_a_card_names_a_receipt_only_where_there_is_one(root):
    """A version of before there were any gets no other card that promises one."""
    version = read_version(root)
    paths = [root / "versions" / f"{version.digest}.{kind}" for kind in ("md", "html")]
    assert all("--receipt FILE" in path.read_text() for path in paths)
    receipt_path(root, version.digest).unlink()

    write_card(root, version, LABELS)

    assert not any("receipt" in path.read_text() for path in paths)


def test_somebodys_own_readme_is_left_alone(root):
    (root / "README.md").write_text("my notes\n")

    page_of(root)

    assert (root / "README.md").read_text() == "my notes\n"


def test_hugging_face_datasets_reads_the_root_by_its_readme(root, system_ffmpeg):
    from datasets import Audio, load_dataset

    rows = load_dataset(str(root), split="train", streaming=True).cast_column("wav", Audio(decode=False))

    assert {row["__key__"] for row in rows} == {segment_key(one, 0, 2000) for one in ("plain", "zeta")}


def test_the_page_shows_in_a_browser(root, chromium, tmp_path):
    import subprocess

    path = write_card(root, read_version(root), LABELS, with_media=True)
    flags = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}")

    shown = subprocess.run(
        [chromium, *flags, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120
    ).stdout

    assert shown.count("<figure>") == 4
    assert "not_frozen: observed 1" in shown


def test_a_version_of_video_and_flac_is_shown_as_such(tmp_path):
    folder = tmp_path / "media"
    root = Root(tmp_path / "root", f"folder:{folder}", write_clips(folder, ["plain"]))
    root.profile = replace(PROFILE, picture="h264", sound="flac")
    root.build()

    page = Page(page_of(root.path, with_media=True))

    (shard,) = read_version(root.path).shards
    members = read_samples(tar_path(root.path, shard))[segment_key("plain", 0, 2000)]
    (video,) = page.sources("video")
    (sound,) = page.sources("audio")
    assert video.startswith("data:video/mp4;") and sound.startswith("data:audio/flac;")
    assert base64.b64decode(video.split(",")[1]) == members["mp4"][1]
    assert base64.b64decode(sound.split(",")[1]) == members["flac"][1]
