"""The Croissant file of a version: JSON-LD in which data catalogues and loaders find its files and records.

`versions/{digest}.croissant.json`, Croissant 1.0 with the fields of Responsible AI. It follows from the version's
record alone, so it is made without reading a tar. Only the date comes from the history.
"""

from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from schemas import layout
from schemas.errors import DataError
from schemas.feature import Profile
from schemas.files import read_json, write_json
from schemas.outcome import Funnel
from schemas.shard import EMPTIED, Shard, Version, croissant_path, read_facts, read_history
from tasks.versions.origin import FACT, Origin, origin_of

CROISSANT = "http://mlcommons.org/croissant/"
APACHE = "https://www.apache.org/licenses/LICENSE-2.0"
CC_BY = "https://creativecommons.org/licenses/by/4.0/"
# Readers silently drop what has no term here. Our own `#sha256` has none: it is for `verify`.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        term: f"cr:{term}"
        for term in (
            "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet",
            "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField",
            "transform",
        )
    },
    "conformsTo": "dct:conformsTo",
    "cr": CROISSANT,
    "rai": f"{CROISSANT}RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
}  # fmt: skip
KEY = r"^([^.]*)\."  # of a member's name: a key has no dot
FRAME = r"^[^.]*\.(\d+)\.jpg$"
# By the end of a member's name: the record set, the type of the file, and the type of the field.
KINDS = {
    "jpg": ("frames", "image/jpeg", "sc:ImageObject"),
    "mp4": ("videos", "video/mp4", "sc:VideoObject"),
    "wav": ("sounds", "audio/wav", "sc:AudioObject"),
    "flac": ("sounds", "audio/flac", "sc:AudioObject"),
    # As a whole: mlcroissant 1.1.1 supports no `jsonPath` for files inside archives.
    "json": ("samples", "application/json", "sc:Text"),
}
# For all other members: Croissant 1.0 has no type for plain bytes.
ARRAY = ("application/octet-stream", "sc:Text")
DATE = "datePublished"
FILE = "cr:FileObject"


def write_croissant(root: Path, version: Version) -> Path:
    """Writes the Croissant file of a version; returns its path."""
    path = croissant_path(root, version.digest)
    write_json(path, croissant_of(root, version))
    return path


def croissant_of(root: Path, version: Version) -> dict[str, Any]:
    """A version under `root` as Croissant, with the date of its first publication, for a file in `versions/`."""
    described = described_version(version, read_facts(root, version.digest), f"../{layout.SHARDS}")
    published_at = [one["published_at"] for one in read_history(root) if one["digest"] == version.digest]
    return {**described, **({DATE: published_at[0]} if published_at else {})}


def problems_of_croissant(root: Path, version: Version) -> list[str]:
    """What is wrong with the Croissant file of a version. A version from before there were such files needs none.

    Its texts are not compared with those that this code would write: they may come from an earlier version.
    """
    path = croissant_path(root, version.digest)
    if not path.is_file():
        return [f"its Croissant file {path.name} is gone"] if lacks_croissant(root, version.digest) else []
    try:
        listed = {
            (one["@id"], one["sha256"]) for one in read_json(path)["distribution"] if one["@type"] == FILE
        }
    except (DataError, TypeError, KeyError):
        return [f"its Croissant file {path.name} is damaged"]
    is_of_it = listed == {(shard.name, shard.sha256) for shard in version.shards}
    return [] if is_of_it else [f"its Croissant file {path.name} lists other tars"]


def lacks_croissant(root: Path, digest: str) -> bool:
    """Whether the Croissant file of a version is gone. A version from before there were such files does not lack it."""
    if croissant_path(root, digest).is_file():
        return False
    with suppress(DataError, FileNotFoundError):  # a damaged or missing record is reported elsewhere
        return FACT in read_facts(root, digest)
    return False


