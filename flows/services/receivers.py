"""Who is told of alarms and of successes: what `--notify` and `--ping` name. Without Prefect, so before any server."""

import logging
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from schemas.errors import RequestError

RESOURCE = "mcgurk.alarms"  # of the events of ours that alarms await
SIGN = "mcgurk.alarms.sign"  # of something that a build or a training found
NONE = "none"  # takes away what was set
ENV = "env:"
BLOCK = "block:"


@dataclass(frozen=True)
class Message:
    """What is to be told."""

    subject: str
    body: str


@dataclass(frozen=True)
class Receivers:
    """Who is told: of alarms, and of each success of a build. None is what was set before, `none` is nobody."""

    notify: str | None = None
    ping: str | None = None

    def check(self) -> None:
        """Raises RequestError, before anything starts, for a receiver that is none; blocks are looked up later."""
        if self.notify not in (None, NONE) and not self.notify.startswith(BLOCK):
            self.apprise_url()
        self.ping_url()

    def apprise_url(self) -> str:
        """The URL that the variable `--notify` names holds. No message has it: it is a secret as a whole."""
        given = self.notify or ""
        if not given.startswith(ENV):
            raise RequestError(
                "--notify: it takes no URL, since others can read a command line: put the URL into a variable and "
                "name that (--notify env:NAME), or into a block of Prefect's (--notify block:NAME)"
            )
        return require_known(_of_environment("--notify", given), given)

    def ping_url(self) -> str | None:
        """The URL of `--ping`, if one is set now. Raises RequestError for another scheme, or an empty variable."""
        if self.ping is None or self.ping == NONE:
            return None
        url = _of_environment("--ping", self.ping) if self.ping.startswith(ENV) else self.ping
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RequestError(
                "--ping: it takes an address that begins with http:// or https://, or env:NAME of a variable that "
                "holds one"
            )
        return url


def require_known(url: str, given: str) -> str:
    """The URL. Raises RequestError where Apprise knows no service by it."""
    from apprise import Apprise  # 0.3 s, paid where there are alarms

    theirs = logging.getLogger("apprise")
    level = theirs.level
    theirs.setLevel(logging.CRITICAL + 1)  # it writes a URL that it does not know into the log, as a whole
    is_known = Apprise.instantiate(url) is not None
    theirs.setLevel(level)
    if not is_known:
        raise RequestError(
            f"--notify {given}: what it holds is no URL that Apprise knows, such as slack://... or mailto://..."
        )
    return url


def _of_environment(flag: str, given: str) -> str:
    name = given.removeprefix(ENV)
    if not os.environ.get(name):
        raise RequestError(f"{flag} {given}: the environment has no {name}: set it, or name another variable")
    return os.environ[name]
