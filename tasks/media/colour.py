"""Colour and geometry: a decoded frame as an upright picture in the colours of a JPEG.

High dynamic range (PQ and HLG, which phones record) is mapped to standard range, because 8 bits can't hold it.
"""

from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)

# AVCOL_SPC_* of a frame -> what swscale converts from; all others are BT.601, as in players.
COLORSPACES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
UNSTATED = (2, 3)  # AVCOL_SPC_UNSPECIFIED and _RESERVED
HD_LINES = 720  # players assume BT.709 from this height on if nothing is stated
FULL_RANGE = 2  # AVCOL_RANGE_JPEG
WHITE_NITS = 203.0  # of diffuse white in HDR (ITU-R BT.2408)
HLG_PEAK_NITS = 1000.0  # of the display that HLG is meant for (BT.2100)
SYSTEM_GAMMA = 1.2  # from the light of a scene to that of its display
KNEE = 0.7  # of white: below it light stays unchanged, above it the highlights are compressed
BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)
DISPLAY_GAMMA = 2.4  # BT.1886
LUMA = np.array([0.299, 0.587, 0.114])  # BT.601


@dataclass(frozen=True)
class Picture:
    """Upright 4:2:0 planes as in a JPEG (BT.601, full range): uint8, chroma at half size."""

    luma: np.ndarray  # (height, width)
    blue: np.ndarray
    red: np.ndarray


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether a frame has high dynamic range, which is mapped to what 8 bits can hold."""
    return frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)


def upright(frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> Picture:
    """`frame` scaled to (width, height), and rotated or mirrored as its file specifies."""
    is_wide = is_hdr(frame) or frame.color_primaries == ColorPrimaries.BT2020
    planes = (_mapped if is_wide else _converted)(frame, size, reformatter)
    matrix = _display_matrix(frame)
    return Picture(*(np.ascontiguousarray(_turned(plane, matrix)) for plane in planes))


def _converted(
    frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    width, height = size
    made = _reformatted(frame, size, reformatter, "yuv420p").to_ndarray()
    blue, red = made[height:].reshape(2, height // 2, width // 2)
    return made[:height], blue, red


def _reformatted(
    frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter, pixels: str
) -> av.VideoFrame:
    is_full = _is_full(frame)
    return reformatter.reformat(
        frame,
        *size,
        pixels,
        src_colorspace=_colorspace(frame, is_full=is_full),
        dst_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.AREA,
        threads=1,
    )


def _is_full(frame: av.VideoFrame) -> bool:
    return frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")


def _colorspace(frame: av.VideoFrame, *, is_full: bool) -> Colorspace:
    stated = int(frame.colorspace)
    if stated in UNSTATED and frame.height >= HD_LINES and not is_full:  # JPEG-like pictures have full range
        return Colorspace.ITU709
    return COLORSPACES.get(stated, Colorspace.ITU601)


def _mapped(
    frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The planes of a frame with BT.2020's colours, converted via linear light: swscale only applies matrices."""
    signal = _reformatted(frame, size, reformatter, "rgb48le").to_ndarray() / 65535.0
    light = _light(signal, frame.color_trc)
    if is_hdr(frame):
        light = _pressed(light)
    shown = np.clip(light @ BT2020_TO_BT709.T, 0.0, 1.0) ** (1 / DISPLAY_GAMMA) * 255.0
    luma = shown @ LUMA
    blue = (shown[..., 2] - luma) * (0.5 / (1 - LUMA[2])) + 128.0
    red = (shown[..., 0] - luma) * (0.5 / (1 - LUMA[0])) + 128.0
    whole, half_blue, half_red = (
        np.clip(np.round(one), 0, 255) for one in (luma, _halved(blue), _halved(red))
    )
    return whole.astype(np.uint8), half_blue.astype(np.uint8), half_red.astype(np.uint8)


def _light(signal: np.ndarray, transfer: int) -> np.ndarray:
    """(height, width, RGB) of light, 1 at diffuse white, from a signal between 0 and 1."""
    if transfer == ColorTrc.SMPTE2084:
        return _pq_nits(signal) / WHITE_NITS
    if transfer == ColorTrc.ARIB_STD_B67:
        return _hlg_nits(signal) / WHITE_NITS
    return signal**DISPLAY_GAMMA


def _pq_nits(signal: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084's electro-optical transfer function (BT.2100, table 4)."""
    root = signal ** (32 / 2523)
    return 10_000.0 * (np.maximum(root - 107 / 128, 0.0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305)


def _hlg_nits(signal: np.ndarray) -> np.ndarray:
    """Hybrid log-gamma on its display of 1,000 nits (BT.2100, table 5).

    Each channel gets the system's gamma of 1.2 separately, as SDR cameras and displays produce it between them: hues
    come out as in a film that was recorded in SDR.
    """
    a = 0.17883277
    b = 1 - 4 * a
    c = 0.5 - a * np.log(4 * a)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return HLG_PEAK_NITS * scene**SYSTEM_GAMMA


def _pressed(light: np.ndarray) -> np.ndarray:
    """Light of any brightness compressed to at most white: unchanged up to KNEE, then ever flatter; hues stay."""
    brightest = light.max(axis=-1, keepdims=True)
    above = np.maximum(brightest - KNEE, 0.0) / (1 - KNEE)
    pressed = np.minimum(brightest, KNEE) + (1 - KNEE) * above / (1 + above)
    return light * (pressed / np.maximum(brightest, 1e-12))


def _halved(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    return plane.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """((a, b), (c, d)): a point (x, y) of the frame is shown at (a x + c y, b x + d y); None if it stays in place."""
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else np.frombuffer(data, np.int32).reshape(3, 3)[:2, :2].astype(np.int64)


def _turned(plane: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """The plane as the matrix shows it, limited to quarter turns and mirroring."""
    if matrix is None:
        return plane
    (a, b), (c, d) = matrix.tolist()
    is_lying = abs(b) + abs(c) > abs(a) + abs(d)  # what was horizontal is shown vertically
    if is_lying:
        plane = plane.T
    across, down = (c, b) if is_lying else (a, d)
    return plane[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