def described_version(version: Version, facts: Mapping[str, Any], shards: str) -> dict[str, Any]:
    """A version as Croissant, without a date; `shards` is the folder of its tars, as seen from the file's own."""
    origin = origin_of(facts)
    name = f"mcgurk {version.profile.name} {version.digest[:12]}"
    files = [_file_object(shard, shards) for shard in version.shards]
    sets = list(_record_sets(version)) if files else []
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [f"{CROISSANT}1.0", f"{CROISSANT}RAI/1.0"],
        "name": name,
        "description": _description(version, facts),
        "license": _licences(origin),
        "url": _address(version.digest),
        "creator": {"@type": "Organization", "name": "mcgurk, the software; who ran it is not recorded"},
        "citeAs": f"@misc{{mcgurk_{version.digest[:12]}, title={{{name}}}, note={{dataset version {version.digest}}}}}",
        # Catalogues want three numbers. Versions have no order, so only the part behind the plus identifies one.
        "version": f"0.0.0+{version.digest[:12]}",
        "keywords": ["audio-visual correspondence", "sound", "video", "webdataset"],
        "distribution": [*files, *(_file_set(one, version.shards) for one in sets)],
        "recordSet": [one["records"] for one in sets],
        **{f"rai:{term}": text for term, text in _responsible(version, facts, origin)},
    }


def _address(digest: str) -> str:
    """The digest as an address (RFC 6920): where a copy will be published is not known here."""
    return f"ni:///sha-256;{urlsafe_b64encode(bytes.fromhex(digest)).decode().rstrip('=')}"


def _licences(origin: Origin) -> list[str]:
    """The licences that there are, as addresses, and who has which right, in words."""
    known = [CC_BY] if origin.is_audioset or not origin.media else []
    return [*known, *([APACHE] if origin.is_studio else []), origin.terms]


def _description(version: Version, facts: Mapping[str, Any]) -> str:
    if facts.get(EMPTIED):
        return "An empty version: every sample was taken down."
    splits = dict.fromkeys(shard.split for shard in version.shards)
    counts = {split: sum(shard.num_samples for shard in version.of_split(split)) for split in splits}
    by_split = ", ".join(f"{count:,} in {split}" for split, count in counts.items())
    return f"Pictures and sound of {version.num_samples:,} clips ({by_split}), for models of whether they correspond."


def _file_object(shard: Shard, folder: str) -> dict[str, Any]:
    return {
        "@type": FILE,
        "@id": shard.name,
        "name": f"{shard.name}.tar",
        "description": f"{shard.num_samples} samples of {shard.split}",
        "contentUrl": f"{folder}/{shard.name}.tar",
        "contentSize": f"{shard.size_bytes} B",
        "encodingFormat": "application/x-tar",
        "sha256": shard.sha256,
    }


def _record_sets(version: Version) -> Iterator[dict[str, Any]]:
    """One per kind of member: a record set of several kinds would have to declare how they join."""
    for suffix in dict.fromkeys(_kind_of(field) for field in version.fields):
        name, media_type, data_type = KINDS.get(suffix, (suffix.replace(".", "_"), *ARRAY))
        files = {"@id": f"{name}-files", "encodingFormat": media_type, "includes": f"*.{suffix}"}
        fields = [_field(name, "key", "sc:Text", _of_name(KEY))]
        fields += [_field(name, "frame", "sc:Integer", _of_name(FRAME))] if suffix == "jpg" else []
        keys = [{"@id": field["@id"]} for field in fields]
        fields.append(_field(name, "content", data_type, {"extract": {"fileProperty": "content"}}))
        records = {"@type": "cr:RecordSet", "@id": name, "name": name, "key": keys, "field": fields}
        yield {"files": files, "records": records}


def _kind_of(field: str) -> str:
    """The ending of the members of a field: `jpg` for all frames, else the field itself."""
    return "jpg" if field.endswith(".jpg") else field


def _file_set(one: Mapping[str, Any], shards: list[Shard]) -> dict[str, Any]:
    held = [{"@id": shard.name} for shard in shards]
    return {"@type": "cr:FileSet", "name": one["files"]["@id"], "containedIn": held, **one["files"]}


