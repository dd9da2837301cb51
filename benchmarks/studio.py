"""`python -m benchmarks.studio`: how fast scenes are made, and where the time goes."""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import av

from tasks.sources.scenes.corpus import CorpusConfig, corpus_scene, render_scene
from tasks.sources.scenes.encode import write_media
from tasks.sources.scenes.families import FAMILIES
from tasks.sources.scenes.laws import FRAME_RATE_HZ, LENGTH_S
from tasks.sources.scenes.paint import HEIGHT_PX, WIDTH_PX
from tasks.sources.scenes.scene import render_frames, render_wave

T = TypeVar("T")
NUM_PROCESSES = 2
NUM_SCENES = 2 * len(FAMILIES)  # each family twice
REQUIRED_SCENES_PER_S = 3.0


def main() -> None:
    """Prints the conditions and the table."""
    config = CorpusConfig(num_scenes=NUM_SCENES)
    with tempfile.TemporaryDirectory() as folder:
        scenes_per_s = measured_speed(Path(folder), config)
        draw_s, synth_s, encode_s = measured_parts(Path(folder), config)
        sizes = [path.stat().st_size for path in Path(folder, "media").iterdir()]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"PyAV {av.__version__}; {NUM_SCENES} scenes of {len(FAMILIES)} families, {LENGTH_S:.0f} s, "
        f"{WIDTH_PX}x{HEIGHT_PX}, {FRAME_RATE_HZ} frames/s\n"
    )
    print("| measure | value |\n|---|---|")
    print(f"| scenes/s, {NUM_PROCESSES} processes (required: {REQUIRED_SCENES_PER_S}) | {scenes_per_s:.2f} |")
    print(f"| CPU s a scene: draw | {draw_s:.3f} |")
    print(f"| CPU s a scene: synth | {synth_s:.3f} |")
    print(f"| CPU s a scene: encode | {encode_s:.3f} |")
    total_s = draw_s + synth_s + encode_s
    print(f"| CPU s a scene: all | {total_s:.3f} |")
    print(f"| scenes/s on {NUM_PROCESSES} free cores, by CPU | {NUM_PROCESSES / total_s:.2f} |")
    print(f"| kB a scene (mean, largest) | {statistics.mean(sizes) / 1000:.0f}, {max(sizes) / 1000:.0f} |")


def measured_speed(folder: Path, config: CorpusConfig) -> float:
    """Scenes a second of wall time with NUM_PROCESSES, after they have started."""
    with ProcessPoolExecutor(NUM_PROCESSES) as pool:
        list(pool.map(partial(render_scene, folder, config), range(NUM_PROCESSES)))
        started = time.perf_counter()
        list(pool.map(partial(render_scene, folder, config), range(config.num_scenes)))
        return config.num_scenes / (time.perf_counter() - started)


def measured_parts(folder: Path, config: CorpusConfig) -> tuple[float, float, float]:
    """Mean CPU seconds a scene to draw, to synthesize and to encode, one scene of each family."""
    totals = [0.0, 0.0, 0.0]
    for index in range(len(FAMILIES)):
        scene = corpus_scene(config, index)
        (frames, _), draw_s = timed(partial(render_frames, scene))
        wave, synth_s = timed(partial(render_wave, scene))
        _, encode_s = timed(partial(write_media, folder / "parts.mp4", frames, wave))
        totals = [total + part for total, part in zip(totals, (draw_s, synth_s, encode_s), strict=True)]
    draw_s, synth_s, encode_s = (total / len(FAMILIES) for total in totals)
    return draw_s, synth_s, encode_s


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What `work` returns, and the CPU seconds that it took."""
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


if __name__ == "__main__":
    main()
