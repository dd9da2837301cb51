"""`python -m benchmarks.extract [FILE ...]`: CPU of extraction against pure decode of the same clips.

Without files, ten scenes of the studio. Both sides alternate in one process on one thread; medians.
"""

import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import av

from schemas.feature import Profile
from tasks.extract import extract_clip
from tasks.media import media_streams, open_media, probe
from tasks.sources.scenes.corpus import CorpusConfig, media_path, render_scene

NUM_SCENES = 10
REPEATS = 5


def main() -> None:
    """Prints the conditions and the table."""
    with tempfile.TemporaryDirectory() as folder:
        clips = [Path(path).absolute() for path in sys.argv[1:]] or scenes(Path(folder))
        decode_s, small_s, standard_s = (
            statistics.median(times) for times in zip(*rounds(clips), strict=True)
        )
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, PyAV {av.__version__}; "
        f"{len(clips)} clips, {REPEATS} rounds, one thread\n"
    )
    print("| CPU a clip | ms | against pure decode |\n|---|---:|---:|")
    print(f"| pure decode of picture and sound | {1000 * decode_s:.1f} | 1.00 |")
    for name, cpu_s in (("small", small_s), ("standard", standard_s)):
        print(f"| extract, profile {name} | {1000 * cpu_s:.1f} | {cpu_s / decode_s:.2f} |")


def rounds(clips: list[Path]) -> list[tuple[float, float, float]]:
    """CPU seconds a clip of pure decode, extraction `small` and extraction `standard`, round by round."""
    standard = Profile("standard", frame_short_side_px=256)
    return [
        (cpu_of(decode_all, clips), cpu_of(extractor(Profile()), clips), cpu_of(extractor(standard), clips))
        for _ in range(REPEATS)
    ]


def cpu_of(function, clips: list[Path]) -> float:
    """CPU seconds a clip."""
    started = time.process_time()
    for clip in clips:
        function(clip)
    return (time.process_time() - started) / len(clips)


def decode_all(path: Path) -> None:
    """Decodes every frame of the two streams and looks at none."""
    with open_media(path) as container:
        streams = media_streams(container)
        for stream in streams:
            stream.codec_context.thread_count = 1
        for packet in container.demux(streams):
            packet.decode()


def extractor(profile: Profile):
    """Extraction of one file as a whole segment."""

    def extract(path: Path) -> None:
        facts = probe(path)
        row = {"key": path.stem, "path": str(path), "begins_s": facts.start_s, "length_s": facts.duration_s}
        extract_clip(path.parent, row, profile)

    return extract


def scenes(folder: Path) -> list[Path]:
    """Some scenes of the studio."""
    config = CorpusConfig(num_scenes=NUM_SCENES)
    for n in range(NUM_SCENES):
        render_scene(folder, config, n)
    return [media_path(folder, config, n) for n in range(NUM_SCENES)]


if __name__ == "__main__":
    main()
