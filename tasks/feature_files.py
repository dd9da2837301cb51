"""Feature files: one Arrow file per part and feature, one row per member, with the members of a key together."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path

import pyarrow as pa

from schemas import layout
from schemas.files import digest_of, telling_damage
from schemas.storage import as_local, replacing

MEMBERS = pa.schema([("key", pa.string()), ("suffix", pa.string()), ("data", pa.large_binary())])
RowSpan = tuple[int, int]  # first row and number of rows of a key


def feature_path(root: Path, name: str, part: int) -> Path:
    """The path of a feature of a part."""
    return root / layout.FEATURES / name / f"{part:06d}.arrow"


def feature_files(root: Path, part: int) -> list[Path]:
    """The existing feature files of a part."""
    folders = sorted(path.name for path in (root / layout.FEATURES).glob("*") if path.is_dir())
    return [path for name in folders if (path := feature_path(root, name, part)).is_file()]


def fragment_path(root: Path, name: str, part: int, number: int) -> Path:
    """The path where a batch of clips stores its members of a feature until the part is joined."""
    return root / layout.FEATURES / name / f".{part:06d}-{number:06d}.arrow"


def fragment_paths(root: Path, name: str, part: int) -> list[Path]:
    """The existing fragments of a part, in order."""
    folder = root / layout.FEATURES / name
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.name.startswith(f".{part:06d}-") and path.suffix == ".arrow")


def all_fragments(root: Path) -> list[Path]:
    """The existing fragments of all parts and features."""
    return list((root / layout.FEATURES).glob("*/.*-*.arrow"))


@contextmanager
def open_members(path: Path) -> Iterator[pa.Table]:
    """A feature file as a memory-mapped table, valid inside the block. Raises DataError if it is damaged."""
    with as_local(path) as local, pa.memory_map(str(local)) as source:
        with telling_damage(path):
            table = pa.ipc.open_file(source).read_all()
        yield table


def spans_by_key(table: pa.Table) -> dict[str, RowSpan]:
    """The rows of each key's members."""
    places: dict[str, RowSpan] = {}
    for row, key in enumerate(table["key"].to_pylist()):
        first, count = places.get(key, (row, 0))
        places[key] = first, count + 1
    return places


def read_sample(table: pa.Table, place: RowSpan) -> dict[str, bytes]:
    """The members of one key by suffix."""
    rows = table.slice(*place)
    return dict(zip(rows["suffix"].to_pylist(), rows["data"].to_pylist(), strict=True))


def digest_of_members(members: Mapping[str, bytes]) -> str:
    """The digest of a feature of one sample, as stored in its row."""
    return digest_of({suffix: hashlib.sha256(data).hexdigest() for suffix, data in members.items()})


def write_fragment(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> None:
    """Writes the members of some clips: key -> suffix -> bytes."""
    rows = [
        {"key": key, "suffix": suffix, "data": members[suffix]}
        for key, members in samples.items()
        for suffix in sorted(members)
    ]
    _write(path, [pa.Table.from_pylist(rows, MEMBERS)])


def write_members(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> None:
    """Writes the feature file that `join_members` would make from these members: key -> suffix -> bytes."""
    rows = (
        [{"key": key, "suffix": suffix, "data": members[suffix]} for suffix in sorted(members)]
        for key, members in samples.items()
    )
    _write(path, (pa.Table.from_pylist(of_key, MEMBERS) for of_key in rows))


def join_members(target: Path, fragments: Sequence[Path], keys: Sequence[str]) -> int:
    """Writes the members of `keys`, in that order, from new fragments, otherwise from the existing file.

    Returns the size of the file in bytes; a file that already holds exactly these members is left alone.
    """
    if not fragments and _keys_of(target) == list(keys):
        return target.stat().st_size
    return _joined(target, fragments, keys)


def _joined(target: Path, fragments: Sequence[Path], keys: Sequence[str]) -> int:
    sources = [*fragments, *([target] if target.is_file() else [])]
    with _opened(sources) as tables:
        found: dict[str, tuple[pa.Table, RowSpan]] = {}
        for table in tables:
            found = {**{key: (table, place) for key, place in spans_by_key(table).items()}, **found}
        return _write(target, (table.slice(*place) for table, place in map(found.__getitem__, keys)))


def drop_members(path: Path, keys: Collection[str]) -> int:
    """Rewrites a feature file without `keys` if any of its bytes name them; returns its size in bytes."""
    if not _is_named(path, keys):
        return path.stat().st_size
    return _joined(path, [], [key for key in _keys_of(path) or () if key not in keys])


def _is_named(path: Path, keys: Collection[str]) -> bool:
    """Whether a key occurs anywhere in a file: in its members, or in the bytes between them."""
    with (
        as_local(path) as local,
        local.open("rb") as file,
        mmap(file.fileno(), 0, access=ACCESS_READ) as data,
    ):
        return any(data.find(key.encode()) >= 0 for key in keys)


def _keys_of(path: Path) -> list[str] | None:
    if not path.is_file():
        return None
    with open_members(path) as table:
        return list(spans_by_key(table))


@contextmanager
def _opened(paths: Sequence[Path]) -> Iterator[list[pa.Table]]:
    with ExitStack() as stack:
        yield [stack.enter_context(open_members(path)) for path in paths]


def _write(path: Path, tables: Iterable[pa.Table]) -> int:
    with replacing(path) as temporary:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, MEMBERS) as writer:
            for table in tables:
                # A separate copy: the padding behind the buffers of a slice would reveal what was beside it.
                writer.write_table(table.take(pa.array(range(table.num_rows), pa.int64())))
        return temporary.stat().st_size
