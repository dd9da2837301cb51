"""`python -m benchmarks.extract [--peer PYTHON] [FILE ...]`: extraction against decode, ffmpeg and video2dataset.

Without files, scenes of the studio and, where they lie beside the checkout, the shared real clips, all as
10 s of 640x360 H.264 (B-frames, a key frame every 5 s at most) and AAC at 400 to 800 kbit/s. All sides take
turns at each clip, on one core; CPU time is user and system of the process and its children, of each clip the least
of all rounds, because other tenants of a machine only ever add to it.

video2dataset wants older versions of torch, numpy and pyarrow than mcgurk, and so an environment of its own. It
runs once a frame rate, with few and with all clips: the difference is free of its start.

    python3 -m venv /tmp/peer
    /tmp/peer/bin/pip install video2dataset==1.3.0 'pyarrow==17.*' 'pandas<2.3' 'setuptools<81' 'numpy<2'
    python -m benchmarks.extract --peer /tmp/peer/bin/python
"""

import os

# As a media process has it: threads that wait for each other on one core would be counted as work.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import argparse
import math
import platform
import resource
import shutil
import statistics
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import av

from schemas.feature import Profile
from tasks import features
from tasks.extract import answer_extract
from tasks.media.probe import probe
from tasks.media.streams import ffmpeg_path, media_streams, open_media
from tasks.sources.scenes.corpus import CorpusConfig, media_path, render_scene

NUM_SCENES = 10
REPEATS = 3
LENGTH_S = 10.0
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
REAL = ("chopping.mp4", "hitting_metal.mp4", "big_buck_bunny_0_30.webm", "bigbuckbunny.mp4", "nasa_13013.mp4")
# As a 360p video of the source: main profile, B-frames, two reference pictures, its bit rate.
X264 = {"c:v": "libx264", "profile:v": "main", "bf": "2", "g": "150", "b:v": "500k", "preset": "medium"}
ONE, FOUR = (Profile("bench", frame_rate_hz=rate, frame_short_side_px=256) for rate in (1.0, 4.0))
AS_PEER = {rate: replace(profile, picture="h264", sound="flac") for rate, profile in ((1, ONE), (4, FOUR))}
FEW = 2  # clips of the peer's run that is taken off

Side = Callable[[Path, Path], None]  # (clip, folder for what it writes)


def main() -> None:
    """Prints the conditions and the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--peer", help="python of an environment with video2dataset")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = options.files or bench_clips(Path(folder))
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        costs = measured(clips, Path(folder))
        if options.peer:
            costs |= {f"video2dataset {rate}": cost_of_peer(options.peer, clips, rate) for rate in (1, 4)}
    sizes = [path.stat().st_size * 8 / 1000 / LENGTH_S for path in clips if path.is_file()]
    print(
        f"{platform.machine()}, {platform.processor() or 'unknown CPU'}, load {os.getloadavg()[0]:.1f}, "
        f"PyAV {av.__version__}; {len(clips)} clips, best of {REPEATS} a clip, one core{_rates(sizes)}\n"
    )
    for title, against in (("1 frame/s", "1"), ("4 frames/s", "4")):
        print(f"| {title}: CPU a clip | ms | against picture decode | against us |\n|---|---:|---:|---:|")
        ours = costs[f"mcgurk {against}"]
        for name, cost in costs.items():
            if name[-1] == against or name.startswith("decode"):
                label = name if name.startswith("decode") else name[:-2]
                print(
                    f"| {label} | {1000 * cost:.1f} | {cost / costs['decode of the picture']:.2f} | {cost / ours:.2f} |"
                )
        print()


def _rates(kilobits: Sequence[float]) -> str:
    return f", {min(kilobits):.0f} to {max(kilobits):.0f} kbit/s" if kilobits else ""


def measured(clips: Sequence[Path], folder: Path) -> dict[str, float]:
    """CPU seconds a clip of each side: means over clips of the least of REPEATS rounds."""
    sides: dict[str, Side] = {
        "decode of the picture": decode_picture,
        "decode of picture and sound": decode_both,
    }
    for rate, profile in ((1, ONE), (4, FOUR)):
        sides[f"mcgurk {rate}"] = extractor(profile)
        sides[f"mcgurk, mp4 and FLAC {rate}"] = extractor(AS_PEER[rate])
        for label, program in ffmpegs().items():
            sides[f"one {label} a clip {rate}"] = one_ffmpeg(program, rate)
            sides[f"three calls of {label} {rate}"] = three_ffmpegs(program, rate)
    least = {name: [math.inf] * len(clips) for name in sides}
    for number in range(REPEATS):
        order = list(sides)[:: 1 if number % 2 == 0 else -1]
        for n, clip in enumerate(clips):
            for name in order:
                least[name][n] = min(least[name][n], cpu_of(sides[name], clip, folder))
    return {name: statistics.mean(of_clips) for name, of_clips in least.items()}


def cpu_of(side: Side, clip: Path, folder: Path) -> float:
    """CPU seconds of one clip, children included."""
    started = _cpu_s()
    side(clip, folder)
    return _cpu_s() - started


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def cost_of_peer(python: str, clips: Sequence[Path], rate: int) -> float:
    """CPU seconds a clip of video2dataset, its start taken off. Raises RuntimeError where it lost a clip."""
    costs = []
    for some in (clips[:FEW], clips):
        with tempfile.TemporaryDirectory() as folder:
            script = str(Path(__file__).with_name("extract_peer.py"))
            command = [python, script, folder, str(rate), *map(str, some)]
            before = _cpu_s()
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603  (the peer that was asked for)
            costs.append(_cpu_s() - before)
            (shard,) = Path(folder).glob("out/*.tar")
            with tarfile.open(shard) as tar:
                made = sum(name.endswith((".mp4", ".flac")) for name in tar.getnames())
            if made != 2 * len(some):
                raise RuntimeError(f"video2dataset made {made} files of {len(some)} clips")
    return (costs[1] - costs[0]) / (len(clips) - FEW)


def decode_picture(path: Path, folder: Path) -> None:
    """Decodes every picture and looks at none: the floor of whoever decodes all."""
    del folder
    with open_media(path) as container:
        _decode(container, media_streams(container)[:1])


def decode_both(path: Path, folder: Path) -> None:
    """Decodes picture and sound."""
    del folder
    with open_media(path) as container:
        _decode(container, media_streams(container))


def _decode(container, streams) -> None:
    for stream in streams:
        stream.codec_context.thread_count = 1
    for packet in container.demux(streams):
        packet.decode()


def extractor(profile: Profile) -> Side:
    """Everything that extraction does with a clip, as the media process does it: frames, sound, log-mel, measures."""
    names = list(features.of_profile(profile))
    asked = asdict(profile)

    def extract(path: Path, folder: Path) -> None:
        del folder
        answer_extract(str(path), (starts_s(path), LENGTH_S), asked, names)

    return extract


@cache
def starts_s(path: Path) -> float:
    """When a file's content begins: the manifest that extraction reads has it, of an earlier stage.

    The first round pays for it, which is not the least of a clip's rounds.
    """
    return probe(path).start_s


def ffmpegs() -> dict[str, str]:
    """The programs to compare with: the static one that mcgurk brings, and the system's, which starts slower."""
    programs = {"static ffmpeg": ffmpeg_path(), "system ffmpeg": shutil.which("ffmpeg", path=os.defpath)}
    return {label: program for label, program in programs.items() if program}


