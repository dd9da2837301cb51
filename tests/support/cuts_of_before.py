"""Cuts as they were made before they kept their source's clock: by ffmpeg, into MP4 where the codecs allowed it."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from ffmpeg_runs import run_ffmpeg

from tasks.media.packets import packets_as_read
from tasks.media.probe import Probe
from tasks.media.streams import open_media

MP4 = {"h264", "hevc", "mpeg4", "av1", "aac", "mp3"}
LEAD_S = 0.6
MARGIN_S = 0.5
SEEK_FROM_S = 10.0


def old_cut(source: Path, facts: Probe, segment_s: tuple[float, float], target: Path) -> tuple[Path, float]:
    """The cut of a segment of `source`, and where it was said to begin in it."""
    fits = {facts.video_codec, facts.audio_codec} <= MP4
    path = target.with_suffix(".mp4" if fits else ".mkv")
    from_s = max(0.0, segment_s[0] - LEAD_S)
    seek = ("-ss", from_s) if from_s else ()
    length = ("-t", segment_s[1] + MARGIN_S - from_s)
    run_ffmpeg(
        *seek,
        *length,
        "-fflags",
        "+genpts",
        "-i",
        source,
        "-map",
        "0:V:0?",
        "-map",
        "0:a:0?",
        "-c",
        "copy",
        path,
    )
    return path, facts.start_s + segment_s[0] - _shift(source, path, facts.start_s + from_s)


def _shift(source: Path, cut: Path, sought_s: float) -> float:
    """The one number on which most packets of both streams agreed."""
    times: dict[bytes, list[float]] = {}
    for tail, time_s in islice(_packets(cut), 128):
        times.setdefault(tail, []).append(time_s)
    read = ((tail, time_s) for tail, time_s in _packets(source) if time_s <= sought_s + SEEK_FROM_S)
    shifts = np.sort([time_s - cut_s for tail, time_s in read for cut_s in times.get(tail, ())])
    agreeing = np.searchsorted(shifts, shifts + 0.002, "right") - np.arange(len(shifts))
    best = int(agreeing.argmax())
    return float(np.median(shifts[best : best + agreeing[best]]))


def _packets(path: Path) -> Iterator[tuple[bytes, float]]:
    with open_media(path) as container:
        for packet in packets_as_read(container):
            if packet.pts is not None:
                yield bytes(packet)[-32:], float(packet.pts * packet.time_base)
