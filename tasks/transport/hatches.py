"""Escape hatches: the options of yt-dlp that a user may set for a lane, for the failures that call for them.

Only listed options are allowed: none of them runs a command, loads foreign code or names a file to be written.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

# yt-dlp's extractor arguments. Not allowed: innertube_host (another host would get the requests), player_params and
# anything that writes traces.
ALLOWED_ARGS: Mapping[str, frozenset[str]] = {
    "youtube": frozenset(
        {
            "player_client", "player_skip", "player_js_variant", "player_js_version", "webpage_client", "webpage_skip",
            "skip", "lang", "formats", "fetch_pot", "raise_incomplete_data", "use_ad_playback_context",
            "po_token", "visitor_data", "data_sync_id",
        }
    )
}  # fmt: skip
SECRET_ARGS = frozenset({"po_token", "visitor_data", "data_sync_id"})  # of an account or a session
ARG = re.compile(r"[A-Za-z0-9_.,+-]{1,80}")
SECRET_PREFIXES = ("env:", "block:")
PROVIDERS = {"bgutil-http": "http://127.0.0.1:4416"}  # name -> the address where it listens by default
CLIENTS = re.compile(r"(chrome|edge|firefox|safari)(-[0-9.]{1,8})?(:[a-z]{1,12}(-[0-9.]{1,8})?)?")
FIREFOX = "firefox"
YTDLP = "yt-dlp"
# Cookies of these are looked up without a keyring, which would require running programs; so on Linux only.
CHROMIUMS = ("chrome", "chromium", "brave", "edge", "opera", "vivaldi")


@dataclass(frozen=True)
class Hatches:
    """The settings of one lane. They never appear in rows, logs or artefacts."""

    extractor_args: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict, repr=False)
    po_token_provider: str = ""  # NAME or NAME@ADDRESS, of PROVIDERS
    impersonate: str = ""  # a browser of CLIENTS
    cookies_from_browser: str = ""  # BROWSER or BROWSER:PROFILE
    through: str = ""  # YTDLP: also for what plain requests could fetch


def with_secrets(
    arguments: Mapping[str, Any], secret: Callable[[str], str]
) -> dict[str, dict[str, list[str]]]:
    """Extractor arguments with the secrets that they name filled in. Raises RequestError for an unknown secret."""
    return {
        extractor: {
            name: [secret(one) if name in SECRET_ARGS else one for one in _listed(values)]
            for name, values in named.items()
        }
        for extractor, named in arguments.items()
    }


def _listed(values: Any) -> list[str]:
    return [values] if isinstance(values, str) else list(values)


def are_extractor_args(value: Any) -> bool:
    """Whether extractor arguments are on the list of allowed ones, with secrets named instead of given."""
    if not isinstance(value, dict) or not value.keys() <= ALLOWED_ARGS.keys():
        return False
    if not all(isinstance(named, dict) for named in value.values()):
        return False
    return all(
        name in ALLOWED_ARGS[extractor] and _are_values(values, is_secret=name in SECRET_ARGS)
        for extractor, named in value.items()
        for name, values in named.items()
    )


def _are_values(values: Any, *, is_secret: bool) -> bool:
    if not isinstance(values, str | list) or not values:
        return False
    found = _listed(values)
    if not all(isinstance(one, str) for one in found):
        return False
    return all(one.startswith(SECRET_PREFIXES) if is_secret else ARG.fullmatch(one) for one in found)


def is_provider(value: Any) -> bool:
    """Whether a value names a known provider of PO tokens, at a valid address."""
    if not isinstance(value, str):
        return False
    name, at, address = value.partition("@")
    return not value or (name in PROVIDERS and (not at or _is_address(address)))


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    del port
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.username or parts.query)


def provider_address(value: str) -> str:
    """The address of a provider; empty if none is named."""
    name, _, address = value.partition("@")
    return (address or PROVIDERS.get(name, "")).rstrip("/")


def is_client(value: Any) -> bool:
    """Whether a value names a browser that can be impersonated."""
    return isinstance(value, str) and (not value or CLIENTS.fullmatch(value) is not None)


def is_browser(value: Any) -> bool:
    """Whether a value names a browser whose cookies can be read on this machine without running a program."""
    if not isinstance(value, str):
        return False
    name, _, profile = value.partition(":")
    known = (FIREFOX, *CHROMIUMS) if sys.platform.startswith("linux") else (FIREFOX,)
    return not value or (name in known and profile.isprintable())


def is_program(value: Any) -> bool:
    """Whether a value names the program that a lane may fetch through."""
    return value in ("", YTDLP)
