"""Frames are shown as players show them: upright, not mirrored, and in the colours that were meant."""

import subprocess
from itertools import product

import av
import imageio_ffmpeg
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from tasks.media.colour import Picture, is_hdr, upright

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
SIZE = (96, 64)
MATRICES = list(product((0, 90, 180, 270), (False, True), (False, True)))
PATCHES = np.array(
    [[(200, 30, 30), (30, 200, 30), (30, 30, 200)], [(235, 235, 235), (128, 128, 128), (16, 16, 16)]],
    np.uint8,
)


def ffmpeg(*arguments: object, given: bytes = b"") -> bytes:
    command = [FFMPEG, "-nostdin", "-y", "-loglevel", "error", *map(str, arguments)]
    done = subprocess.run(
        command if not given else [command[0], *command[2:]],
        input=given or None,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def write(path, *options, scale=1, before=()):
    """A film of a few frames that shows PATCHES."""
    picture = PATCHES.repeat(SIZE[1] // 2 * scale, 0).repeat(SIZE[0] // 3 * scale, 1)
    size = f"{SIZE[0] * scale}x{SIZE[1] * scale}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", 5, "-i", "-"]
    ffmpeg(*before, *raw, *options, path, given=picture.tobytes() * 3)
    return path


def first_frame(path) -> av.VideoFrame:
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


def shown(path) -> np.ndarray:
    """float64 (rows, columns, RGB): what our picture has in the middle of each patch."""
    picture = upright(first_frame(path), SIZE, VideoReformatter())
    colours = rgb(picture)
    return np.array([[colours[16 + 32 * row, 16 + 32 * column] for column in range(3)] for row in range(2)])


def rgb(picture: Picture) -> np.ndarray:
    luma = picture.luma.astype(float)
    blue, red = (
        (plane.astype(float) - 128).repeat(2, 0).repeat(2, 1) for plane in (picture.blue, picture.red)
    )
    return np.stack(
        [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=2
    )


def worst(path) -> float:
    return float(np.abs(shown(path) - PATCHES).max())


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film")
    return write(
        folder / "film.mp4",
        "-vf",
        "scale=out_color_matrix=bt601:out_range=tv",
        "-pix_fmt",
        "yuv420p",
        "-crf",
        4,
    )


@pytest.mark.parametrize(("turn", "across", "down"), MATRICES)
def test_every_display_matrix_is_obeyed_as_ffmpeg_obeys_it(film, tmp_path, turn, across, down):
    mirrors = ["-display_hflip"] * across + ["-display_vflip"] * down
    path = tmp_path / "film.mp4"
    ffmpeg(*mirrors, "-display_rotation", turn, "-i", film, "-c", "copy", path)

    ours = upright(first_frame(path), SIZE, VideoReformatter())

    size = SIZE if turn % 180 == 0 else SIZE[::-1]
    theirs = ffmpeg("-i", path, "-frames:v", 1, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    picture = np.frombuffer(theirs, np.uint8).reshape(size[1], size[0], 3)
    assert np.abs(rgb(ours)[8::16, 8::16] - picture[8::16, 8::16]).max() < 12


MAPPED = (
    "format=gbrpf32le,zscale=matrixin=gbr:transferin=bt709:primariesin=bt709:rangein=pc:transfer=linear:primaries=bt2020:"
    "npl=203,zscale=transfer={transfer}:matrix=bt2020nc:range=tv:npl=203,format=yuv420p10le"
)


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67", "bt2020-10"])
def test_wide_colours_and_light_become_what_was_meant(tmp_path, transfer):
    tags = [
        "-color_primaries",
        "bt2020",
        "-color_trc",
        transfer,
        "-colorspace",
        "bt2020nc",
        "-color_range",
        "tv",
    ]
    coded = ["-c:v", "libx265", "-x265-params", "log-level=none", "-crf", 4]
    path = write(tmp_path / "film.mp4", "-vf", MAPPED.format(transfer=transfer), *coded, *tags)

    assert is_hdr(first_frame(path)) == (transfer != "bt2020-10")
    assert worst(path) < 30, shown(path)


def test_highlights_stay_apart(tmp_path):
    """Of light above white, up to 4,000 nits, brighter is brighter."""
    nits = np.array([203, 600, 1500, 4000])
    power = (nits / 10_000) ** (1305 / 8192)
    signal = ((107 / 128 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    frame = av.VideoFrame.from_ndarray(
        np.tile((signal.repeat(8) * 65535).astype(np.uint16)[None, :, None], (16, 1, 3)), "rgb48le"
    )
    frame.color_trc = 16

    light = upright(frame, (32, 16), VideoReformatter()).luma[8, 4::8].astype(int)

    assert (np.diff(light) > 0).all() and light[0] > 200 and light[-1] <= 255


@pytest.mark.parametrize(("lines", "matrix"), [(128, "bt601"), (768, "bt709")])
def test_what_states_no_matrix_is_read_as_players_read_it(tmp_path, lines, matrix):
    scale = lines // SIZE[1]
    plain = write(
        tmp_path / "plain.mkv",
        "-vf",
        f"scale=out_color_matrix={matrix}:out_range=tv",
        "-pix_fmt",
        "yuv420p",
        "-crf",
        4,
        scale=scale,
    )
    unsaid = "h264_metadata=matrix_coefficients=2:colour_primaries=2:transfer_characteristics=2"
    ffmpeg("-i", plain, "-c", "copy", "-bsf:v", unsaid, tmp_path / "film.mp4")

    assert int(first_frame(tmp_path / "film.mp4").colorspace) == 2
    assert worst(tmp_path / "film.mp4") < 12


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "yuv444p", "yuv422p"])
@pytest.mark.parametrize("colour_range", ["tv", "pc"])
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
def test_stated_matrices_and_ranges_are_obeyed(tmp_path, pixels, colour_range, matrix):
    made = f"scale=out_color_matrix={'bt601' if matrix == 'smpte170m' else matrix}:out_range={colour_range}"
    tags = ["-colorspace", matrix, "-color_range", colour_range]
    path = write(tmp_path / "film.mp4", "-vf", made, "-pix_fmt", pixels, "-crf", 4, *tags)

    assert worst(path) < 8, shown(path)
