"""The head of a data card: YAML that makes the Hugging Face hub show a dataset, and `datasets` find its splits.

The hub reads only the README.md at the top of a repository, and takes paths relative to it. So the card of the latest
version is the README.md of its root, with paths such as `shards/train-000000-0a1b2c3d.tar`, and `versions/{digest}.md`
has the same head: it becomes the README.md of a copy of another version.
"""

import json
from collections.abc import Iterator, Mapping

from schemas.shard import Version
from tasks.versions.origin import Origin

OURS = "# Written by mcgurk"  # a README without this line is the user's own
# The hub's names for sizes: below this many samples.
SIZES = {
    1_000: "n<1K",
    10_000: "1K<n<10K",
    100_000: "10K<n<100K",
    1_000_000: "100K<n<1M",
    10_000_000: "1M<n<10M",
}
LARGEST = "10M<n<100M"
LIBRARY = "webdataset"  # the hub's name for the format

Paths = Mapping[str, list[str]]  # of the tars of each split, relative to the card


def head(version: Version, origin: Origin, paths: Paths) -> str:
    """The YAML head of a card between its two lines of dashes. A version without samples has no splits."""
    lines = [
        OURS,
        f"pretty_name: {_quoted(f'mcgurk {version.profile.name} {version.digest[:12]}')}",
        *_licence(origin),
        *_listed("task_categories", ["audio-classification", "other"] if origin.labels else ["other"]),
        *_listed("tags", ["audio", "image" if version.profile.picture == "jpeg" else "video", *_tags()]),
        *_listed("size_categories", [size_category(version.num_samples)]),
        *_sources(origin),
    ]
    if version.shards:
        lines += [*_configs(paths), *_sizes(version)]
    return "\n".join(["---", *lines, "---", ""])


def size_category(num_samples: int) -> str:
    """The hub's name for a dataset of this size."""
    return next((name for below, name in SIZES.items() if num_samples < below), LARGEST)


def _tags() -> list[str]:
    return ["audio-visual", "audio-visual-correspondence", LIBRARY, "mcgurk"]


def _licence(origin: Origin) -> Iterator[str]:
    """A licence that the hub has a name for; we can't grant a licence for media of others."""
    if origin.is_studio:
        yield "license: apache-2.0"
        return
    yield "license: other"
    yield f"license_name: {'labels-cc-by-4.0-media-of-their-owners' if origin.is_audioset else 'of-their-owners'}"


def _sources(origin: Origin) -> Iterator[str]:
    """The sources, if they are known: generated for this, or AudioSet's segments."""
    if origin.is_studio:
        yield from _listed("source_datasets", ["original"])
        yield from _listed("annotations_creators", ["machine-generated"])
    elif origin.is_audioset and "youtube" in origin.media:
        yield from _listed("source_datasets", ["extended|other-audioset"])


def _configs(paths: Paths) -> Iterator[str]:
    """All tars by name: a pattern would also match those of other versions beside them."""
    yield from ("configs:", "- config_name: default", "  data_files:")
    for split, names in paths.items():
        yield from (f"  - split: {split}", "    path:", *(f"    - {name}" for name in names))


def _sizes(version: Version) -> Iterator[str]:
    """Counts, from which `datasets` can tell that rows are missing; it finds the types of columns itself.

    The bytes are those of the tars. `datasets` drops splits without a number of bytes, but compares none.
    """
    size_bytes = sum(shard.size_bytes for shard in version.shards)
    yield from ("dataset_info:", "  config_name: default", "  splits:")
    for split in dict.fromkeys(shard.split for shard in version.shards):
        held = version.of_split(split)
        yield f"  - name: {split}"
        yield f"    num_bytes: {sum(shard.size_bytes for shard in held)}"
        yield f"    num_examples: {sum(shard.num_samples for shard in held)}"
    yield from (f"  download_size: {size_bytes}", f"  dataset_size: {size_bytes}")


def _listed(name: str, values: list[str]) -> Iterator[str]:
    yield f"{name}:"
    yield from (f"- {_quoted(one)}" if not one.replace("-", "").isalnum() else f"- {one}" for one in values)


def _quoted(text: str) -> str:
    """A text as YAML: JSON strings are valid YAML."""
    return json.dumps(text, ensure_ascii=False)