def _field(records: str, name: str, data_type: str, source: Mapping[str, Any]) -> dict[str, Any]:
    made = {"@type": "cr:Field", "@id": f"{records}/{name}", "name": name, "dataType": data_type}
    return {**made, "source": {"fileSet": {"@id": f"{records}-files"}, **source}}


def _of_name(pattern: str) -> dict[str, Any]:
    return {"extract": {"fileProperty": "filename"}, "transform": {"regex": pattern}}


def _responsible(version: Version, facts: Mapping[str, Any], origin: Origin) -> Iterator[tuple[str, Any]]:
    """(term, text) in the Responsible AI vocabulary. What is not known is left out."""
    yield "dataCollection", _collection(origin)
    if origin.is_published:
        yield "dataCollectionType", "Web Scraping"
    if funnel := facts.get("funnel"):
        yield "dataCollectionMissingData", _missing(funnel)
    yield "dataPreprocessingProtocol", _preprocessing(version.profile)
    yield (
        "dataImputationProtocol",
        "A segment with less content is padded with silence and its last picture; valid_ms says where padding begins.",
    )
    yield "dataAnnotationProtocol", _annotation(origin)
    yield (
        "dataReleaseMaintenancePlan",
        (
            "A version never changes. Clips that come late and videos that are taken down make another version; of a "
            "video that is taken down, the samples and all files that hold them are removed."
        ),
    )
    yield "personalSensitiveInformation", _personal(origin)
    yield (
        "dataLimitations",
        (
            f"Clips that are nearly the same as others are listed in {version.digest}.exclude.txt: do not train on "
            "them. Labels hold for a segment as a whole, not for each moment of it."
        ),
    )
    if origin.is_published:
        yield "dataBiases", "What is gone at its source is missing, so this is no random sample of the lists."
    yield (
        "dataUseCases",
        "To learn and to judge whether a sound belongs to a picture, and where the two part.",
    )


def _collection(origin: Origin) -> str:
    if origin.is_studio:
        return "Scenes that mcgurk's studio generated, whose sound is caused by what is seen."
    where = f" (sources: {', '.join(origin.media)})" if origin.media else ""
    return f"Segments that lists name were cut from videos{where}."


def _missing(funnel: Funnel) -> str:
    """The funnel in a sentence."""
    lost = [
        f"{sum(funnel[fate].values()):,} {fate}"
        + (f" ({', '.join(f'{reason} {n:,}' for reason, n in funnel[fate].items())})" if funnel[fate] else "")
        for fate in ("quarantined", "unavailable", "waiting")
    ]
    without = "; ".join([*lost, f"{funnel['forgotten']:,} taken down"])
    return f"Of {funnel['segments']:,} segments {funnel['in_shards']:,} are here; {without}."


def _preprocessing(profile: Profile) -> list[str]:
    seconds = f"{profile.length_ms / 1000:g} s"
    kept = "JPEG" if profile.picture == "jpeg" else "H.264"
    channels = "mono" if profile.channels == 1 else "stereo"
    rate = f"{profile.frame_rate_hz:g}"
    return [
        f"{profile.num_frames} pictures of {seconds}, {profile.frame_short_side_px} px at the short side, {kept}; "
        f"picture k shows second (k + 0.5) / {rate}.",
        f"{seconds} of sound, {channels}, 16 bit, {profile.sample_rate_hz:,} Hz, {profile.sound}.",
        *(["Its log-mel, float16."] if profile.has_log_mel else []),
    ]


def _annotation(origin: Origin) -> str:
    if origin.is_studio:
        return "Each scene has the label of what sounds in it, since it was generated as that."
    if origin.media and not origin.labels:
        return "There are no labels."
    whose = "AudioSet's" if origin.is_audioset else "those of the lists that were read"
    return f"Labels are {whose}, as they were found; nobody checked them for this dataset."


def _personal(origin: Origin) -> str:
    if origin.is_studio:
        return "None: nothing was recorded."
    return "People may be seen and heard. Nothing was done to find them, or to make them unrecognisable."
