"""Verify: recomputes every digest from the bytes on disk, and names what differs by shard, sample and member."""

import hashlib
import logging
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from schemas import layout
from schemas.files import sha256_of_file
from schemas.manifest import Row, part_numbers, part_path, read_header, read_part
from schemas.outcome import Outcome
from schemas.shard import (
    JSON_SUFFIX,
    Shard,
    index_path,
    make_version,
    published,
    read_version,
    shard_name,
    tar_path,
    without_forgotten,
)
from schemas.storage import as_local, lost_files, path_under
from tasks.feature_files import feature_files, open_members
from tasks.progress import MapItems, tracked
from tasks.versions.duplicates import problems_of_lists

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Difference:
    """One difference from what was recorded; fields are empty where a level does not apply."""

    where: str  # a shard, a part, a clip or a version, as a path under the root
    problem: str
    key: str = ""
    member: str = ""  # the suffix after the key and its dot

    def __str__(self) -> str:
        name = ".".join(one for one in (self.key, self.member) if one)
        return f"{self.where}: {name + ': ' if name else ''}{self.problem}"


@dataclass
class Findings:
    """How many things of each kind were checked, and the differences."""

    checked: Counter = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    def __iadd__(self, other: "Findings") -> "Findings":
        self.checked += other.checked
        self.differences += other.differences
        return self


def verify(root: Path, map_items: MapItems) -> Findings:
    """Versions, shards, parts and clips of `root`. Raises RequestError where there is no version."""
    read_version(root)
    found = Findings()
    shards = {}
    for digest in published(root):
        found += check_version(root, digest)
        shards |= {shard.name: shard for shard in _shards_of(root, digest)}
    parts = [(name, part) for name in layout.MANIFESTS for part in part_numbers(root / name)]
    for what, function, items in (
        ("shards", check_shard, list(shards.values())),
        ("parts", check_part, parts),
        ("clips", check_clips, part_numbers(root / layout.CLIPS)),
    ):
        results = map_items(partial(function, root), items) if items else ()
        for one in tracked(results, len(items), f"verify {what}", log):
            found += one
    found.differences.sort(key=lambda one: (one.where, one.key, one.member))
    return found


def _shards_of(root: Path, digest: str) -> list[Shard]:
    try:
        return read_version(root, digest).shards
    except (ValueError, KeyError, TypeError):  # check_version says so
        return []


def check_version(root: Path, digest: str) -> Findings:
    """Checks that a version's digest follows from its content, and that its list of tars is right."""
    where = f"{layout.VERSIONS}/{digest}.json"
    try:
        version = read_version(root, digest)
    except (ValueError, KeyError, TypeError) as error:
        return Findings(Counter(versions=1), [Difference(where, f"is not readable: {error}")])
    made = make_version(version.profile, version.fields, version.shards)
    problems = []
    if (version.digest, made.digest) != (digest, digest):
        problems.append(f"what it lists has the digest {made.digest}")

    problems += [
        f"{shard.name} is not the name of its sha256"
        for shard in version.shards
        if shard.name != shard_name(shard.split, shard.part, shard.sha256)
    ]
    listing = root / layout.VERSIONS / f"{digest}.txt"
    names = [f"../{layout.SHARDS}/{shard.name}.tar" for shard in version.shards]
    if not listing.is_file() or listing.read_text().split() != names:
        problems.append("its list of tars (.txt) differs")
    problems += problems_of_lists(root, digest)
    return Findings(Counter(versions=1), [Difference(where, problem) for problem in problems])


