"""A lane's escape hatches: what is on the list is taken, all else refused; none runs a command or writes a file."""

import json
import sqlite3
import subprocess
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import timecode
from hypothesis import given
from hypothesis import strategies as st
from real_servers import answering, hosting
from timecode import Recipe

from schemas.outcome import ItemError
from tasks import sources
from tasks.acquisition import doctor
from tasks.transport.failure_classes import CLASSES, HATCHES, hint
from tasks.transport.hatches import ALLOWED_ARGS, SECRET_ARGS, Hatches, are_extractor_args, with_secrets
from tasks.transport.lane_config import RULES, read_lanes
from tasks.transport.lanes import LaneConfig
from tasks.transport.policy import Access
from tasks.transport.ytdlp import Downloader
from tasks.transport.ytdlp_hatches import BgutilHttpPTP, browser_of, options_of, pot, target_of

REPOSITORY = Path(__file__).resolve().parents[2]
FIELDS = ("extractor_args", "po_token_provider", "impersonate", "cookies_from_browser")


def read(tmp_path, **lane):
    (tmp_path / "lanes.json").write_text(json.dumps([lane]))
    return read_lanes(tmp_path, ())[0]


def test_what_is_allowed_is_taken(tmp_path):
    arguments = {"youtube": {"player_client": ["tv", "web_safari"], "lang": "en", "po_token": ["env:POT"]}}
    lane = read(tmp_path, extractor_args=arguments, po_token_provider="bgutil-http@http://10.0.0.7:4416",
                impersonate="chrome-146", cookies_from_browser="firefox:research")  # fmt: skip

    named = with_secrets(lane.extractor_args, {"env:POT": "web.gvs+s3cr3t"}.__getitem__)
    options = options_of(Hatches(named, lane.po_token_provider))
    assert options == {
        "extractor_args": {
            "youtube": {
                "player_client": ["tv", "web_safari"],
                "lang": ["en"],
                "po_token": ["web.gvs+s3cr3t"],
            },
            "youtubepot-bgutilhttp": {"base_url": ["http://10.0.0.7:4416"]},
        }
    }
    assert "s3cr3t" not in repr(Hatches(named))
    assert options_of(Hatches()) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("extractor_args", {"youtube": {"innertube_host": ["evil.test"]}}),
        ("extractor_args", {"youtubepot-bgutilscript": {"server_home": ["/tmp/x"]}}),
        ("extractor_args", {"youtube": {"po_token": ["web.gvs+s3cr3t"]}}),
        ("extractor_args", {"youtube": {"player_client": ["$(touch /tmp/x)"]}}),
        ("extractor_args", {"youtube": {"player_client": []}}),
        ("extractor_args", {"youtube": {"player_client": [1]}}),
        ("extractor_args", {"generic": {"impersonate": ["chrome"]}}),
        ("extractor_args", {"youtube": "player_client=tv"}),
        ("extractor_args", "youtube:player_client=tv"),
        ("po_token_provider", "bgutil-script"),
        ("po_token_provider", "bgutil-http@file:///etc/passwd"),
        ("po_token_provider", "bgutil-http@http://me:s3cr3t@host"),
        ("po_token_provider", ["bgutil-http"]),
        ("impersonate", "chrome; touch x"),
        ("impersonate", "curl"),
        ("cookies_from_browser", "safari"),
        ("cookies_from_browser", "chrome+kwallet"),
        ("cookies_from_browser", ["firefox"]),
        ("exec", "touch /tmp/x"),
        ("postprocessors", [{"key": "Exec"}]),
        ("paths", {"home": "/etc"}),
        ("netrc_cmd", "cat"),
        ("external_downloader", "curl"),
        ("plugin_dirs", ["/tmp"]),
    ],
)
def test_all_else_is_refused_with_what_may_be(tmp_path, name, value):
    with pytest.raises(
        ValueError, match=rf"lanes.json:1:3: lane direct: '?{name}'?( is .*)?: use (some of|\w+)"
    ) as told:
        read(tmp_path, **{name: value})

    assert "s3cr3t" not in str(told.value) or name == "po_token_provider"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["tv", "youtube"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["youtube", "player_client", "x"]), inner),
    max_leaves=8,
)  # fmt: skip


@given(value=JSON, name=st.sampled_from(FIELDS))
def test_no_value_is_more_than_taken_or_refused(value, name):
    if RULES[name].takes(value) and name == "extractor_args":
        assert all(set(named) <= ALLOWED_ARGS[extractor] for extractor, named in value.items())
        assert are_extractor_args(value) and with_secrets(value, str).keys() == value.keys()
    elif RULES[name].takes(value):
        assert isinstance(value, str)


