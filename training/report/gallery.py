"""Clips to look at and listen to: examples, heat maps, and the clips that a model finds for a picture or a sound."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from soxr import resample

from schemas import waveforms
from schemas.waveforms import SAMPLE_RATE_HZ
from training.estimates import ranks
from training.evaluation import SPLIT, steps_of_matrix
from training.interface import AvcModel
from training.networks.embeddings import Embeddings, clip_scores, embed, pictures
from training.reading.dataset import Dataset, clip_groups
from training.reading.decoding import load_frames, window_start
from training.reading.sampling import View, even_plan, usable
from training.report import figures

NUM_EXAMPLES = 4
NUM_HEAT_MAPS = 6
NUM_QUERIES = 4
NUM_FOUND = 5
MOST_CLIPS = 96  # in the matrix: more could not be distinguished
FILM_FRAMES = 5
EXCERPT_S = 2  # of a found sound: enough to recognise it, and the page stays small


@dataclass(frozen=True)
class Item:
    """A clip for display: any of its media as data URIs."""

    group: str
    key: str
    frame: str = ""
    film: tuple[str, ...] = ()
    sound: str = ""
    spectrogram: str = ""
    probability: float = 0.0
    is_own: bool = False
    is_same_group: bool = False


@dataclass(frozen=True)
class Query:
    """A query, the first clips that it finds, and the rank of its own clip."""

    item: Item
    found: list[Item]
    rank: float


@dataclass(frozen=True)
class HeatMap:
    """A frame as the model sees it: plain, with the heat of its own sound and of another's."""

    own: Item
    other: Item
    frame: str
    with_own: str
    with_other: str


@dataclass(frozen=True)
class Gallery:
    """All media of a page."""

    examples: list[Item]
    heat_maps: list[HeatMap]
    by_image: list[Query]
    by_audio: list[Query]
    matrix: Markup
    num_clips: int


