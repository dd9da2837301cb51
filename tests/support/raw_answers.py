"""Answers of hosts byte by byte, each with the class that it must get; and a host that sends just these bytes."""

import gzip
import socketserver
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from real_servers import answering

OK = "ok"
STATUSES = {
    400: "network", 401: "private", 402: "rate_limited", 403: "forbidden", 404: "removed", 405: "network",
    406: "network", 407: "network",
    408: "network", 410: "removed", 416: "network", 418: "network", 429: "rate_limited", 451: "copyright",
    500: "network", 502: "network", 503: "network", 504: "network", 599: "network",
}  # fmt: skip
RETRY_AFTER = (
    b"", b"Retry-After: 120\r\n", b"Retry-After: Fri, 31 Dec 99999999999 23:59:59 GMT\r\n", b"Retry-After: -1e400\r\n",
    "Retry-After: \u0661\u0662\r\n".encode(),
)  # fmt: skip
NO_MEDIA = {
    "html": (b"text/html", b"<!doctype html><video src='/a.mp4'></video>"),
    "html_as_video": (b"video/mp4", b"<!DOCTYPE html><html><body>Not found</body></html>"),
    "html_with_mark": (b"video/mp4", b"\xef\xbb\xbf  <html>gone</html>"),
    "html_untyped": (b"", b"<html><head><title>Sign in</title></head></html>"),
    "json": (b"application/json", b'{"error": "gone"}'),
    "json_as_bytes": (b"application/octet-stream", b'{"error": {"code": 404}}'),
    "xml": (b"text/xml", b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>"),
    "s3_error": (b"application/xml", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"),
    "rss": (b"application/rss+xml", b"<?xml version='1.0'?><rss version='2.0'><channel/></rss>"),
    "text": (b"text/plain", b"the file has moved"),
    "text_untyped": (b"", b"quota exceeded, try tomorrow"),
    "png": (b"image/png", b"\x89PNG\r\n\x1a\n" + bytes(64)),
    "jpeg": (b"image/jpeg", b"\xff\xd8\xff\xe0" + bytes(64)),
    "pdf": (b"application/pdf", b"%PDF-1.7\n\x00\x01"),
    "zip": (b"application/zip", b"PK\x03\x04" + bytes(64)),
    "css": (b"text/css", b"body { color: red }"),
    "script": (b"application/javascript", b"location = '/'"),
}
NOT_HTTP = {
    "nothing": b"", "icy": b"ICY 200 OK\r\n\r\n", "words": b"garbage\r\n\r\n",
    "status_word": b"HTTP/1.1 abc OK\r\n\r\n",
    "status_huge": b"HTTP/1.1 99999 X\r\n\r\n", "status_negative": b"HTTP/1.1 -1 X\r\n\r\n",
    "binary": bytes(range(256)), "long_line": b"HTTP/1.1 200 " + b"O" * 70_000 + b"\r\n\r\n",
    "many_headers": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(300)) + b"\r\n",
    "long_header": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    "two_lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nabcdefg",
}  # fmt: skip
LEADS = (301, 302, 303, 307, 308)
ELSEWHERE = {
    "ftp": b"ftp://127.0.0.1/a.mp4", "file": b"file:///etc/passwd", "data": b"data:video/mp4;base64,AA",
    "script": b"javascript:alert(1)", "no_address": b"http://[", "port": b"http://127.0.0.1:99999999/a.mp4",
}  # fmt: skip
MPD = (
    b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT9S">'
    b'<Period><AdaptationSet mimeType="video/mp4"><Representation id="v" bandwidth="1"><SegmentTemplate'
    b' media="$Number$" %s><SegmentTimeline><S t="0" d="1" r="%d"/></SegmentTimeline></SegmentTemplate>'
    b"</Representation>"
    b"</AdaptationSet></Period></MPD>"
)


@dataclass(frozen=True)
class Answer:
    """What a host sends, and what it must be taken for."""

    content: bytes
    reason: str  # a class, or OK


def answers(clip: bytes) -> dict[str, Answer]:
    """Every answer by name; `clip` is a media file. A redirect leads to the answer `plain`."""
    found = {**_of_statuses(), **_of_media(clip), **_of_redirects(), **_of_lists(clip)}
    for name, (kind, body) in NO_MEDIA.items():
        header = b"Content-Type: %s\r\n" % kind if kind else b""
        found[name] = Answer(_head(200, header + _length(body)) + body, "not_media")
    return {**found, **{name: Answer(content, "network") for name, content in NOT_HTTP.items()}}


def _head(status: int, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d why\r\nConnection: close\r\n%s\r\n" % (status, headers)


def _length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(body)


def _of_statuses() -> dict[str, Answer]:
    return {
        f"status_{status}_{number}": Answer(_head(status, header + b"Content-Length: 0\r\n"), reason)
        for status, reason in STATUSES.items()
        for number, header in enumerate(RETRY_AFTER)
    }


def _of_media(clip: bytes) -> dict[str, Answer]:
    size = _length(clip)
    whole = {
        "plain": size, "typed": size + b"Content-Type: video/mp4\r\n", "as_html": size + b"Content-Type: text/html\r\n",
        "no_length": b"", "length_word": b"Content-Length: abc\r\n", "length_negative": b"Content-Length: -1\r\n",
        "length_twice": size + size, "modified": size + b"Last-Modified: Mon, 01 Jan 99999999999 00:00:00 GMT\r\n",
        "etag_odd": size + b'ETag: W/"\xff\xfe\r\n', "date_odd": size + b"Date: never\r\n",
        "named": size + b'Content-Disposition: attachment; filename="../../evil.sh"\r\n',
        "cookie_odd": size + b"Set-Cookie: \xff=;;;=; expires=never; max-age=1e400\r\n",
        "type_odd": size + b"Content-Type: ;;;===\xff\r\n", "ranges": size + b"Accept-Ranges: none\r\n",
        "lower": size.lower(), "folded": size + b"X: a\r\n b\r\n",
        "encoded_as_identity": size + b"Content-Encoding: identity\r\n",
    }  # fmt: skip
    found = {name: Answer(_head(200, header) + clip, OK) for name, header in whole.items()}
    packed = gzip.compress(clip)
    chunks = b"".join(b"%x;why\r\n%s\r\n" % (len(one), one) for one in (clip[:1000], clip[1000:]))
    chunked = b"Transfer-Encoding: chunked\r\n"
    found["gzip"] = Answer(_head(200, b"Content-Encoding: gzip\r\n" + _length(packed)) + packed, OK)
    found["chunked"] = Answer(_head(200, chunked) + chunks + b"0\r\nX: trailer\r\n\r\n", OK)
    found["old_protocol"] = Answer(b"HTTP/1.0 200 OK\r\n\r\n" + clip, OK)
    broken = {
        "gzip_damaged": _head(200, b"Content-Encoding: gzip\r\n" + _length(packed))
        + packed[:20]
        + packed[:-20],
        "chunked_cut": _head(200, chunked) + chunks,
        "chunk_word": _head(200, chunked) + b"zz\r\n" + clip,
        "chunk_negative": _head(200, chunked) + b"-5\r\n" + clip,
        "chunk_below": _head(200, chunked) + b"-99999999999999999999\r\n" + clip,
        "empty": _head(200, b"Content-Length: 0\r\n"),
        "longer": _head(200, b"Content-Length: %d\r\n" % (2 * len(clip))) + clip,
        "half": _head(200, size) + clip[: len(clip) // 2],
        "rest_unasked": _head(206, size + b"Content-Range: bytes 5-9/99\r\n") + clip,
        "nothing_new": _head(304),
        "no_content": _head(204),
    }
    found |= {name: Answer(content, "network") for name, content in broken.items()}
    huge = {"huge": b"999999999999", "huger": b"9" * 4000}
    found |= {
        name: Answer(_head(200, b"Content-Length: " + size + b"\r\n") + clip, "too_large")
        for name, size in huge.items()
    }
    return found


def _of_redirects() -> dict[str, Answer]:
    def to(status: int, where: bytes, reason: str) -> Answer:
        return Answer(_head(status, b"Location: " + where + b"\r\nContent-Length: 0\r\n"), reason)

    found = {}
    for status in LEADS:
        found[f"to_{status}_relative"] = to(status, b"plain.mp4", OK)
        found[f"to_{status}_path"] = to(status, b"/plain.mp4?x=1#y", OK)
        found[f"to_{status}_chain"] = to(status, b"/to_%d_relative.mp4" % status, OK)
        found[f"to_{status}_loop"] = to(status, b"/to_%d_loop.mp4" % status, "network")
        found[f"to_{status}_nowhere"] = Answer(_head(status, b"Content-Length: 0\r\n"), "network")
        found[f"to_{status}_gone"] = to(status, b"/status_404_0.mp4", "removed")
        found[f"to_{status}_page"] = to(status, b"/html.mp4", "not_media")
    for name, where in ELSEWHERE.items():
        found[f"to_{name}"] = to(302, where, "policy_reject")
    return found


def _of_lists(clip: bytes) -> dict[str, Answer]:
    """Lists of fragments. What breaks a parser is `unknown`: nothing says whose fault it is."""
    hls = b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXTINF:%s,\nplain.mp4\n#EXT-X-ENDLIST\n"
    live = hls.removesuffix(b"#EXT-X-ENDLIST\n")
    bodies = {
        "hls": (hls % b"2.0", OK), "hls_nan": (hls % b"nan", "unknown"), "hls_dots": (hls % b"1.2.3.4", "unknown"),
        "hls_live": (live % b"2.0", "live"), "hls_empty": (b"#EXTM3U\n", "not_media"),
        "mpd_of_zero": (MPD % (b'timescale="0"', 0), "unknown"),
        "mpd_of_memory": (MPD % (b'timescale="1"', 10**9), "unknown"),
    }  # fmt: skip
    return {name: Answer(_head(200, _length(body)) + body, reason) for name, (body, reason) in bodies.items()}


@contextmanager
def sending(sent: Mapping[str, bytes]) -> Iterator[str]:
    """A host on a free port of loopback that sends the bytes by the name that is asked for; yields its address."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked = self.rfile.readline(1 << 16).split()
            while self.rfile.readline(1 << 16).strip():
                pass
            name = asked[1].decode().strip("/").partition(".")[0] if len(asked) > 1 else ""
            with suppress(OSError):  # who has seen enough hangs up
                self.wfile.write(sent.get(name, b"HTTP/1.1 404 gone\r\nContent-Length: 0\r\n\r\n"))

    with answering(Handler) as address:
        yield address
