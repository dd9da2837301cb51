"""Lane configuration: the lanes that a user lists in `lanes.json` of the state folder, and errors in such a list."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from schemas.errors import RequestError
from tasks.transport import hatches
from tasks.transport.lanes import LaneConfig

FILE = "lanes.json"
NEW_LINE = "\n"
SHOWN_CHARS = 80  # the shown part of a rejected value


@dataclass(frozen=True)
class _Rule:
    """The values that a field accepts, as a test and in words."""

    takes: Callable[[Any], bool]
    expected: str
    is_secret: bool = False  # then a rejected value may be one


def _is_number(value: Any, most: float = math.inf) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= most


def _is_count(value: Any, least: int = 0) -> bool:
    return type(value) is int and value >= least  # `true` is not a number


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return _is_text(value) and value.replace("-", "").isalnum()


def _names_secret(value: Any) -> bool:
    return _is_text(value) and (not value or value.startswith(("env:", "block:")))


def _are_hours(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not all(map(_is_count, value)):
        return False
    first, last = value
    return first < 24 and last <= 24 and first != last


_NUMBER = _Rule(_is_number, "a number from 0")
_SECRET = _Rule(_names_secret, "the name of a secret as env:NAME or block:NAME, never itself", is_secret=True)
RULES: Mapping[str, _Rule] = {
    "name": _Rule(_is_name, "letters, digits and dashes only"),
    "concurrency": _Rule(partial(_is_count, least=1), "a whole number from 1"),
    "requests_per_hour": _NUMBER,
    "videos_per_hour": _NUMBER,
    "videos_per_day": _Rule(_is_count, "a whole number from 0"),
    "jitter_share": _Rule(partial(_is_number, most=1.0), "a number from 0 to 1"),
    "hours": _Rule(_are_hours, "two different whole hours from 0 to 24, as [1, 7] or over midnight [22, 6]"),
    "patience_s": _NUMBER,
    "proxy": _SECRET,
    "cookies": _SECRET,
    "user_agent": _Rule(_is_text, "a text"),
    "extractor_args": _Rule(
        hatches.are_extractor_args,
        "some of "
        + ", ".join(sorted(hatches.ALLOWED_ARGS["youtube"]))
        + ', as {"youtube": {"player_client": ["tv"]}}; '
        f"{', '.join(sorted(hatches.SECRET_ARGS))} as env:NAME or block:NAME",
        is_secret=True,
    ),
    "po_token_provider": _Rule(hatches.is_provider, "bgutil-http, or bgutil-http@http://HOST:PORT"),
    "impersonate": _Rule(hatches.is_client, "chrome, edge, firefox or safari, with a version as chrome-146"),
    "cookies_from_browser": _Rule(
        hatches.is_browser, "firefox or firefox:PROFILE; on Linux also " + ", ".join(hatches.CHROMIUMS)
    ),
    "through": _Rule(hatches.is_program, hatches.YTDLP),
}


def read_lanes(state: Path, default: tuple[LaneConfig, ...]) -> tuple[LaneConfig, ...]:
    """The lanes that `lanes.json` in the state folder lists, else `default`. Raises RequestError."""
    path = state / FILE
    if not path.is_file():
        return default
    try:
        text = path.read_text(encoding="utf-8")
        listed = json.loads(text)
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}:{error.lineno}:{error.colno}: it is not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: it is not text in UTF-8: {error}") from None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise RequestError(f'{path}: list the lanes as [{{"name": "home"}}, {{"name": "office"}}]')
    lanes = tuple(_lane(one, f"{path}{_place(text, number, one)}") for number, one in enumerate(listed))
    if not lanes or len({lane.name for lane in lanes}) < len(lanes):
        raise RequestError(f"{path}: list at least one lane, each with a name of its own")
    return lanes


def _mistakes(stored: Mapping[str, Any]) -> Iterator[str]:
    """The settings of a lane that don't exist or have a value that is not allowed."""
    yield from (name for name, value in stored.items() if name not in RULES or not RULES[name].takes(value))


def _place(text: str, number: int, stored: Mapping[str, Any]) -> str:
    """`:line:column` of the first mistake in lane `number` of a list that is valid JSON; empty if there is none."""
    name = next(_mistakes(stored), None)
    if name is None:
        return ""
    at = text.index("[") + 1
    for _ in range(number):
        at = text.index("{", at)
        _, at = json.JSONDecoder().raw_decode(text, at)
    at = _of_key(text, text.index("{", at), name)
    return f":{text.count(NEW_LINE, 0, at) + 1}:{at - text.rfind(NEW_LINE, 0, at)}"


def _of_key(text: str, at: int, name: str) -> int:
    """The position of the key `name` in the object that begins at `at`; the last one counts, as for JSON readers."""
    found = at
    decode = json.JSONDecoder().raw_decode
    at += 1
    while text[(at := _over(text, at, ","))] != "}":
        key, end = decode(text, at)
        found = at if key == name else found
        _, at = decode(text, _over(text, end, ":"))
    return found


def _over(text: str, at: int, mark: str) -> int:
    """The next position that is neither white space nor `mark`."""
    while text[at].isspace() or text[at] == mark:
        at += 1
    return at


def _lane(stored: Mapping[str, Any], place: str) -> LaneConfig:
    where = f"{place}: lane {str(stored.get('name', LaneConfig.name))[:SHOWN_CHARS]}"
    for name in _mistakes(stored):
        value = stored[name]
        if name not in RULES:
            raise RequestError(f"{where}: {name!r}: use some of {', '.join(sorted(RULES))}")
        shown = "" if RULES[name].is_secret else f" is {json.dumps(value)[:SHOWN_CHARS]}"
        raise RequestError(f"{where}: {name}{shown}: use {RULES[name].expected}")
    return LaneConfig(**{**stored, "hours": tuple(stored.get("hours", LaneConfig.hours))})
