"""Where alarms and success pings are sent: `--notify` and `--ping`. Without Prefect, so before any server starts."""

import logging
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from schemas.errors import RequestError

RESOURCE = "mcgurk.alarms"  # of our events that alarms wait for
SIGN = "mcgurk.alarms.sign"  # an event: a build or a training found something
NONE = "none"  # removes what was set
ENV = "env:"
BLOCK = "block:"


@dataclass(frozen=True)
class Message:
    """A message to send."""

    subject: str
    body: str


@dataclass(frozen=True)
class Receivers:
    """Where alarms and the success pings of builds go. None keeps what was set before, `none` removes it."""

    notify: str | None = None
    ping: str | None = None

    def check(self) -> None:
        """Raises RequestError, before anything starts, for an invalid receiver; blocks are looked up later."""
        if self.notify not in (None, NONE) and not self.notify.startswith(BLOCK):
            self.apprise_url()
        self.ping_url()

    def apprise_url(self) -> str:
        """The URL in the variable that `--notify` names. No message shows it: the whole URL is a secret."""
        given = self.notify or ""
        if not given.startswith(ENV):
            raise RequestError(
                "--notify takes no URL, because others can read a command line: put the URL into a variable and name "
                "it (--notify env:NAME), or into a Prefect block (--notify block:NAME)"
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
                "--ping takes an address that begins with http:// or https://, or env:NAME for a variable that holds "
                "one"
            )
        return url


def require_known(url: str, given: str) -> str:
    """Returns the URL. Raises RequestError if Apprise knows no service for it."""
    from apprise import Apprise  # 0.3 s, spent only if there are alarms

    theirs = logging.getLogger("apprise")
    level = theirs.level
    theirs.setLevel(logging.CRITICAL + 1)  # it logs the whole of a URL that it does not know
    is_known = Apprise.instantiate(url) is not None
    theirs.setLevel(level)
    if not is_known:
        raise RequestError(
            f"--notify {given}: it holds no URL that Apprise knows, such as slack://... or mailto://..."
        )
    return url


def _of_environment(flag: str, given: str) -> str:
    name = given.removeprefix(ENV)
    if not os.environ.get(name):
        raise RequestError(f"{flag} {given}: the environment has no {name}: set it, or name another variable")
    return os.environ[name]
