"""One file per feature; the file name is its name. Code that features share lives in `media/`.

A feature module has

VERSION                      increased whenever its bytes change
settings(profile)            the parts of the profile that its bytes depend on, as JSON values
suffixes(profile)            the suffix of every member that it gives a sample
members(decoded, profile)    {suffix: bytes}

and may have

unmet(profile)               what the profile lacks for this feature, in words; empty if it lacks nothing
COLUMNS                      {column: Arrow type}, which it adds to the manifest `features`
measures(decoded, profile)   {column: JSON value}, its COLUMNS for one clip

A profile names its features (`Profile.features`), so a new file makes nothing stale.
"""

import sys
from collections import Counter
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from schemas.errors import InternalError, RequestError
from schemas.feature import FEATURES, Profile
from schemas.plugins import load_plugin, plugin_names
from schemas.shard import JSON_SUFFIX

if TYPE_CHECKING:
    from tasks.media.decode import Decoded

REQUIRED = ("VERSION", "settings", "suffixes", "members")


@cache  # it lists a folder, and is called for every clip
def modules() -> dict[str, ModuleType]:
    """Every feature, by name. Raises InternalError for a file that is not a feature."""
    package = sys.modules[__name__]
    return {name: load_plugin(package, name, REQUIRED) for name in plugin_names(package)}


@cache  # as above
def of_profile(profile: Profile) -> dict[str, ModuleType]:
    """The features of `profile`, by name. Raises RequestError for one that does not exist or that it can't have."""
    found = {}
    for name in profile.features:
        if name not in modules():
            raise RequestError(
                f"the profile {profile.name!r} names the feature {name!r}: use some of {', '.join(modules())}"
            )
        module = modules()[name]
        unmet = module.unmet(profile) if hasattr(module, "unmet") else ""
        if unmet:
            raise RequestError(
                f"the profile {profile.name!r} can't have the feature {name!r}: it needs {unmet}"
            )
        found[name] = module
    return found


def member_suffixes(profile: Profile) -> list[str]:
    """The suffixes of every sample of a version with `profile`, sorted as in the tar.

    Raises InternalError if two features give the same one.
    """
    suffixes = [
        JSON_SUFFIX,
        *(one for module in of_profile(profile).values() for one in module.suffixes(profile)),
    ]
    twice = [suffix for suffix, count in Counter(suffixes).items() if count > 1]
    if twice:
        raise InternalError(f"several features of the profile {profile.name!r} give the member {twice[0]!r}")
    return sorted(suffixes)


def manifest_schema(profile: Profile) -> pa.Schema:
    """The schema of the manifest `features` with `profile`: FEATURES and the columns of its features."""
    schema = FEATURES
    for module in of_profile(profile).values():
        for name, kind in getattr(module, "COLUMNS", {}).items():
            schema = schema.append(pa.field(name, kind))
    return schema


def measures(decoded: "Decoded", profile: Profile) -> dict[str, Any]:
    """The columns that the features of `profile` add for one decoded clip."""
    found: dict[str, Any] = {}
    for module in of_profile(profile).values():
        if hasattr(module, "COLUMNS"):
            found |= module.measures(decoded, profile)
    return found
