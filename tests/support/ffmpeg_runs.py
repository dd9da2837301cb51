"""ffmpeg as people run it, to make media that PyAV alone would not."""

import subprocess

from tasks.media.streams import ffmpeg_path


def run_ffmpeg(*arguments: object) -> None:
    """Runs the ffmpeg that mcgurk brings; raises CalledProcessError with what it said."""
    command = [ffmpeg_path(), "-nostdin", "-loglevel", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True)
