"""Of a long video only the fragments around its segments are fetched, and what is cut stands at its own time."""

import gc
import re
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import timecode
from ffmpeg_runs import run_ffmpeg
from real_servers import answering
from timecode import Recipe, read_number, read_time

from schemas.feature import Profile
from schemas.outcome import Transient
from tasks.media.cut import cut
from tasks.media.decode import decode
from tasks.media.probe import probe
from tasks.transport.hls import MARGIN_S, smallest_playlist, trimmed
from tasks.transport.policy import Access, DownloadLimits
from tasks.transport.ytdlp import Downloader

SECONDS = 120
FRAGMENT_S = 4
FRAME_RATE = 10
RATE = 16_000
SOURCE_RATE = 48_000  # whose encoder puts 21 ms before the first picture: there the file begins
KINDS = ("mpegts", "fmp4")
SPANS = [(31.3, 36.3), (64.0, 69.0)]
PROFILE = Profile(length_ms=5000)


class Host:
    """Serves a playlist and its fragments, and knows what was asked for."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.kind = kind
        self.address = ""
        self.asked = []
        self.status = 0  # that the fragments after the first two are answered with

    @property
    def url(self) -> str:
        return f"{self.address}/index.m3u8"

    def handler(self):
        host = self
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            extensions_map = {".m3u8": "application/vnd.apple.mpegurl"}

            def send_head(self):
                number = re.fullmatch(r"/index(\d+)\.\w+", self.path)
                if host.status and number and int(number[1]) > 1:
                    return self.send_error(host.status)
                return super().send_head()

            def log_message(self, *arguments) -> None:
                asked.append(Path(self.path).name)

        return partial(Handler, directory=str(self.folder))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    recipe = Recipe(SECONDS, FRAME_RATE, SOURCE_RATE, key_every=FRAGMENT_S * FRAME_RATE // 2)
    return timecode.write(tmp_path_factory.mktemp("source") / "long.mp4", recipe)


@pytest.fixture(scope="module", params=KINDS)
def host(request, source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hls")
    hls = (
        "-f",
        "hls",
        "-hls_time",
        FRAGMENT_S,
        "-hls_playlist_type",
        "vod",
        "-hls_segment_type",
        request.param,
    )
    run_ffmpeg("-i", source, "-c", "copy", *hls, folder / "index.m3u8")
    made = Host(folder, request.param)
    with answering(made.handler()) as made.address:
        yield made


def fetched(host, folder, spans, long_s=60.0):
    """What is fetched of the video for these spans, and which fragments were asked for."""
    folder.mkdir()
    host.asked.clear()
    access = Access(limits=DownloadLimits(long_s=long_s))
    file = Downloader({"allowed_extractors": ["generic"]}, access, direct_only=False).fetch(
        host.url, folder, spans
    )
    return file, [name for name in host.asked if "m3u8" not in name]


def decoded_cut(file, span, folder):
    made = cut(file, probe(file), span, folder / "cut")
    return decode(made.path, made.begins_s, span[1] - span[0], PROFILE)


def test_only_the_first_fragment_and_those_around_the_segments_are_asked_for(host, tmp_path):
    _, asked = fetched(host, tmp_path / "some", SPANS)
    _, all_of_it = fetched(host, tmp_path / "all", [])

    numbers = {int(name.removeprefix("index").split(".")[0]) for name in asked if name.startswith("index")}
    assert numbers >= {0} | around(margin_s=0)
    assert numbers <= {0} | around(margin_s=MARGIN_S + 2)  # fragments are not of exactly 4 s
    assert len(asked) == len(numbers) + (host.kind == "fmp4")  # whose head is a file of its own
    assert len(all_of_it) >= SECONDS // FRAGMENT_S > 1.5 * len(asked)


def around(margin_s):
    """The numbers of the fragments that lie that near to a segment."""
    return {
        n
        for n in range(SECONDS // FRAGMENT_S + 1)
        for start_s, end_s in SPANS
        if (n + 1) * FRAGMENT_S > start_s - margin_s and n * FRAGMENT_S < end_s + margin_s
    }


@pytest.mark.parametrize("span", SPANS)
def test_a_cut_of_a_file_with_holes_is_that_of_the_whole(host, span, tmp_path):
    some, _ = fetched(host, tmp_path / "some", SPANS)
    whole, _ = fetched(host, tmp_path / "all", [])
    for name in ("cut", "uncut"):
        (tmp_path / name).mkdir()

    holed = decoded_cut(some, span, tmp_path / "cut")
    expected = decoded_cut(whole, span, tmp_path / "uncut")

    for one, other in zip(holed.pictures, expected.pictures, strict=True):
        np.testing.assert_array_equal(one.luma, other.luma)
    np.testing.assert_allclose(holed.wave, expected.wave, atol=1e-4)
    shown_s = [read_number(picture.luma) / FRAME_RATE for picture in holed.pictures]
    assert shown_s == pytest.approx(span[0] + np.arange(5) + 0.5, abs=0.11)
    for second in range(5):
        piece = holed.wave[second * RATE : (second + 1) * RATE, 0]
        assert read_time(piece, RATE) == pytest.approx(span[0] + second + 0.5, abs=0.03)


def test_the_duration_of_a_file_with_holes_is_that_of_the_last_segment(host, tmp_path):
    file, _ = fetched(host, tmp_path / "some", SPANS)

    assert SPANS[-1][1] <= probe(file).duration_s <= SPANS[-1][1] + MARGIN_S + FRAGMENT_S


@pytest.mark.parametrize(("spans", "long_s"), [(SPANS, SECONDS + 1), ([(0.0, 100.0)], 60.0), ([], 60.0)])
def test_a_short_video_and_one_that_is_wanted_for_the_most_part_are_fetched_whole(
    host, spans, long_s, tmp_path
):
    _, asked = fetched(host, tmp_path / "all", spans, long_s)

    assert len(asked) >= SECONDS // FRAGMENT_S


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # yt-dlp's file, left open
@pytest.mark.parametrize(("status", "reason"), [(429, "rate_limited"), (503, "network")])
def test_a_video_of_which_a_fragment_fails_is_not_fetched(host, status, reason, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "status", status)

    with pytest.raises(Transient, match=reason):
        fetched(host, tmp_path / "some", SPANS)

    gc.collect()  # what it left open is closed now, not in another test


PLAYLIST = """#EXTM3U
#EXT-X-VERSION:4
#EXT-X-MAP:URI="all.mp4",BYTERANGE="800@0"
#EXTINF:10.0,
#EXT-X-BYTERANGE:1000@800
all.mp4
#EXTINF:10.0,
#EXT-X-BYTERANGE:2000
all.mp4
#EXTINF:10.0,
#EXT-X-BYTERANGE:3000
all.mp4
#EXTINF:40.0,
#EXT-X-BYTERANGE:4000
all.mp4
#EXT-X-ENDLIST
"""


def test_ranges_of_one_file_are_named_from_its_beginning():
    made = trimmed(PLAYLIST, [(20.0, 24.0)], long_s=0.0)

    assert "3000@3800" in made and "4000" not in made
    assert made.startswith('#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-MAP:URI="all.mp4",BYTERANGE="800@0"\n#EXTINF')
    assert made.endswith("all.mp4\n#EXT-X-ENDLIST\n")


@pytest.mark.parametrize(
    "line", ["#EXT-X-DISCONTINUITY", '#EXT-X-KEY:METHOD=AES-128,URI="key"', '#EXT-X-MAP:URI="other.mp4"']
)
def test_a_playlist_whose_fragments_depend_on_each_other_bears_no_holes(line):
    lines = PLAYLIST.splitlines()

    assert trimmed("\n".join([*lines[:9], line, *lines[9:]]), [(20.0, 24.0)], long_s=0.0) == ""


def test_a_playlist_without_an_end_is_live_and_not_cut_up():
    assert trimmed(PLAYLIST.replace("#EXT-X-ENDLIST", ""), [(20.0, 24.0)], long_s=0.0) == ""
    assert trimmed("#EXTM3U\n#EXT-X-ENDLIST\n", [(20.0, 24.0)], long_s=0.0) == ""


def test_the_smallest_sufficient_format_with_picture_and_sound_is_taken():
    hls = {"protocol": "m3u8_native", "vcodec": "avc1", "acodec": "mp4a"}
    formats = [
        {**hls, "height": 720, "format_id": "95"},
        {**hls, "height": 360, "tbr": 700, "format_id": "93"},
        {**hls, "height": 360, "tbr": 600, "format_id": "93-1"},
        {**hls, "height": 144, "format_id": "91"},
        {**hls, "height": 360, "acodec": "none", "format_id": "230"},
        {"protocol": "https", "vcodec": "avc1", "acodec": "mp4a", "height": 360, "format_id": "18"},
    ]

    assert smallest_playlist(formats)["format_id"] == "93-1"
    assert smallest_playlist(formats[-2:]) is None
