"""What a host's answer means: its status, its headers and the first bytes of its body."""

import re
import time
from email.utils import parsedate_to_datetime

from schemas.outcome import ItemError, Transient
from tasks.transport.failure_classes import failure

# What a host's status means if it serves files by name. YouTube answers 200 even for what is gone.
STATUSES = {401: "private", 404: "removed", 410: "removed", 451: "copyright"}
EVERYWHERE = {402: "rate_limited", 403: "forbidden", 429: "rate_limited"}
OF_PAGES = {400: "extractor_broken", 401: "forbidden", 404: "forbidden", 410: "forbidden"}
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 5
DAY_S = 86_400.0
HEAD_BYTES = (
    512  # judges a body by these bytes; a transport stream shows itself in its second packet of 188 bytes
)
CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
QUERY = re.compile(r"(https?://[^\s?]+)\?\S+")  # of media: signatures, and our address
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
NOT_CONNECTED = re.compile(r"host='([^']*)', port=(\d+)\): .*Connection refused")
NOT_RESOLVED = re.compile(r"Failed to resolve '([^']*)'")
# How files begin that libav reads: most containers at once, MP4 and its relatives with the type of their first box.
MAGIC = (
    b"\x1aE\xdf\xa3", b"RIFF", b"RF64", b"OggS", b"FLV", b"fLaC", b"ID3", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3",
    b"0&\xb2u\x8ef\xcf\x11", b"\x0bw", b"caff", b"FORM", b".snd", b"#!AMR", b".RMF", b"\x06\x0e+4", b"YUV4MPEG2",
    b"DKIF", b"nut/multimedia", b"wvpk", b"MAC ", b"TTA1", b"MPCK", b"\x7f\xfe\x80\x01",
)  # fmt: skip
BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"free", b"skip", b"wide", b"pnot", b"uuid")
FRAMES = re.compile(rb"\xff[\xe0-\xff]")  # of MPEG audio and AAC
MANIFEST = re.compile(rb"\s*(?:#EXTM3U|(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:\w+:)?MPD[\s>])", re.DOTALL)
OTHER_TYPES = re.compile(
    r"text/|image/|font/|application/(json|(\w+\+)?xml|xhtml|pdf|javascript|zip|gzip|wasm)"
)


def by_status(
    status: int, retry_after: str = "", *, said: str = "", is_direct: bool = True
) -> ItemError | Transient | OSError:
    """The meaning of a status that is not a success; `said` is the message that came with it.

    `is_direct`: for a request for a media file, not for a page about it.
    """
    known = EVERYWHERE | (STATUSES if is_direct else OF_PAGES)
    error = failure(known.get(status, "network"), f"HTTP {status}{said}", status)
    if isinstance(error, Transient):
        error.after_s = after_s(retry_after)
    return error


def after_s(header: str) -> float:
    """The pause that Retry-After requests, in seconds or as a date; at most a day, since a host may send anything."""
    text = header.strip()
    if text.isdecimal() and text.isascii():
        return min(float(text), DAY_S)
    try:
        pause_s = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError, OSError):  # not a date, or one beyond our clock's range
        return 0.0
    return min(max(pause_s, 0.0), DAY_S)


def is_manifest(head: bytes) -> bool:
    """Whether a body begins as a list of fragments: HLS, or DASH."""
    return MANIFEST.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def why_not_media(head: bytes, content_type: str) -> str:
    """Why a body that begins with `head` is not a media file; empty if it may be one.

    Media are recognised by their first bytes, whatever the host calls them; for other bytes the type decides.
    """
    if _is_known(head):
        return ""
    if OTHER_TYPES.match(content_type.strip().lower()):
        return f"it is {content_type.strip()[:80]}"
    if _is_text(head):
        return f"it is text: {head[:40].decode(errors='replace').strip()!r}"
    return ""


def is_page(head: bytes, content_type: str) -> bool:
    """Whether bytes from the middle of a body are not media: they are text, and so is their type."""
    return bool(OTHER_TYPES.match(content_type.strip().lower())) and _is_text(head)


def _is_known(head: bytes) -> bool:
    if head.startswith(MAGIC) or head[4:8] in BOXES or FRAMES.match(head):
        return True
    packets = ((0, 188), (4, 192), (0, 204))  # of a transport stream: plain, with times, with a checksum
    return any(
        head[start : start + 1] == head[start + size : start + size + 1] == b"G" for start, size in packets
    )


def _is_text(head: bytes) -> bool:
    """Whether all of it is printable text; the last character may be cut off."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode()
    return bool(text) and all(one.isprintable() or one in "\t\r\n\f\ufeff" for one in text)


def of_connection(message: str) -> str:
    """urllib3's message about a failed connection in readable form."""
    if found := NOT_CONNECTED.search(message):
        return f"connection refused by {found[1]}:{found[2]}"
    if found := NOT_RESOLVED.search(message):
        return f"no address is known for {found[1]}"
    return message


def scrubbed(message: str) -> str:
    """A message without credentials, signed queries and colours, fit to be stored."""
    plain = COLOUR.sub("", message).strip()
    return QUERY.sub(r"\1", CREDENTIALS.sub("", plain.removeprefix("ERROR: ")))
