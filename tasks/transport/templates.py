"""URL templates, and the secrets in them, which never appear in a manifest, log, page or database.

`{env:NAME}` and `{block:NAME}` name a secret: a template with these is public as it is. A template that contains a
secret itself (a login before the host, a token in the query) is made public: `{kept:NAME}` takes its place, and the
secret goes to a file in the state folder that only this account can read.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from schemas.errors import RequestError
from schemas.files import read_json, write_secret

FILE = "source-secrets.json"  # in the state folder
KEPT = "kept:"
REFERENCE = re.compile(r"\{((?:env|block|kept):[\w.-]+)\}")
SCHEMES = ("http", "https")
LOGIN = "login"
# Names of parameters that sign or grant access: of hosts, of S3, of Google's and of Microsoft's clouds.
TELLING = re.compile(
    r"(.*(token|key|sig|auth|pass|pwd|secret|cred|session|jwt|hmac|policy).*|x-(amz|goog)-.*|s[evrp]|sk[oitevs]+|code)",
    re.IGNORECASE,
)
OPAQUE = re.compile(r"[\w.~+/=%-]{16,}")  # a value of this length without a word boundary is no setting
NOT_IN_LOGIN = set("@/?#%[]\\ ")
MASK = "***"
LEAST_HIDDEN = 4  # characters: shorter ones occur in every text


def without_secrets(spec: str) -> tuple[str, dict[str, str]]:
    """A source as it may be shown, and its secrets by the names that take their places."""
    parts = urlsplit(spec) if spec.partition(":")[0] in SCHEMES else None
    if parts is None:
        return spec, {}
    found: dict[str, str] = {}
    login, at, host = parts.netloc.rpartition("@")
    if at and REFERENCE.sub("", login).strip(":"):
        found[LOGIN] = login
        host = f"{{{KEPT}{LOGIN}}}@{host}"
    else:
        host = parts.netloc
    query = "&".join(_public_field(field, found) for field in parts.query.split("&"))
    return urlunsplit(parts._replace(netloc=host, query=query)), found


def _public_field(field: str, found: dict[str, str]) -> str:
    name, is_set, value = field.partition("=")
    is_known = not value or "{" in value  # a reference, or the id itself
    if not is_set or is_known or not (TELLING.fullmatch(name) or OPAQUE.fullmatch(value)):
        return field
    plain = re.sub(r"[^\w.-]", "_", name)
    found[plain] = value
    return f"{name}={{{KEPT}{plain}}}"


def shown(argument: str) -> str:
    """An argument of a command as it may be shown."""
    option, is_set, value = argument.partition("=")
    if option.startswith("--") and is_set:
        return f"{option}={without_secrets(value)[0]}"
    return without_secrets(argument)[0]


def expanded(spec: str, secret: Callable[[str], str]) -> tuple[str, list[str]]:
    """The template with its secrets filled in, and these secrets. Raises RequestError for an unknown one."""
    values: list[str] = []
    begins = spec.find("://") + 3
    login = spec.rfind("@", begins, spec.find("/", begins) if "/" in spec[begins:] else len(spec))

    def value_of(match: re.Match[str]) -> str:
        name = match[1]
        value = secret(match[1])
        values.append(value)
        if match.start() < login:
            if not name.startswith(KEPT) and NOT_IN_LOGIN & set(value):
                raise RequestError(
                    f"--source: {{{name}}} has a character that is not allowed before the host of a URL"
                )
            return value
        return value if name.startswith(KEPT) else quote(value, safe="")

    return REFERENCE.sub(value_of, spec), values


def origin(spec: str) -> str:
    """The origin of media as rows record it: a URL up to its first placeholder, without login and query."""
    parts = urlsplit(spec)
    if parts.scheme not in SCHEMES:
        return spec.split("{")[0]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".split("{")[0]


def hidden(text: str, values: Iterable[str]) -> str:
    """A text with these secrets masked, in plain and in URL-encoded form."""
    forms = {
        form for value in values for form in (value, quote(value, safe=""), quote(value), unquote(value))
    }
    for form in sorted(forms, key=len, reverse=True):
        if len(form) >= LEAST_HIDDEN:
            text = text.replace(form, MASK)
    return text


def keep(state: Path, secrets: Mapping[str, str]) -> None:
    """Stores the secrets of a template where only this account can read them."""
    if not secrets or {**_kept(state), **secrets} == _kept(state):
        return
    text = json.dumps({**_kept(state), **secrets}, sort_keys=True)
    write_secret(state / FILE, text)


def kept(state: Path, name: str) -> str:
    """A stored secret. Raises RequestError for an unknown one."""
    if name not in (found := _kept(state)):
        raise RequestError(
            f"--source: {state} does not hold the secret {{{KEPT}{name}}}: name the source in full again"
        )
    return found[name]


def _kept(state: Path) -> dict[str, str]:
    path = state / FILE
    return read_json(path) if path.is_file() else {}