def one_ffmpeg(program: str, rate: int) -> Side:
    """One process with both outputs; no log-mel."""

    def run(path: Path, folder: Path) -> None:
        _ffmpeg(program, path, *_frames(folder, rate), *_wav(folder))

    return run


def three_ffmpegs(program: str, rate: int) -> Side:
    """The usual script: normalize the clip, then take its frames, then its sound."""

    def run(path: Path, folder: Path) -> None:
        whole = ("-c:v", "copy", "-c:a", "copy", str(folder / "clip.mp4"))
        _ffmpeg(program, path, *whole)
        _ffmpeg(program, folder / "clip.mp4", *_frames(folder, rate))
        _ffmpeg(program, folder / "clip.mp4", *_wav(folder))

    return run


def _frames(folder: Path, rate: int) -> tuple[str, ...]:
    scale = f"fps={rate},scale=w='if(gt(iw,ih),-2,256)':h='if(gt(iw,ih),256,-2)':flags=area"
    return ("-map", "0:v:0", "-vf", scale, "-q:v", "4", str(folder / "%03d.jpg"))


def _wav(folder: Path) -> tuple[str, ...]:
    return ("-map", "0:a:0", "-ac", "1", "-ar", "16000", "-c:a", "pcm_s16le", str(folder / "sound.wav"))


def _ffmpeg(program: str, path: Path, *arguments: str) -> None:
    quiet = ("-nostdin", "-loglevel", "error", "-y", "-threads", "1", "-i", str(path))
    subprocess.run([program, *quiet, *arguments], check=True)  # noqa: S603  (our own command)


def bench_clips(folder: Path) -> list[Path]:
    """LENGTH_S of each source at 25 frames/s."""
    shape = (LENGTH_S, 25)
    return [transcoded(path, folder / f"clip{n}.mp4", *shape) for n, path in enumerate(sources(folder))]


def sources(folder: Path) -> list[Path]:
    """Scenes and, where they are, real clips."""
    config = CorpusConfig(num_scenes=NUM_SCENES)
    found = []
    for number in range(NUM_SCENES):
        render_scene(folder, config, number)
        found.append(media_path(folder, config, number))
    return found + [SHARED / name for name in REAL if (SHARED / name).is_file()]


def transcoded(source: Path, target: Path, length_s: float, frame_rate: int) -> Path:
    """So much of `source` (looped where it is shorter) at 640x360: H.264 and AAC."""
    options = [part for name, value in X264.items() for part in (f"-{name}", value)]
    command = ["-stream_loop", "-1", "-i", str(source), "-t", str(length_s), "-map", "0:V:0", "-map", "0:a:0"]
    picture = ["-vf", f"scale=640:360,fps={frame_rate},noise=alls=6:allf=t", "-pix_fmt", "yuv420p"]
    sound = ["-ac", "2", "-ar", "44100", "-c:a", "aac", "-b:a", "96k"]
    quiet = [ffmpeg_path(), "-nostdin", "-loglevel", "error", "-y"]
    subprocess.run([*quiet, *command, *picture, *options, *sound, str(target)], check=True)  # noqa: S603  (our own command)
    return target


if __name__ == "__main__":
    main()