def test_arguments_are_those_that_this_yt_dlp_knows():
    """An argument that yt-dlp has renamed would be set in vain."""
    import yt_dlp.extractor.youtube as youtube

    known = "".join(path.read_text() for path in Path(youtube.__file__).parent.glob("*.py"))
    assert {name for name in ALLOWED_ARGS["youtube"] if f"'{name}'" not in known} == set()
    assert ALLOWED_ARGS["youtube"] >= SECRET_ARGS


def test_each_hatch_is_documented_beside_the_failure_that_calls_for_it():
    rows = [
        line
        for line in (REPOSITORY / "docs" / "acquisition.md").read_text().splitlines()
        if line.startswith("| `")
    ]

    assert set(HATCHES) <= set(CLASSES) and set(FIELDS) <= {
        field for fields in HATCHES.values() for field in fields
    }
    for reason, fields in HATCHES.items():
        row = next(row for row in rows if f"`{reason}`" in row.split("|")[1])
        assert all(f"`{field}`" in row.split("|")[2] for field in fields), reason
        assert set(fields) <= set(RULES) and fields[0] in hint(reason)
    table = {row.split("|")[1].strip(" `"): row for row in rows}
    assert all(f"`{name}`" in table["extractor_args"] for name in ALLOWED_ARGS["youtube"])
    assert hint("removed") == ""


def firefox(folder, values):
    """A profile of Firefox with cookies of loopback."""
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / "cookies.sqlite") as database:
        database.execute("PRAGMA user_version = 15")
        database.execute(
            "CREATE TABLE moz_cookies (host TEXT, name TEXT, value TEXT, path TEXT, expiry INTEGER, isSecure INTEGER, "
            "originAttributes TEXT)"
        )
        for name, value in values.items():
            row = ("127.0.0.1", name, value, "/", 4_000_000_000, 0, "")
            database.execute("INSERT INTO moz_cookies VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    database.close()
    return folder


class _Told(BaseHTTPRequestHandler):
    """Keeps what it was asked with."""

    def __init__(self, asked, content, *arguments):
        self.asked = asked
        self.content = content
        super().__init__(*arguments)

    def do_GET(self):  # noqa: N802
        self.asked.append(dict(self.headers))
        self._send("video/mp4", self.content)

    def do_POST(self):  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.path, json.loads(body)))
        self._send("application/json", self.content)

    def _send(self, kind, content):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def asked_with(tmp_path, hatches):
    """The headers of the requests for a clip."""
    clip = timecode.write(tmp_path / "clip.mp4", Recipe(seconds=1, frame_rate=10))
    asked = []
    access = Access(hatches=hatches)
    downloader = Downloader({"allowed_extractors": ["generic"]}, access, direct_only=True)
    with answering(lambda *arguments: _Told(asked, clip.read_bytes(), *arguments)) as address:
        assert downloader.fetch(f"{address}/abc.mp4", tmp_path / "into").read_bytes() == clip.read_bytes()
    return asked


def test_a_browsers_cookies_are_sent_and_its_database_is_left_alone(tmp_path, monkeypatch):
    profile = firefox(tmp_path / "profile", {"sid": "s3cr3t"})
    before = (profile / "cookies.sqlite").read_bytes()
    for name in ("Popen", "run", "check_output"):
        monkeypatch.setattr(subprocess, name, lambda *_, **__: pytest.fail("a command was run"))

    asked = asked_with(tmp_path, Hatches(cookies_from_browser=f"firefox:{profile}"))

    assert all("sid=s3cr3t" in headers["Cookie"] for headers in asked)
    assert (profile / "cookies.sqlite").read_bytes() == before
    assert sorted(path.name for path in profile.iterdir()) == ["cookies.sqlite"]


def test_a_browser_without_cookies_is_told(tmp_path):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "cookies.sqlite").write_bytes(b"no database")

    with pytest.raises(ValueError, match="cookies_from_browser firefox:.*could not find firefox cookies"):
        browser_of(f"firefox:{tmp_path}/nowhere/")
    with pytest.raises(ValueError, match="file is not a database"):
        browser_of(f"firefox:{tmp_path}/damaged")
    assert browser_of(f"firefox:{firefox(tmp_path / 'good', {})}")[2] is None


