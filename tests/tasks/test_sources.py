"""A source says what is wrong with what it was given, and what an answer of the world means."""

import inspect
import re
import socket

import pytest
import timecode
import yt_dlp.dependencies
import yt_dlp.networking.exceptions as network
import yt_dlp.utils
from plugin_copies import copied_with, run_in
from real_servers import hosting
from timecode import Recipe

from schemas.errors import RequestError
from schemas.outcome import ItemError, Outcome, Transient
from tasks import sources
from tasks.transport.answers import scrubbed
from tasks.transport.ytdlp import by_message, classified

SHELF = '''
"""`shelf:FOLDER`: files named by video id, all of one suffix."""

from contextlib import contextmanager
from pathlib import Path

FORM = "shelf:FOLDER"


@contextmanager
def open_source(spec, state, access):
    yield lambda video_id, folder: Path(spec.partition(":")[2]) / f"{video_id}.mp4"
'''
USE_SHELF = """
import sys
from pathlib import Path
from schemas.errors import InternalError
from tasks import sources
with sources.open_source(sys.argv[1], Path(sys.argv[2])) as fetch:
    print(fetch("a", Path(sys.argv[2])))
print(sources.forms())
try:
    sources.module_of("names")
except InternalError as error:
    print(error)
"""


def opened(spec, state):
    with sources.open_source(spec, state) as fetch:
        return fetch


@pytest.mark.parametrize("name", sources.names())
def test_every_source_says_how_it_is_named_and_can_be_opened(name):
    module = sources.module_of(name)

    assert module.__doc__ and module.__name__ == f"tasks.sources.{name}"
    assert module.FORM.startswith(name)
    assert module.FORM in sources.forms()
    assert list(inspect.signature(module.open_source).parameters) == ["spec", "state", "access"]


def test_a_new_source_is_one_file(tmp_path):
    copy = copied_with(
        tmp_path, {"tasks/sources/shelf.py": SHELF, "tasks/sources/names.py": '"""Helpers."""\n'}
    )
    (tmp_path / "a.mp4").write_bytes(b"x")

    told = run_in(copy, USE_SHELF, f"shelf:{tmp_path}", tmp_path).splitlines()

    assert told[0] == f"{tmp_path}/a.mp4"
    assert "shelf:FOLDER" in told[1]
    assert (
        f"{copy}/tasks/sources/names.py is not a plug-in of tasks.sources: it lacks FORM, open_source."
        in told[2]
    )


@pytest.mark.parametrize("spec", ["vimeo", "", "ftp://host/{video_id}", "scenes", "../youtube", "Folder:/x"])
def test_an_unknown_source_is_told_with_the_choices(tmp_path, spec):
    choices = re.escape(", ".join(sources.forms()))
    with pytest.raises(RequestError, match=f"unknown source .*: use one of {choices}"):
        opened(spec, tmp_path)


@pytest.mark.parametrize(
    "spec", ["http://host/video.mp4", "https://host/{id}.mp4", "http:{video_id}", "http"]
)
def test_a_template_without_its_parts_is_refused(tmp_path, spec):
    with pytest.raises(ValueError, match=r"a URL template is http\(s\)://... with \{video_id\} in it"):
        opened(spec, tmp_path)


@pytest.mark.parametrize("spec", ["folder", "folder:"])
def test_a_folder_without_a_path_is_refused(tmp_path, spec):
    with pytest.raises(ValueError, match="folder:PATH"):
        opened(spec, tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="/nowhere: no such folder"):
        opened(f"folder:{tmp_path}/nowhere", tmp_path)


@pytest.mark.parametrize("header", ["", "id,file\n", "video_id\n"])
def test_a_list_without_its_columns_is_refused(tmp_path, header):
    (tmp_path / "videos.csv").write_text(header + "a,b.mp4\n")

    with pytest.raises(ValueError, match="its first line must name the columns video_id,file"):
        opened(f"folder:{tmp_path}", tmp_path)


def test_a_line_without_a_file_is_named(tmp_path):
    (tmp_path / "videos.csv").write_text("video_id,file\na,a.mp4\nb\n")

    with pytest.raises(ValueError, match=r"videos.csv:3: .*no file"):
        opened(f"folder:{tmp_path}", tmp_path)


def test_a_list_says_where_files_lie_beside_it(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "x.mp4").write_bytes(b"x")
    listing = tmp_path / "mine.csv"
    listing.write_text("\ufeffvideo_id,file\na,deep/x.mp4\ngone,deep/y.mp4\n", encoding="utf-8")

    fetch = opened(f"folder:{listing}", tmp_path)

    assert fetch("a", tmp_path) == tmp_path / "deep" / "x.mp4"
    for video_id in ("gone", "unlisted"):
        with pytest.raises(ItemError, match=f"no file for {video_id}"):
            fetch(video_id, tmp_path)


def test_what_lies_beside_a_video_is_not_taken_for_it(tmp_path):
    for name in ("a.webp", "a.txt", "a.json", "a.mkv", "b.description"):
        (tmp_path / name).write_bytes(b"x")

    fetch = opened(f"folder:{tmp_path}", tmp_path)

    assert fetch("a", tmp_path) == tmp_path / "a.mkv"
    with pytest.raises(ItemError, match="no file for b"):
        fetch("b", tmp_path)


