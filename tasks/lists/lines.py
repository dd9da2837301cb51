"""The lines of a foreign text: any encoding, any line ends, and never more of a line than a list could contain."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from schemas.errors import DataError

MAX_CHARS = 1 << 20  # of a line: a JSON object with a page of text has a few thousand
HEAD_BYTES = 1 << 12  # enough to detect the encoding, and a file that is not text
# UTF-32 first: its mark begins with that of UTF-16. The decoders named here remove the mark.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
WIDE_SHARE = (
    0.25  # of zero bytes at odd or even places, from which a text without a mark is UTF-16: most is Latin
)
NOT_DECODED = "\ufffd"  # replaces bytes that are invalid in the encoding


class Line(NamedTuple):
    """A line without its end; `is_cut` if it was longer than MAX_CHARS, and `text` is only its beginning."""

    number: int  # from 1
    text: str
    is_cut: bool = False


def lines(path: Path) -> Iterator[Line]:
    """The lines of a text file. Raises DataError for a file that is not text."""
    with path.open("rb") as file:
        encoding = encoding_of(file.read(HEAD_BYTES), path)
    number = 0
    with path.open(encoding=encoding, errors="replace", newline=None) as text:
        while found := text.readline(MAX_CHARS):
            number += 1
            is_cut = len(found) == MAX_CHARS and found[-1] != "\n"
            end = found
            while end and end[-1] != "\n":  # of a line of a gigabyte, only the beginning is held
                end = text.readline(MAX_CHARS)
            yield Line(number, found.rstrip("\n"), is_cut)


def encoding_of(head: bytes, path: Path) -> str:
    """The encoding of a text that begins with `head`. Raises DataError for bytes that are not text."""
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    if b"\0" not in head:
        return "utf-8"
    even = head[::2].count(0)
    odd = head[1::2].count(0)
    least = WIDE_SHARE * len(head) / 2
    if odd > max(least, 8 * even):
        return "utf-16-le"
    if even > max(least, 8 * odd):
        return "utf-16-be"
    raise DataError(f"{path} is not a list of segments: it is not text: it contains zero bytes")
