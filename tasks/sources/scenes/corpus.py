"""A whole corpus of scenes: AudioSet's lists, media by video id, and the truth in a table beside them."""

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.files import encoded_table, write_bytes, write_text
from schemas.storage import replacing
from tasks.lists.labels import FILE, ONTOLOGY
from tasks.sources.scenes.encode import write_media
from tasks.sources.scenes.families import FAMILIES, HELD_OUT, LABELS
from tasks.sources.scenes.laws import FRAME_RATE_HZ, LENGTH_S
from tasks.sources.scenes.scene import CAUSE_NAMES, Scene, Truth, draw_scene, render

ID_LENGTH = 11  # as YouTube's

# The ancestors of the families' labels: machine id -> name and children, as in AudioSet's ontology. Only enough to try
# a choice of categories; each skips levels of the published tree.
GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "/m/0dgw9r": ("Human sounds", ("/m/07pbtc8", "/m/0l15bq", "/m/09x0r")),
    "/m/0jbk": ("Animal", ("/m/07pggtn", "/m/09ld4")),
    "/m/04rlf": ("Music", ("/m/04szw",)),
    "/m/04szw": ("Musical instrument", ("/m/0l14md", "/m/0395lw", "/m/0342h", "/m/0mkg")),
    "/m/0l14md": ("Percussion", ("/m/02hnl", "/m/0dwtp", "/m/0dwsp")),
    "/m/0395lw": ("Bell", ("/m/03w41f", "/m/026fgl")),
    "/t/dd00041": (
        "Sounds of things",
        (
            "/m/07k1x", "/m/07yv9", "/m/04k94", "/m/02mk9", "/m/03kmc9", "/m/0c2wf", "/m/07qjznl", "/m/0g6b5",
        ),
    ),
    "/m/07k1x": ("Tools", ("/m/03l9g", "/m/01b82r")),
    "/m/07yv9": ("Vehicle", ("/m/07jdr",)),
    "/m/04k94": ("Liquid", ("/m/07r5v4s", "/m/0dv3j")),
    "/m/059j3w": ("Natural sounds", ("/m/06mb1",)),
    "/t/dd00098": ("Source-ambiguous sounds", ("/m/07pqn27",)),
}  # fmt: skip

# One row per scene, joined to evaluation by video id. `causes` is null for what a family does not draw.
TRUTH = pa.schema(
    [
        ("video_id", pa.string()),
        ("family", pa.string()),
        ("held_out", pa.bool_()),
        ("causes", pa.struct([(name, pa.float64()) for name in CAUSE_NAMES])),
        ("onset_ms", pa.list_(pa.int32())),  # of the sound, from the start of the scene
        ("frame_rate_hz", pa.float64()),
        ("boxes", pa.list_(pa.list_(pa.float32(), 4))),  # per frame x0, y0, x1, y1 of the sounding thing
    ]
)


@dataclass(frozen=True)
class CorpusConfig:
    """How many scenes, from which seed, and how many of the trained families' scenes are kept for evaluation.

    The held-out families' scenes are all in eval. Without `has_cause`, each picture is paired with a sound that it does
    not cause: a model trained on such a corpus must stay at chance, or there is a shortcut.
    """

    num_scenes: int = 360
    seed: int = 0
    eval_share: float = 0.3
    has_cause: bool = True


def scene_ids(config: CorpusConfig) -> list[str]:
    """Video ids by index: hashes of seed and index, which reveal nothing about the scene."""
    return [_video_id(config.seed, index) for index in range(config.num_scenes)]


@cache
def scene_families(config: CorpusConfig) -> tuple[str, ...]:
    """The family of each scene: counts that differ by at most one, in shuffled order."""
    rng = np.random.default_rng((config.seed, config.num_scenes))
    order = rng.permutation(list(FAMILIES))
    return tuple(rng.permutation([str(order[n % len(order)]) for n in range(config.num_scenes)]).tolist())