class GalleryClips:
    """The evaluated clips with their vectors, and their media on demand."""

    def __init__(
        self, model: AvcModel, dataset: Dataset, groups: Mapping[str, str] | None, names: Mapping[str, str]
    ) -> None:
        clips = usable(dataset.split(SPLIT), model.view)
        own = clip_groups(clips, groups).tolist()
        rows = np.sort(np.random.default_rng(0).permutation(len(clips))[:MOST_CLIPS])
        rows = rows[np.argsort([own[row] for row in rows], kind="stable")]  # groups are adjacent
        clips = clips.take(rows)
        everything = product(range(len(clips)), clips.version.fields)
        self.model = model
        self.clips = clips.holding(everything)
        self.groups = [names.get(own[row], own[row]) for row in rows]
        self.encoded: Embeddings = embed(model, self.clips, steps_of_matrix(model, clips))
        self.shown_step = self.encoded.num_steps // 2  # the middle one
        self.scores = clip_scores(model, self.encoded)

    def logit(self, image: int, audio: int) -> float:
        """The mean logit of one clip's pictures with one clip's sounds."""
        return float(self.scores[image, audio])

    def item(self, row: int, *, parts: str, query: int | None = None, logit: float = 0.0) -> Item:
        """Clip `row` with the wanted `parts`: any of frame, film, sound, excerpt."""
        clips = self.clips
        middle = int(self.encoded.frames[row, self.shown_step])
        media: dict[str, Any] = {}
        if "frame" in parts:
            media["frame"] = figures.jpeg_uri(clips.frame(row, middle))
        if "film" in parts:
            every = even_plan(clips, np.array([row]), FILM_FRAMES, self.model.view).frames.tolist()
            media["film"] = tuple(figures.jpeg_uri(clips.frame(row, index)) for index in every)
        if "sound" in parts:
            media |= {"sound": figures.wav_uri(self._excerpt(row)[0])}
            media |= {"spectrogram": figures.spectrogram_uri(self._excerpt(row)[1])}
        if "excerpt" in parts:
            sound, log_mel = self._excerpt(row, middle)
            media |= {"sound": figures.wav_uri(sound), "spectrogram": figures.spectrogram_uri(log_mel)}
        return Item(
            self.groups[row],
            clips.keys[row],
            probability=float(1 / (1 + np.exp(-logit))),
            is_own=row == query,
            is_same_group=query is not None and self.groups[row] == self.groups[query],
            **media,
        )

    def _excerpt(self, row: int, middle: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """All of a clip's sound and log-mel, or EXCERPT_S around frame `middle`."""
        sound = resample(self.clips.wave(row).T, self.clips.profile.sample_rate_hz, SAMPLE_RATE_HZ)[:, 0]
        log_mel = waveforms.log_mel(sound)
        if middle is None:
            return sound, log_mel
        columns = EXCERPT_S * 100
        centre = window_start(self.clips.profile, middle, View()) + 50
        start = int(np.clip(centre - columns // 2, 0, log_mel.shape[1] - columns))
        hop = len(sound) // log_mel.shape[1]
        return sound[start * hop : (start + columns) * hop], log_mel[:, start : start + columns]


def show(
    model: AvcModel, dataset: Dataset, groups: Mapping[str, str] | None, names: Mapping[str, str]
) -> Gallery:
    """The media of a page about `model`, all of held-out clips of split `eval`."""
    clips_shown = GalleryClips(model, dataset, groups, names)
    n = len(clips_shown.groups)
    bounds = [k for k in range(1, n) if clips_shown.groups[k] != clips_shown.groups[k - 1]]
    spread = np.unique(np.linspace(0, n - 1, NUM_EXAMPLES + 2).astype(int)[1:-1])
    return Gallery(
        examples=[
            clips_shown.item(row, parts="film sound", logit=clips_shown.logit(row, row))
            for row in spread.tolist()
        ],
        heat_maps=_heat_maps(clips_shown),
        by_image=_queries(clips_shown, clips_shown.scores, ("frame", "excerpt")),
        by_audio=_queries(clips_shown, clips_shown.scores.T, ("excerpt", "frame")),
        matrix=Markup(figures.similarity_matrix(clips_shown.scores, bounds)),  # noqa: S704  (numbers only)
        num_clips=n,
    )


def _queries(clips_shown: GalleryClips, scores: np.ndarray, parts: tuple[str, str]) -> list[Query]:
    """Queries spread evenly from the best to the worst rank, so that the selection is fair."""
    rank = ranks(scores, np.ones_like(scores, dtype=bool))
    order = np.argsort(rank, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, NUM_QUERIES).astype(int))]
    queries = []
    for row in chosen.tolist():
        first = np.argsort(-scores[row], kind="stable")[:NUM_FOUND].tolist()
        found = [clips_shown.item(k, parts=parts[1], query=row, logit=float(scores[row, k])) for k in first]
        queries.append(Query(clips_shown.item(row, parts=parts[0]), found, float(rank[row])))
    return queries


@torch.inference_mode()
def _heat_maps(clips_shown: GalleryClips) -> list[HeatMap]:
    """Evenly spread clips under their own sound and under that of a clip of another group."""
    n = len(clips_shown.groups)
    model = clips_shown.model
    device = model.calibration.device
    rows = np.unique(np.linspace(0, n - 1, NUM_HEAT_MAPS).astype(int))
    shown = []
    for row in rows.tolist():
        strangers = [k for k in range(n) if clips_shown.groups[k] != clips_shown.groups[row]] or [
            (row + 1) % n
        ]
        other = strangers[(row * 7 + 3) % len(strangers)]
        num_steps = clips_shown.encoded.num_steps
        middle = clips_shown.shown_step
        plan = even_plan(clips_shown.clips, np.array([row]), num_steps, model.view)
        frame = load_frames(clips_shown.clips, plan, model.view)[middle]
        encoded = model.encode_image(pictures(frame[None].to(device)))["map"].float()
        sounds = clips_shown.encoded.audio[[row, other], middle].to(device)
        own, strange = model.heat(encoded.expand(2, -1, -1, -1), sounds).cpu().numpy()
        low = min(own.min(), strange.min(), 0.0)
        high = max(own.max(), strange.max())
        pixels = (frame[len(frame) // 2] if model.view.num_frames > 1 else frame).permute(1, 2, 0).numpy()
        shown.append(
            HeatMap(
                clips_shown.item(row, parts="", logit=clips_shown.logit(row, row)),
                clips_shown.item(other, parts="", logit=clips_shown.logit(row, other)),
                figures.jpeg_uri(pixels),
                figures.jpeg_uri(figures.heat_over(pixels, own, low, high)),
                figures.jpeg_uri(figures.heat_over(pixels, strange, low, high)),
            )
        )
    return shown
