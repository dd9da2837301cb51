"""Faulty clips on request: each is a scene of a corpus with one defect, as found in the wild."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from schemas.errors import RequestError
from schemas.storage import replacing
from tasks.sources.scenes.corpus import CorpusConfig, corpus_scene, media_path
from tasks.sources.scenes.encode import write_media
from tasks.sources.scenes.laws import FRAME_RATE_HZ
from tasks.sources.scenes.scene import Scene, render
from tasks.sources.scenes.synth import SAMPLE_RATE_HZ

TOO_SHORT_S = 3.0
TRUNCATED_SHARE = 0.6  # of the bytes that arrived: the index at the end of an mp4 is missing
SHIFT_MS = 800  # late, far beyond what a viewer tolerates
OTHER_CONTAINER = "matroska"


@dataclass(frozen=True)
class _Media:
    """What will be written."""

    frames: np.ndarray
    wave: np.ndarray
    container: str = "mp4"
    kept_share: float = 1.0  # of the file's bytes


def write_fault(name: str, folder: Path, config: CorpusConfig, index: int) -> Path:
    """Writes scene `index` with fault `name` to where its intact media would be.

    A duplicate has the content of the scene before it, under its own video id. Raises RequestError for a
    name that is not in FAULTS.
    """
    if name not in _MAKERS:
        raise RequestError(f"no fault {name!r}; there are {', '.join(FAULTS)}")
    of = (index - 1) % config.num_scenes if name == "duplicate" else index
    media = _MAKERS[name](corpus_scene(config, of))
    path = media_path(folder, config, index)
    with replacing(path) as temporary:
        write_media(temporary, media.frames, media.wave, media.container)
        if media.kept_share < 1.0:
            content = temporary.read_bytes()
            temporary.write_bytes(content[: int(media.kept_share * len(content))])
    return path


def _whole(scene: Scene) -> _Media:
    frames, wave, _ = render(scene)
    return _Media(frames, wave)


def _silent(scene: Scene) -> _Media:
    media = _whole(scene)
    return _Media(media.frames, np.zeros_like(media.wave))


def _frozen(scene: Scene) -> _Media:
    media = _whole(scene)
    return _Media(np.broadcast_to(media.frames[:1], media.frames.shape).copy(), media.wave)


def _black(scene: Scene) -> _Media:
    media = _whole(scene)
    return _Media(np.zeros_like(media.frames), media.wave)


def _too_short(scene: Scene) -> _Media:
    media = _whole(scene)
    return _Media(
        media.frames[: round(TOO_SHORT_S * FRAME_RATE_HZ)],
        media.wave[: round(TOO_SHORT_S * SAMPLE_RATE_HZ)],
    )


def _truncated(scene: Scene) -> _Media:
    media = _whole(scene)
    return _Media(media.frames, media.wave, kept_share=TRUNCATED_SHARE)


def _wrong_container(scene: Scene) -> _Media:
    media = _whole(scene)
    return _Media(media.frames, media.wave, container=OTHER_CONTAINER)


def _sound_shifted(scene: Scene) -> _Media:
    return _whole(scene.with_sound_shifted(SHIFT_MS))


_MAKERS: dict[str, Callable[[Scene], _Media]] = {
    "silent": _silent,
    "frozen": _frozen,
    "black": _black,
    "too_short": _too_short,
    "truncated": _truncated,
    "wrong_container": _wrong_container,
    "sound_shifted": _sound_shifted,
    "duplicate": _whole,
}
FAULTS = tuple(_MAKERS)
