"""The options of a command as one dataclass: each field is an option of the command line and of Prefect's form.

A field declares its help in `Annotated[..., Option(...)]`; its type and default say the rest. Pydantic, which Prefect
uses, reads the same field: it is not imported here, because that costs a command a tenth of a second.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, fields
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """What a field declares besides its type: its help, a placeholder for its value, another name for it.

    `choices` and `pattern` limit the texts in Prefect's form; a command refuses others with a sentence.
    """

    help: str
    metavar: str | None = None
    flag: str | None = None
    is_positional: bool = False
    choices: Callable[[], Iterable[str]] | None = None
    pattern: str | None = None

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict]) -> dict:
        """The description in Prefect's form, and which texts are valid."""
        form = {**handler(schema), "description": self.help}
        for one in form.get("anyOf", [form]):  # a text, or a text or nothing
            if one.get("type") == "string":
                one |= self._limits()
        return form

    def _limits(self) -> dict[str, Any]:
        enum = {"enum": list(self.choices())} if self.choices else {}
        return {**enum, "pattern": self.pattern} if self.pattern else enum


Root = Annotated[str, Option("where segments, clips, shards and versions lie", "DIR")]
State = Annotated[str | None, Option("attempts, lanes, logs and databases; default ROOT/state", "DIR")]
Json = Annotated[bool, Option("machine-readable")]
Notify = Annotated[
    str | None,
    Option(
        "where alarms are sent: an Apprise URL (slack://, mailto://, json://, ...) as env:NAME or block:NAME; none "
        "removes it; default: as it was set before",
        "NAME",
    ),
]
Ping = Annotated[
    str | None,
    Option(
        "an http(s) URL, or env:NAME for one, that is requested at each success of a scheduled build", "URL"
    ),
]


def flag_of(field: Field, option: Option) -> str:
    """How an option is written on the command line."""
    return field.name if option.is_positional else option.flag or f"--{field.name.replace('_', '-')}"


def options_of(kind: type) -> list[tuple[Field, Option, Any]]:
    """The fields of a dataclass of options that the command line has, with their types."""
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for field in fields(kind):
        bare, *marks = get_args(hints[field.name]) if get_origin(hints[field.name]) is Annotated else [None]
        found += [(field, mark, bare) for mark in marks if isinstance(mark, Option)]
    return found


def add_arguments(parser: argparse.ArgumentParser, kind: type) -> None:
    """Gives `parser` an argument for each option of a dataclass."""
    for field, option, bare in options_of(kind):
        settings = _settings(field, bare)
        if option.metavar and settings.get("action") != "store_true":
            settings["metavar"] = option.metavar
        if option.is_positional:
            settings.pop("required", None)  # it always is
        else:
            settings["dest"] = field.name
        parser.add_argument(flag_of(field, option), help=option.help, **settings)


def _settings(field: Field, bare: Any) -> dict[str, Any]:
    """What argparse must know about a field, from its type and default."""
    default = field.default
    if bare is bool:
        return {"action": "store_true"}
    if get_origin(bare) is tuple:
        if default is MISSING:
            return {"nargs": "+"}
        return {"nargs": "+", "action": "extend", "default": list(default)}
    given = {"required": True} if default is MISSING else {"default": default}
    if get_origin(bare) is Literal:
        return {**given, "choices": get_args(bare)}
    plain = (
        next(one for one in get_args(bare) if one is not type(None)) if isinstance(bare, UnionType) else bare
    )
    return {**given, "type": plain}


def read_arguments(kind: type[T], namespace: argparse.Namespace) -> T:
    """The dataclass of options that a parsed command line holds."""
    values = {field.name: getattr(namespace, field.name) for field, *_ in options_of(kind)}
    return kind(**{name: tuple(one) if isinstance(one, list) else one for name, one in values.items()})


def written(options: Any) -> list[str]:
    """The options of a dataclass as a command line writes them, without those that have their default."""
    words = []
    for field, option, _ in options_of(type(options)):
        value = getattr(options, field.name)
        if value != field.default:
            items = value if isinstance(value, tuple) else () if value is True else (value,)
            words += [flag_of(field, option), *(str(item).removesuffix(".0") for item in items)]
    return words