def check_shard(root: Path, shard: Shard) -> Findings:
    """Checks a tar against its listed sha256 and its sidecar: places, sizes and digests of all members."""
    tar = tar_path(root, shard)
    sidecar = index_path(root, shard)
    where = f"{layout.SHARDS}/{shard.name}.tar"
    gone = [path for path in (tar, sidecar) if not path.is_file()]
    if gone:
        return Findings(differences=[Difference(f"{layout.SHARDS}/{path.name}", "is gone") for path in gone])
    with as_local(tar) as local:
        sha256 = sha256_of_file(local)
        size = local.stat().st_size
        samples = read_samples(local)
    found = Findings(Counter(shards=1, bytes=size))
    if (sha256, size) != (shard.sha256, shard.size_bytes):
        found.differences.append(Difference(where, f"has the sha256 {sha256}, not {shard.sha256}"))
    indexed = _rows(sidecar)
    if indexed is None:
        found.differences.append(Difference(f"{layout.SHARDS}/{sidecar.name}", "is not readable"))
        return found
    rows = [row for row in indexed if row["outcome"] == Outcome.OK]
    found.checked["samples"] = len(rows)
    if len(rows) != shard.num_samples:
        problem = f"has {len(rows)} samples, {shard.num_samples} are listed"
        found.differences.append(Difference(f"{layout.SHARDS}/{sidecar.name}", problem))
    found.differences += [
        Difference(where, "is in the tar but not in its index", key)
        for key in set(samples) - {row["key"] for row in rows}
    ]
    for row in rows:
        members = samples.get(row["key"], {})
        found.checked["members"] += len(members)
        found.differences += [
            Difference(where, problem, row["key"], suffix)
            for suffix, problem in _sample_problems(root, shard, row, members)
        ]
    return found


PlacedMembers = dict[str, tuple[int, bytes]]  # suffix -> offset and bytes


def read_samples(tar: Path) -> dict[str, PlacedMembers]:
    """The samples of a tar by key, read with `tarfile`; samples behind a broken header are missing."""
    samples: dict[str, PlacedMembers] = {}
    try:
        with as_local(tar) as local, tarfile.open(local, "r:") as file:
            for info in file:
                key, _, suffix = info.name.partition(".")
                content = file.extractfile(info)
                samples.setdefault(key, {})[suffix] = (info.offset_data, content.read() if content else b"")
    except (tarfile.TarError, OSError, UnicodeError) as error:
        log.debug("%s: %s", tar, error)
    return samples


def _sample_problems(root: Path, shard: Shard, row: Row, members: PlacedMembers) -> Iterator[tuple[str, str]]:
    """(member, problem) of one sample; the member is empty where it is not known."""
    listed = {one["suffix"]: (one["offset"], one["size_bytes"]) for one in row["members"]}
    actual = {suffix: (offset, len(content)) for suffix, (offset, content) in members.items()}
    for suffix in sorted(listed.keys() | actual.keys()):
        if listed.get(suffix) != actual.get(suffix):
            yield suffix, f"stands at {actual.get(suffix)}, its index says {listed.get(suffix)}"
    if _digest(members) != row["digest"]:
        for suffix in _not_as_extracted(root, shard.part, row["key"], members):
            yield suffix, "differs from what was packed"


def _not_as_extracted(root: Path, part: int, key: str, members: PlacedMembers) -> list[str]:
    """The members that differ from the feature files, [""] where these cannot tell."""
    different = []
    count = 0
    for _, of_key, suffix, data in _extracted(root, part):
        if of_key == key:
            count += 1
            if suffix in members and members[suffix][1] != data:
                different.append(suffix)
    if len(different) == count:  # nothing there, or extracted anew by another profile
        return [""]
    return different or [JSON_SUFFIX]  # all is as extracted but what pack writes itself


def _extracted(root: Path, part: int) -> Iterator[tuple[Path, str, str, bytes]]:
    """(file, key, suffix, bytes) of every member in the feature files of a part."""
    for path in feature_files(root, part):
        with open_members(path) as table:
            for n, key in enumerate(table["key"].to_pylist()):
                yield path, key, table["suffix"][n].as_py(), table["data"][n].as_py()