def scene_splits(config: CorpusConfig) -> list[str]:
    """`train` or `eval` for each scene: every family is split separately, so that the shares are the same in all."""
    families = scene_families(config)
    met = dict.fromkeys(FAMILIES, 0)
    splits = []
    for family in families:
        num_eval = round(config.eval_share * families.count(family))
        is_eval = family in HELD_OUT or met[family] < num_eval
        splits.append("eval" if is_eval else "train")
        met[family] += 1
    return splits


def write_lists(folder: Path, config: CorpusConfig) -> list[Path]:
    """Writes the lists of segments of both splits, the label table and the ontology, in AudioSet's formats."""
    splits = scene_splits(config)
    paths = []
    for split in ("train", "eval"):
        indices = [index for index, name in enumerate(splits) if name == split]
        paths.append(folder / f"{split}_segments.csv")
        write_text(paths[-1], _segments_csv(config, indices))
    rows = [f'{index},{mid},"{label}"\n' for index, (mid, label) in enumerate(LABELS.items())]
    paths.append(folder / FILE)
    write_text(paths[-1], "".join(["index,mid,display_name\n", *rows]))
    paths.append(folder / ONTOLOGY)
    write_text(paths[-1], json.dumps(ontology_nodes(), indent=1) + "\n")
    return paths


def ontology_nodes() -> list[dict]:
    """The tree in AudioSet's published format: a list of {id, name, child_ids}."""
    groups = [{"id": mid, "name": name, "child_ids": list(below)} for mid, (name, below) in GROUPS.items()]
    return groups + [{"id": mid, "name": name, "child_ids": []} for mid, name in LABELS.items()]


def corpus_scene(config: CorpusConfig, index: int) -> Scene:
    """The parameters of scene number `index`."""
    scene = draw_scene(config.seed, index, scene_families(config)[index])
    return scene if config.has_cause else scene.without_cause()


def render_scene(folder: Path, config: CorpusConfig, index: int) -> dict[str, Any]:
    """Writes scene `index` to `folder/media/{video_id}.mp4`; returns its row of the truth."""
    frames, wave, truth = render(corpus_scene(config, index))
    with replacing(media_path(folder, config, index)) as temporary:
        write_media(temporary, frames, wave)
    return truth_row(config, index, truth)


def media_path(folder: Path, config: CorpusConfig, index: int) -> Path:
    """The path of the media of scene `index`."""
    return folder / "media" / f"{_video_id(config.seed, index)}.mp4"


def truth_row(config: CorpusConfig, index: int, truth: Truth) -> dict[str, Any]:
    """`truth` as a row of TRUTH."""
    return {
        "video_id": _video_id(config.seed, index),
        "held_out": truth.family in HELD_OUT,
        "frame_rate_hz": float(FRAME_RATE_HZ),
        **asdict(truth),
    }


def write_truth(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes `folder/truth.parquet`, sorted by video id."""
    path = folder / "truth.parquet"
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: row["video_id"]), schema=TRUTH)
    write_bytes(path, encoded_table(table, compression="zstd"))
    return path


def _video_id(seed: int, index: int) -> str:
    digest = hashlib.sha256(f"scene {seed} {index}".encode()).digest()
    return base64.urlsafe_b64encode(digest).decode()[:ID_LENGTH]


def _segments_csv(config: CorpusConfig, indices: list[int]) -> str:
    families = scene_families(config)
    ids = scene_ids(config)
    mids = [FAMILIES[families[index]].mid for index in indices]
    counts = f"num_ytids={len(mids)}, num_segs={len(mids)}, num_unique_labels={len(set(mids))}"
    head = [
        "# Segments csv of generated scenes",
        f"# {counts}, num_positive_labels={len(mids)}",
        "# YTID, start_seconds, end_seconds, positive_labels",
    ]
    rows = [f'{ids[n]}, 0.000, {LENGTH_S:.3f}, "{mid}"' for n, mid in zip(indices, mids, strict=True)]
    return "\n".join([*head, *rows]) + "\n"
