"""What is refused before a byte of it is fetched: addresses that are not ours to ask, and what is not one video."""

import pytest

from schemas.outcome import ItemError
from tasks.transport.policy import Access, DownloadLimits, refusal
from tasks.transport.ytdlp import Downloader

PRIVATE = (
    "127.0.0.1",
    "10.0.0.7",
    "192.168.1.1",
    "169.254.169.254",
    "[::1]",
    "[fd00::1]",
    "localhost",
    "0.0.0.0",
)


@pytest.mark.parametrize("host", PRIVATE)
def test_a_public_source_is_not_followed_to_private_addresses(host):
    url = f"http://{host}/clip.mp4"

    assert "is a private address, but the source is public" in refusal(url, Access(may_go_inside=False))
    assert refusal(url, Access(may_go_inside=True)) == ""  # a source that is itself inside


def test_public_addresses_are_asked():
    assert refusal("https://93.184.216.34/clip.mp4", Access(may_go_inside=False)) == ""


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/a", "rtmp://host/a", "data:video/mp4;base64,AA"]
)
def test_only_http_is_fetched(url):
    assert "is not fetched" in refusal(url, Access())


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"_type": "playlist", "direct": True}, "not_media"),
        ({"_type": "multi_video", "direct": True}, "not_media"),
        ({"direct": False}, "not_media"),
        ({"direct": True, "is_live": True}, "live"),
        ({"direct": True, "live_status": "is_upcoming"}, "live"),
        ({"direct": True, "duration": 61.0}, "too_large"),
    ],
)
def test_what_is_not_one_finished_video_of_sensible_length_is_refused(info, reason):
    downloader = Downloader({}, Access(limits=DownloadLimits(duration_s=60.0)), direct_only=True)

    with pytest.raises(ItemError) as raised:
        downloader._check("http://host/clip", info)

    assert raised.value.reason == reason


def test_a_finished_video_is_not_refused():
    downloader = Downloader({}, Access(limits=DownloadLimits(duration_s=60.0)), direct_only=True)

    downloader._check("http://host/clip", {"direct": True, "duration": 60.0, "live_status": "not_live"})
