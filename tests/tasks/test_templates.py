"""Secrets in a URL template are found, kept apart, and put back for the request alone."""

import stat

import pytest

from tasks.transport import templates
from tasks.transport.templates import expanded, hidden, origin, shown, without_secrets


@pytest.mark.parametrize(
    ("spec", "public", "secrets"),
    [
        ("https://h/{video_id}.mp4", "https://h/{video_id}.mp4", {}),
        ("https://h/{video_id}?format=mp4&hd=1", "https://h/{video_id}?format=mp4&hd=1", {}),
        ("https://h/{video_id}?token={env:T}", "https://h/{video_id}?token={env:T}", {}),
        ("https://{env:U}:{env:P}@h/{video_id}", "https://{env:U}:{env:P}@h/{video_id}", {}),
        ("https://h/{video_id}?token=abc", "https://h/{video_id}?token={kept:token}", {"token": "abc"}),
        ("https://h/get?X-Amz-Sig=ab&id={video_id}", "https://h/get?X-Amz-Sig={kept:X-Amz-Sig}&id={video_id}",
         {"X-Amz-Sig": "ab"}),
        ("https://h/{video_id}?q=0123456789abcdef", "https://h/{video_id}?q={kept:q}", {"q": "0123456789abcdef"}),
        ("https://me:pw@h:8443/{video_id}", "https://{kept:login}@h:8443/{video_id}", {"login": "me:pw"}),
        ("https://token@h/{video_id}", "https://{kept:login}@h/{video_id}", {"login": "token"}),
        ("folder:/my token=abc", "folder:/my token=abc", {}),
        ("youtube", "youtube", {}),
    ],
)  # fmt: skip
def test_what_a_template_holds_of_secrets(spec, public, secrets):
    assert without_secrets(spec) == (public, secrets)
    assert without_secrets(public) == (public, {})
    assert shown(f"--source={spec}") == f"--source={public}"
    assert shown(spec) == public


def test_a_template_gets_its_secrets_back(tmp_path):
    public, secrets = without_secrets("https://me:p%40w@h/{video_id}?token=a%2Fb&place={env:PLACE}")
    templates.keep(tmp_path, secrets)
    known = {"env:PLACE": "my & place"}

    def secret(name):
        return known[name] if name in known else templates.kept(tmp_path, name.removeprefix("kept:"))

    url, values = expanded(public, secret)

    assert url == "https://me:p%40w@h/{video_id}?token=a%2Fb&place=my%20%26%20place"
    assert values == ["me:p%40w", "a%2Fb", "my & place"]
    assert stat.S_IMODE((tmp_path / templates.FILE).stat().st_mode) == 0o600
    templates.keep(tmp_path, {"token": "new"})
    assert (templates.kept(tmp_path, "token"), templates.kept(tmp_path, "login")) == ("new", "me:p%40w")
    assert stat.S_IMODE((tmp_path / templates.FILE).stat().st_mode) == 0o600


def test_a_secret_that_nobody_kept_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"the secret \{kept:token\}: name the source in full again"):
        templates.kept(tmp_path, "token")


def test_what_would_end_a_login_is_refused_without_telling_it():
    with pytest.raises(ValueError, match=r"\{env:P\} has a character") as told:
        expanded("https://me:{env:P}@h/{video_id}", lambda name: "pass@word/")

    assert "pass" not in str(told.value)


def test_texts_are_without_secrets_however_they_are_spelt():
    assert hidden("at a%2Fb and a/b, of me", ["a/b", "me"]) == "at *** and a/b, of me"
    assert hidden("at s3c%2Fret and s3c/ret", ["s3c/ret"]) == "at *** and ***"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("https://{kept:login}@h:1/a/{video_id}?t=1", "https://h:1/a/"),
        ("https://h/get?token={kept:token}&id={video_id}", "https://h/get"),
        ("https://h/{env:PLACE}/{video_id}", "https://h/"),
        ("folder:/videos", "folder:/videos"),
        ("youtube", "youtube"),
    ],
)
def test_a_row_says_where_its_media_come_from_and_no_more(spec, expected):
    assert origin(spec) == expected
