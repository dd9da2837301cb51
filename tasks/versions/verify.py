"""Verify: recomputes every digest from the bytes on disk, and names what differs by shard, sample and member."""

import logging
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from schemas import layout
from schemas.errors import DataError, RequestError
from schemas.files import digest_of, sha256_of_file
from schemas.manifest import Row, part_numbers, part_path, read_header, read_part
from schemas.outcome import Outcome
from schemas.shard import (
    JSON_SUFFIX,
    Shard,
    index_path,
    latest_digest,
    make_version,
    read_version,
    shard_name,
    standing_digests,
    tar_path,
    without_forgotten,
)
from schemas.storage import as_local, lost_files, path_under
from tasks import inventory
from tasks.feature_files import feature_files, open_members
from tasks.progress import MapItems, tracked
from tasks.versions.croissant import problems_of_croissant
from tasks.versions.duplicates import problems_of_lists
from tasks.versions.findings import Difference, Findings, damage_of
from tasks.versions.receipts import problem_of
from tasks.versions.records import check_records, without_tombstones

log = logging.getLogger(__name__)


def verify(root: Path, map_items: MapItems) -> Findings:
    """Checks everything under `root`, from its records to its clips. Raises RequestError if there is no version."""
    found = check_records(root)
    digests = _digests(root)
    shards = {}
    for digest in digests:
        found += check_version(root, digest)
        shards |= {shard.name: shard for shard in _shards_of(root, digest)}
    parts = [(name, part) for name in layout.MANIFESTS for part in part_numbers(root / name)]
    for what, function, items in (
        ("shards", check_shard, list(shards.values())),
        ("parts", check_part, parts),
        ("features", check_features, part_numbers(root / layout.FEATURES)),
        ("clips", check_clips, part_numbers(root / layout.CLIPS)),
    ):
        results = map_items(partial(function, root), items) if items else ()
        for one in tracked(results, len(items), f"verify {what}", log):
            found += one
    found.differences.sort(key=lambda one: (one.where, one.key, one.member))
    return found


def _digests(root: Path) -> list[str]:
    """The existing versions, and the latest even if it is missing. Raises RequestError if there is none."""
    standing = standing_digests(root)
    try:
        latest = latest_digest(root)
    except DataError:  # reported by check_records
        latest = None
    if not standing and latest is None:
        read_version(root)
    return sorted(standing | ({latest} if latest else set()))


def _shards_of(root: Path, digest: str) -> list[Shard]:
    try:
        return read_version(root, digest).shards
    except (DataError, RequestError):  # reported by check_version
        return []


def check_version(root: Path, digest: str) -> Findings:
    """Checks that a version's digest follows from its content, and that its list of tars is right."""
    where = f"{layout.VERSIONS}/{digest}.json"
    try:
        version = read_version(root, digest)
    except DataError as error:
        problem = damage_of(root / where, error)
        return Findings(Counter(versions=1), [Difference(where, problem)])
    except RequestError:
        return Findings(Counter(versions=1), [Difference(where, "is gone, and latest.json names it")])
    made = make_version(version.profile, version.fields, version.shards)
    problems = []
    if (version.digest, made.digest) != (digest, digest):
        problems.append(f"its content has the digest {made.digest}")

    problems += [
        f"{shard.name} is not the name of its sha256"
        for shard in version.shards
        if shard.name != shard_name(shard.split, shard.part, shard.sha256)
    ]
    listing = root / layout.VERSIONS / f"{digest}.txt"
    names = [f"../{layout.SHARDS}/{shard.name}.tar" for shard in version.shards]
    if not listing.is_file() or listing.read_bytes().split() != [name.encode() for name in names]:
        problems.append("its list of tars (.txt) differs")
    problems += problems_of_lists(root, digest)
    problems += problems_of_croissant(root, version)
    problems += [problem] if (problem := problem_of(root, digest)) else []
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
    """The samples of a tar by key, read with `tarfile`; samples after a broken header are missing."""
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
    """(member, problem) of one sample; the member is empty if it is not known."""
    listed = {one["suffix"]: (one["offset"], one["size_bytes"]) for one in row["members"]}
    actual = {suffix: (offset, len(content)) for suffix, (offset, content) in members.items()}
    for suffix in sorted(listed.keys() | actual.keys()):
        if listed.get(suffix) != actual.get(suffix):
            yield suffix, f"is at {actual.get(suffix)}, its index says {listed.get(suffix)}"
    if _digest(members) != row["digest"]:
        for suffix in _not_as_extracted(root, shard.part, row["key"], members):
            yield suffix, "differs from what was packed"


def _not_as_extracted(root: Path, part: int, key: str, members: PlacedMembers) -> list[str]:
    """The members that differ from the feature files; [""] if these can't tell."""
    different = []
    count = 0
    for path in feature_files(root, part):
        for suffix, digest in _hashes(path).get(key, {}).items():
            count += 1
            if suffix in members and sha256(members[suffix][1]).hexdigest() != digest:
                different.append(suffix)
    if len(different) == count:  # nothing there, or extracted again with another profile
        return [""]
    return different or [JSON_SUFFIX]  # all is as extracted, except what pack writes itself