def test_an_impersonated_browser_is_seen_and_waits_for_the_lane(tmp_path):
    waited = []
    clip = timecode.write(tmp_path / "clip.mp4", Recipe(seconds=1, frame_rate=10))
    asked = []
    access = Access(gate=lambda: waited.append(1), hatches=Hatches(impersonate="chrome"))
    with (
        answering(lambda *arguments: _Told(asked, clip.read_bytes(), *arguments)) as address,
        sources.open_source(f"{address}/{{video_id}}.mp4", tmp_path, access) as fetch,
    ):
        fetch("abc", tmp_path / "into")

    assert asked and all("Chrome/" in headers["user-agent"] for headers in asked)
    assert len(waited) == len(asked)


@pytest.mark.parametrize("hop", ["http://127.0.0.1:9/inside.mp4", "file:///etc/passwd", "gopher://x/"])
def test_an_impersonated_browser_goes_nowhere_that_is_refused(tmp_path, hop):
    class Elsewhere(_Told):
        def do_GET(self):  # noqa: N802
            self.asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", hop)
            self.send_header("Content-Length", "0")
            self.end_headers()

    asked = []
    checked = Access(hatches=Hatches(impersonate="chrome"), may_go_inside=False)
    with answering(lambda *arguments: Elsewhere(asked, b"", *arguments)) as address:
        inside = Downloader({"allowed_extractors": ["generic"]}, checked, direct_only=True)
        with pytest.raises(ItemError, match="private address"):
            inside.fetch(f"{address}/a.mp4", tmp_path)
        assert asked == []
        outside = Downloader({"allowed_extractors": ["generic"]}, Access(hatches=Hatches(impersonate="chrome")),
                             direct_only=True)  # fmt: skip
        if not hop.startswith("http"):
            with pytest.raises(ItemError, match="with the scheme"):
                outside.fetch(f"{address}/a.mp4", tmp_path)


def test_a_name_that_means_an_inside_address_is_not_followed_as_a_browser_either(tmp_path):
    (tmp_path / "secret.mp4").write_bytes(b"of the inside")
    access = Access(hatches=Hatches(impersonate="chrome"), may_go_inside=False)
    with hosting({"video": tmp_path / "secret.mp4"}) as host:
        port = host.address.rpartition(":")[2]
        downloader = Downloader({"allowed_extractors": ["generic"]}, access, direct_only=True)
        with pytest.raises(ItemError, match="localhost is a private address"):
            downloader.fetch(f"http://localhost:{port}/video.mp4", tmp_path)

    assert not host.knocked


def test_a_browser_that_nobody_knows_is_told():
    with pytest.raises(ValueError, match="impersonate chrome-1: curl_cffi knows no such browser"):
        target_of("chrome-1")
    assert target_of("safari").client == "safari"


def provider(address):
    settings = {"base_url": [address]} if address else {}
    return BgutilHttpPTP(None, None, settings)


def request(**settings):
    context = {"client": {"clientName": "WEB"}}
    return pot.PoTokenRequest(pot.PoTokenContext.GVS, context, visitor_data="visitor", **settings)


def test_a_provider_is_asked_for_tokens_in_its_protocol():
    asked = []
    with answering(lambda *arguments: _Told(asked, b'{"poToken": "t0ken"}', *arguments)) as address:
        found = provider(address)
        assert found.is_available() and not provider("").is_available()
        assert found.request_pot(request(request_proxy="http://proxy:1")).po_token == "t0ken"

    (path, body), = asked  # fmt: skip
    assert path == "/get_pot"
    assert (body["content_binding"], body["proxy"], body["bypass_cache"]) == (
        "visitor",
        "http://proxy:1",
        False,
    )


@pytest.mark.parametrize("content", [b"", b"[]", b'{"error": "no"}', b'{"poToken": 7}', b"x" * (1 << 17)])
def test_a_provider_that_gives_no_token_is_an_error_of_the_provider(content):
    with (
        answering(lambda *arguments: _Told([], content, *arguments)) as address,
        pytest.raises(pot.PoTokenProviderError, match="po_token_provider at http"),
    ):
        provider(address).request_pot(request())


def test_the_doctor_says_what_hatches_lack(tmp_path):
    lane = LaneConfig(
        "a", po_token_provider="bgutil-http@http://127.0.0.1:9", impersonate="chrome",
        cookies_from_browser=f"firefox:{tmp_path}/none/", extractor_args={"youtube": {"po_token": "env:NONE"}},
    )  # fmt: skip

    def secret(name):
        raise ValueError(f"{name} is not there")

    found = {one.what: one for one in doctor.examine([lane], tmp_path, secret)}
    assert "does not answer" in found["lane a: po_token_provider"].found
    assert found["lane a: impersonate"].remedy == ""
    assert "could not find firefox cookies" in found["lane a: cookies_from_browser"].found
    assert found["lane a: extractor_args"].found == "env:NONE is not there"