def check_part(root: Path, item: tuple[str, int]) -> Findings:
    """Checks a part: it is readable, its files are whole, and its rows are those of the index, slot by slot."""
    name, part = item
    path = part_path(root / name, part)
    where = f"{name}/{part:06d}.parquet"
    header = read_header(path)
    rows = _rows(path)
    if header is None or rows is None:
        return Findings(Counter(parts=1), [Difference(where, "is not readable as a part")])
    problems = [f"its file {lost} is missing or has another size" for lost in lost_files(root, header.files)]
    slots = _rows(part_path(root / layout.SEGMENTS, part), ("key",))
    if slots is not None and [row["key"] for row in rows] != [row["key"] for row in slots]:
        problems.append("its rows are not those of the index")
    found = Findings(Counter(parts=1), [Difference(where, problem) for problem in problems])
    if name == layout.SHARDS:
        found += _check_packed(root, part, rows)
    return found


def _rows(path: Path, columns: Sequence[str] | None = None) -> list[Row] | None:
    """The rows of a part; None where it is gone or broken."""
    try:
        return read_part(path, columns)
    except (OSError, ValueError):
        return None


def _check_packed(root: Path, part: int, rows: list[Row]) -> Findings:
    """The rows of the manifest `shards` against the sidecar, and the samples against the feature files."""
    ok = {row["key"]: row for row in rows if row["outcome"] == Outcome.OK}
    found = Findings()
    stem = next((row["shard"] for row in ok.values()), None)
    tar, sidecar = (root / layout.SHARDS / f"{stem}.{kind}" for kind in ("tar", "parquet"))
    if not tar.is_file() or _rows(sidecar) is None:
        return found  # check_shard says so
    if _rows(sidecar) != without_forgotten(rows):
        problem = f"its rows are not those of shards/{stem}.parquet"
        found.differences.append(Difference(f"{layout.SHARDS}/{part:06d}.parquet", problem))
    whole = {k: m for k, m in read_samples(tar).items() if k in ok and _digest(m) == ok[k]["digest"]}
    for path, key, suffix, data in _extracted(root, part):
        if suffix in whole.get(key, {}):
            found.checked["features"] += 1
            if whole[key][suffix][1] != data:
                name = path_under(root, path)
                found.differences.append(Difference(name, "is not what was packed", key, suffix))
    return found


def _digest(members: PlacedMembers) -> str:
    """As pack digests a sample."""
    return hashlib.sha256(b"".join(members[suffix][1] for suffix in sorted(members))).hexdigest()


def check_clips(root: Path, part: int) -> Findings:
    """Checks the media of one part against the sha256 in the manifest `clips`."""
    found = Findings()
    rows = _rows(part_path(root / layout.CLIPS, part), ("key", "path", "sha256", "outcome"))
    for row in rows or ():  # check_part says where it is not readable
        if row["outcome"] == Outcome.OK and row["path"]:
            found.checked["clips"] += 1
            problem = _clip_problem(root / row["path"], row["sha256"])
            found.differences += [Difference(row["path"], problem, row["key"])] if problem else []
    return found


def _clip_problem(path: Path, sha256: str) -> str:
    if not path.is_file():
        return "is gone"
    actual = sha256_of_file(path)
    return "" if actual == sha256 else f"has the sha256 {actual}, not {sha256}"


def compare_tars(root: Path, listed: Shard, rebuilt: Path) -> list[Difference]:
    """The differences between a rebuilt tar and the one that `listed` names, member by member."""
    where = f"{layout.SHARDS}/{listed.name}.tar"
    before = read_samples(tar_path(root, listed))
    after = read_samples(rebuilt)
    found = []
    for key in sorted(before.keys() | after.keys()):
        old = before.get(key, {})
        new = after.get(key, {})
        for suffix in sorted(old.keys() | new.keys()):
            problem = _member_problem(old.get(suffix), new.get(suffix))
            found += [Difference(where, problem, key, suffix)] if problem else []
    return found or [Difference(where, "its rebuilt tar differs, though its members are the same")]


def _member_problem(old: tuple[int, bytes] | None, new: tuple[int, bytes] | None) -> str:
    if old is None or new is None:
        return "is only in the rebuilt tar" if old is None else "is not in the rebuilt tar"
    return "" if old[1] == new[1] else "was rebuilt with different bytes"
