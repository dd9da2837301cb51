"""A file that is taken for its suffix is opened: of every suffix under which ffmpeg writes picture and sound."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import av
import timecode
from timecode import Recipe

from tasks.files.suffixes import VIDEO_SUFFIXES
from tasks.media.streams import audio_stream, ffmpeg_path, open_media, video_stream

PAL = ["-s", "720x576", "-r", "25", "-pix_fmt", "yuv420p", "-ar", "48000", "-ac", "2"]  # what tapes want


def written(master, suffix):
    """The file, or None where ffmpeg writes no such, or not both streams."""
    path = master.parent / f"written{suffix}"
    for size in ([], PAL):
        command = [ffmpeg_path(), "-y", "-loglevel", "error", "-i", str(master), *size, str(path)]
        if subprocess.run(command, capture_output=True).returncode == 0 and path.stat().st_size:
            with av.open(str(path)) as container:
                return path if container.streams.video and container.streams.audio else None
    return None


def test_what_ffmpeg_writes_under_a_suffix_of_films_is_opened(tmp_path):
    master = timecode.write(tmp_path / "master.mkv", Recipe(seconds=1, frame_rate=25))
    with ThreadPoolExecutor(2) as pool:
        made = [path for path in pool.map(lambda one: written(master, one), sorted(VIDEO_SUFFIXES)) if path]

    assert len(made) > 20
    for path in made:
        with open_media(path) as container:
            assert video_stream(container) is not None and audio_stream(container) is not None, path.suffix