def _hashes(path: Path) -> dict[str, dict[str, str]]:
    """The sha256 of each member of a feature file: key -> suffix -> digest. Empty for a damaged file."""
    hashes: dict[str, dict[str, str]] = {}
    try:
        with open_members(path) as table:
            for n, key in enumerate(table["key"].to_pylist()):
                data = table["data"][n].as_buffer()
                hashes.setdefault(key, {})[table["suffix"][n].as_py()] = sha256(data).hexdigest()
    except (DataError, UnicodeDecodeError, pa.ArrowException, OverflowError):
        return {}
    return hashes


def _only(members: Collection[str]) -> str:
    """The member, if there is only one; of several it is not known which one differs."""
    return next(iter(members)) if len(members) == 1 else ""


def check_features(root: Path, part: int) -> Findings:
    """Checks the feature files of a part against the digests in its rows: all members of each sample, and no others."""
    found = Findings()
    rows = (
        _rows(part_path(root / layout.FEATURES, part), ("key", "outcome", "features")) or []
    )  # reported by check_part
    made = {row["key"]: row["features"] for row in rows if row["outcome"] == Outcome.OK}
    for path in feature_files(root, part):
        name = path.parent.name
        listed = {key: one["digest"] for key, some in made.items() for one in some if one["name"] == name}
        hashes = _hashes(path)
        where = path_under(root, path)
        if listed and not hashes:
            found.differences.append(Difference(where, "is not readable"))
            continue
        found.checked["features"] += sum(len(hashes.get(key, ())) for key in listed)
        found.differences += [
            Difference(where, "is not what was extracted", key, _only(hashes.get(key, {})))
            for key, digest in listed.items()
            if digest_of(hashes.get(key, {})) != digest
        ]
    return found


def check_part(root: Path, item: tuple[str, int]) -> Findings:
    """Checks a part: it is readable, its files are complete, and its rows are those of the index, slot by slot."""
    name, part = item
    path = part_path(root / name, part)
    where = f"{name}/{part:06d}.parquet"
    header = read_header(path)
    rows = _rows(path)
    if header is None or rows is None:
        return Findings(Counter(parts=1), [Difference(where, "is not readable as a part")])
    problems = [f"its file {lost} is missing or has another size" for lost in lost_files(root, header.files)]
    slots = _rows(part_path(root / layout.SEGMENTS, part), ("key",))
    found = Findings(Counter(parts=1))
    if name == layout.SEGMENTS:
        problems += _not_as_dealt(root, part, rows)
        found.differences += without_tombstones(root, rows)
    if slots is not None and [row["key"] for row in rows] != [row["key"] for row in slots]:
        problems.append("its rows are not those of the index")
    found.differences += [Difference(where, problem) for problem in problems]
    if name == layout.SHARDS:
        found += _check_packed(root, part, rows)
    return found


def _not_as_dealt(root: Path, part: int, rows: list[Row]) -> list[str]:
    try:
        before = inventory.read_inventory(root).get(part)
    except DataError:  # reported by check_records
        return []
    is_as_dealt = before is None or before.keys == inventory.dealt([row["key"] for row in rows]).keys
    return [] if is_as_dealt else ["its segments are not those that were dealt"]


def _rows(path: Path, columns: Sequence[str] | None = None) -> list[Row] | None:
    """The rows of a part; None if it is gone or broken."""
    try:
        return read_part(path, columns)
    except (OSError, ValueError):
        return None


def _check_packed(root: Path, part: int, rows: list[Row]) -> Findings:
    """Checks the rows of the manifest `shards` against the sidecar."""
    ok = {row["key"]: row for row in rows if row["outcome"] == Outcome.OK}
    found = Findings()
    stem = next((row["shard"] for row in ok.values()), None)
    tar, sidecar = (root / layout.SHARDS / f"{stem}.{kind}" for kind in ("tar", "parquet"))
    if not tar.is_file() or _rows(sidecar) is None:
        return found  # reported by check_shard
    if _rows(sidecar) != without_forgotten(rows):
        problem = f"its rows are not those of shards/{stem}.parquet"
        found.differences.append(Difference(f"{layout.SHARDS}/{part:06d}.parquet", problem))
    return found


def _digest(members: PlacedMembers) -> str:
    """The digest of a sample, computed as pack does."""
    return sha256(b"".join(members[suffix][1] for suffix in sorted(members))).hexdigest()


def check_clips(root: Path, part: int) -> Findings:
    """Checks the media of one part against the sha256 in the manifest `clips`."""
    found = Findings()
    rows = _rows(part_path(root / layout.CLIPS, part), ("key", "path", "sha256", "outcome"))
    for row in rows or ():  # check_part reports a part that is not readable
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