def test_the_studio_without_scenes_says_who_renders_them(tmp_path):
    with pytest.raises(ValueError, match="the preset `demo` renders them"):
        opened("studio", tmp_path)


@pytest.mark.parametrize(
    "video_id", ["short", "-seven-", "twelve_chars", "../../../up", "a b c d e f", "&list=PLxxx"]
)
def test_what_cannot_be_a_youtube_id_is_never_asked_for(tmp_path, video_id):
    with pytest.raises(ItemError) as raised:
        opened("youtube", tmp_path)(video_id, tmp_path)

    assert (raised.value.outcome, raised.value.reason) == (Outcome.UNAVAILABLE, "policy_reject")


class Response:
    """What yt-dlp's HTTPError asks of an answer."""

    reason = "why"
    headers = {}
    closed = True
    close = staticmethod(lambda: None)

    def __init__(self, status):
        self.status = status


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (404, ItemError, "removed"),
        (410, ItemError, "removed"),
        (451, ItemError, "copyright"),
        (401, ItemError, "private"),
        (402, Transient, "rate_limited"),
        (429, Transient, "rate_limited"),
        (403, Transient, "forbidden"),
        (500, Transient, "network"),
        (503, Transient, "network"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_status_means_the_same_however_deep_it_lies(status, kind, reason, wrapped):
    error = cause = network.HTTPError(Response(status))
    if wrapped:
        extractor = yt_dlp.utils.ExtractorError("failed", cause=cause)
        error = yt_dlp.utils.DownloadError("failed", (type(extractor), extractor, None))

    found = classified(error)

    assert (type(found), found.reason, found.detail) == (kind, reason, f"HTTP {status}")
    assert found.status == status


@pytest.mark.parametrize(
    ("status", "reason"), [(400, "extractor_broken"), (403, "forbidden"), (404, "forbidden")]
)
def test_a_status_behind_a_page_says_nothing_about_the_video(status, reason):
    found = classified(network.HTTPError(Response(status)), is_direct=False)

    assert (type(found), found.reason, found.status) == (Transient, reason, status)


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("ERROR: proxy http://me:secret@proxy:3128 refused", "proxy http://proxy:3128 refused"),
        (
            "https://rr3.host/videoplayback?ip=10.1.2.3&sig=AJEij0E failed",
            "https://rr3.host/videoplayback failed",
        ),
        ("\x1b[0;31mERROR:\x1b[0m gone", "gone"),
    ],
)
def test_evidence_holds_no_secret(message, kept):
    assert scrubbed(message) == kept
    assert by_message(message).detail == kept


def test_a_broken_connection_is_the_network():
    error = classified(network.TransportError("connection reset"))

    assert isinstance(error, Transient)
    assert (error.reason, error.detail) == ("network", "connection reset")


def test_a_template_with_credentials_is_refused_without_repeating_them(tmp_path):
    with (
        pytest.raises(ValueError, match="a URL with credentials") as raised,
        sources.open_source("https://me:secret@host/{video_id}", tmp_path),
    ):
        pass

    assert "secret" not in str(raised.value)


def test_modules_of_yt_dlp_lack_attributes_as_others_do():
    """Its stand-in for a missing AES raises something else to whoever walks all modules, as torch.compile does."""
    with pytest.raises(AttributeError):
        yt_dlp.dependencies.Cryptodome.no_such_cipher  # noqa: B018


class Rebinding:
    """A name that means a public address for so many questions, and this machine from then on."""

    def __init__(self, public: int) -> None:
        self.public = public
        self.asked = 0
        self.real = socket.getaddrinfo

    def __call__(self, host, port, *arguments, **settings):
        if host != "rebinding.test":
            return self.real(host, port, *arguments, **settings)
        self.asked += 1
        address = "93.184.215.14" if self.asked <= self.public else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))]


def test_a_name_that_means_another_address_a_moment_later_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "secret.mp4").write_bytes(b"of the inside")
    with hosting({"video": tmp_path / "secret.mp4"}) as host:
        port = host.address.rpartition(":")[2]
        monkeypatch.setattr(socket, "getaddrinfo", Rebinding(public=2))  # what is asked before the connection
        with (
            sources.open_source(f"http://rebinding.test:{port}/{{video_id}}.mp4", tmp_path) as fetch,
            pytest.raises(ItemError) as told,
        ):
            fetch("video", tmp_path)

    assert (told.value.reason, told.value.outcome) == ("policy_reject", "unavailable")
    assert "rebinding.test is a private address" in told.value.detail
    assert not host.knocked


def test_a_connection_goes_to_the_address_that_was_checked(tmp_path, monkeypatch):
    clip = tmp_path / "clip.mp4"
    timecode.write(clip, Recipe(seconds=1, frame_rate=10))
    rebinding = Rebinding(public=0)
    with hosting({"video": clip}) as host:
        port = host.address.rpartition(":")[2]
        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        source = f"http://rebinding.test:{port}/{{video_id}}.mp4"  # inside from the start: its own choice
        with sources.open_source(source, tmp_path) as fetch:
            fetched = fetch("video", tmp_path / "into")

    assert fetched.read_bytes() == clip.read_bytes()
