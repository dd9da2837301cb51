"""Media in Parquet: `parquet:PATH`, a folder or pattern of files with the bytes inside, as Hugging Face publishes them.

A medium is a column of bytes, or of `{bytes, path}`. It is identified by its path or key (`files/stems.py`), and by
columns that name video, start and end.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import DataError
from schemas.manifest import digest_of
from schemas.outcome import ItemError, Outcome
from schemas.segment import VIDEO_ID
from tasks.files.packed import NAMED, Packed, found, index_of, named
from tasks.files.stamps import stamp_of
from tasks.files.suffixes import AUDIO_SUFFIXES, MEDIA_SUFFIXES
from tasks.lists.dialects import columns_named
from tasks.lists.formats import CLIP_MS, milliseconds
from tasks.sources import Fetch
from tasks.transport.failure_classes import failure
from tasks.transport.policy import Access

log = logging.getLogger(__name__)

FORM = "parquet:PATH"
SUFFIXES = (".parquet",)
INDEX = pa.schema(
    [*NAMED, ("group", pa.int32()), ("row", pa.int64()), ("column", pa.string()), ("size_bytes", pa.int64())]
)
# Columns that name the content of another column.
KEYS = ("__key__", "key", "path", "file", "filename", "file_name", "ytid", "youtube_id", "video_id", "id")
# What else bytes may hold, by the names of columns.
OTHERS = re.compile(r"image|thumb|mask|embedding|^(json|txt|cls|jpe?g|png|webp|npy|npz|pth|pyd|pkl|srt|vtt)$")
# For bytes without a name; their type is found when they are opened
PICTURE = ".mp4"
SOUND = ".wav"
BATCH_ROWS = 4
# The media of one group of rows, which one reader may have to hold: Hugging Face writes groups of 10 to 100 clips.
GROUP_BYTES = 4 << 30


@contextmanager
def open_source(spec: str, state: Path, access: Access) -> Iterator[Fetch]:
    """Yields `fetch`, which returns a folder of a video's media in the files. Raises RequestError if there are none."""
    files = found(spec, SUFFIXES, "Parquet file")
    packed = Packed(spec, index_of(files, state, _rows_of, INDEX), access.limits.size_bytes)
    yield partial(packed.fetch, partial(_copy, files, packed.most_bytes))


def stamps(spec: str, state: Path) -> Callable[[str], str]:
    """Sizes and times of all files: any of them may hold what a video is cut from."""
    del state
    stamp = digest_of(stamp_of(found(spec, SUFFIXES, "Parquet file")))
    return lambda video_id: stamp


def _rows_of(path: Path) -> list[dict]:
    rows = []
    try:
        file = _opened(path)
        media = _media_columns(file.schema_arrow)
        for group in range(file.num_row_groups if media else 0):
            rows += _rows_of_group(file, group, media)
    except (pa.ArrowInvalid, OSError, ValueError) as error:
        log.warning("parquet: %s: %s; what comes before that is used", path, error)
    return rows


def _opened(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)


def _media_columns(schema: pa.Schema) -> dict[str, bool]:
    """The columns that hold media, and whether they name their content; those with pictures first."""
    media = {}
    for field in (one for one in schema if not OTHERS.search(one.name.lower())):
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            media[field.name] = field.type.get_field_index("path") >= 0
        elif pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            media[field.name] = False
    return dict(sorted(media.items(), key=lambda one: (_suffix_of(one[0]) in AUDIO_SUFFIXES, one[0])))


def _suffix_of(column: str) -> str:
    """The suffix of a column's content, as far as the column's name tells."""
    if f".{column.lower()}" in MEDIA_SUFFIXES:
        return f".{column.lower()}"
    return SOUND if "audio" in column.lower() else PICTURE


def _rows_of_group(file: pq.ParquetFile, group: int, media: Mapping[str, bool]) -> list[dict]:
    """Each medium of a group of rows under each of its names."""
    schema = file.schema_arrow
    facts = file.metadata.row_group(group)
    sizes = _sizes(facts)
    if max(sizes[column] for column in media) > GROUP_BYTES:
        raise DataError(f"a row group has more than {GROUP_BYTES:,} bytes of media; write smaller ones")
    held = dict(zip(schema.names, columns_named(schema.names) or (), strict=False))
    texts = [name for name in schema.names if name in KEYS or held.get(name) in ("video_id", "start", "end")]
    texts += [f"{column}.path" for column, is_named in media.items() if is_named]
    table = file.read_row_group(group, columns=[name for name in texts if name not in media]).to_pylist()
    rows = []
    for number in range(facts.num_rows):
        said = table[number] if table else {}
        for column in media:
            place = {"group": group, "row": number, "column": column, "size_bytes": 0}
            names = {tuple(name.values()): name for name in _names(said, column, held)}
            rows += [{**name, **place} for name in names.values()]
    return rows


def _sizes(facts: pq.RowGroupMetaData) -> dict[str, int]:
    """The bytes of each column of a group, according to its metadata."""
    sizes: dict[str, int] = {}
    for chunk in (facts.column(place) for place in range(facts.num_columns)):
        column = chunk.path_in_schema.split(".")[0]
        sizes[column] = sizes.get(column, 0) + chunk.total_uncompressed_size
    return sizes


def _names(said: Mapping, column: str, held: Mapping[str, str | None]) -> Iterator[dict[str, str]]:
    """The names under which a medium is found: its own, its row's key, and that of the segment that the row names."""
    suffix = _suffix_of(column)
    own = said.get(column)
    keys = [own.get("path") if isinstance(own, dict) else None, *(said.get(name) for name in KEYS)]
    for key in (one for one in keys if isinstance(one, str)):
        if name := named(key) or named(f"{key}{suffix}"):
            yield name
    of = {kind: str(said[name]) for name, kind in held.items() if kind and said.get(name) is not None}
    if not VIDEO_ID.fullmatch(of.get("video_id", "")) or "start" not in of:
        return
    try:
        start_ms = milliseconds(of["start"])
        end_ms = milliseconds(of["end"]) if "end" in of else start_ms + CLIP_MS
    except ValueError:
        return  # it has no usable times: only its other names count
    yield {"stem": f"{of['video_id']}_{start_ms}_{end_ms}", "suffix": suffix}


def _copy(files: Sequence[Path], most_bytes: int, row: dict, target: Path) -> None:
    """Writes one medium; its group of rows is read up to it, a few rows at a time."""
    path = files[row["file"]]
    left = row["row"]
    try:
        for batch in _batches(path, row):
            if left < batch.num_rows:
                value = batch.column(0)[left].as_py()
                break
            left -= batch.num_rows
        else:
            value = None
    except (pa.ArrowInvalid, OSError) as error:
        raise failure("not_media", f"{path.name}: {error}") from None
    value = value.get("bytes") if isinstance(value, dict) else value
    if not value:
        raise ItemError(
            Outcome.UNAVAILABLE, "removed", f"{path.name} names {row['stem']}, and has no bytes of it"
        )
    if len(value) > most_bytes:
        raise failure("too_large", f"{len(value):,} bytes of {row['stem']}, more than {most_bytes:,}")
    target.write_bytes(value)


def _batches(path: Path, row: dict) -> Iterator[pa.RecordBatch]:
    file = _opened(path)
    is_named = pa.types.is_struct(file.schema_arrow.field(row["column"]).type)
    column = f"{row['column']}.bytes" if is_named else row["column"]
    return file.iter_batches(BATCH_ROWS, row_groups=[row["group"]], columns=[column], use_threads=False)
