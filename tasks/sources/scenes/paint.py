"""Painting: soft-edged shapes on a float canvas, each touching only its own bounding box."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

WIDTH_PX = 320
HEIGHT_PX = 240
_XS = np.arange(WIDTH_PX, dtype=np.float32)[None, :] + np.float32(0.5)
_YS = np.arange(HEIGHT_PX, dtype=np.float32)[:, None] + np.float32(0.5)
FLOOR = 0.42  # stage units below the middle: where things of all families stand or fall
SHADE = 0.22  # light comes from above: a shape is this much brighter at its top, and darker at its bottom

Color = tuple[float, float, float]  # 0 to 255
Point = tuple[float, float]


@dataclass(frozen=True)
class Palette:
    """The colours of a scene; nuisance, and so drawn by one law for all families."""

    body: Color
    accent: Color
    dark: Color
    light: Color
    ground: Color


@dataclass(frozen=True)
class Place:
    """The position of the stage's origin in the frame and the size of its unit, both in pixels."""

    x_px: float
    y_px: float
    unit_px: float = HEIGHT_PX
    is_mirrored: bool = False


class Stage:
    """A canvas seen through a place: x right, y down, (0, 0) its middle, 1 the height of the frame.

    The canvas is float32 (3, HEIGHT_PX, WIDTH_PX): planes are painted 12 to 15 % faster than pixels.
    Remembers the box of everything that was painted since it was made.
    """

    def __init__(self, canvas: np.ndarray, place: Place, palette: Palette) -> None:
        self.canvas = canvas
        self.place = place
        self.palette = palette
        self._box_px: tuple[float, float, float, float] | None = None

    def box(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1) of everything that was painted, as shares of the frame's sides; zeros if nothing was."""
        if self._box_px is None:
            return (0.0, 0.0, 0.0, 0.0)
        x0, y0, x1, y1 = self._box_px
        return (x0 / WIDTH_PX, y0 / HEIGHT_PX, x1 / WIDTH_PX, y1 / HEIGHT_PX)

    def disc(self, center: Point, radius: float, color: Color, alpha: float = 1.0) -> None:
        """A circle."""
        self.ellipse(center, (radius, radius), color, alpha)

    def ellipse(self, center: Point, radii: Point, color: Color, alpha: float = 1.0) -> None:
        """An upright ellipse."""
        x, y = self._pixels(center)
        rx, ry = self._lengths(*radii)
        window = self._window(x - rx, y - ry, x + rx, y + ry)
        if window is None or min(rx, ry) <= 0:
            return
        xs, ys = window
        reach = np.sqrt(((xs - x) / rx) ** 2 + ((ys - y) / ry) ** 2)
        self._fill(window, (reach - 1.0) * min(rx, ry), color, alpha)

    def ring(self, center: Point, radii: Point, width: float, color: Color, alpha: float = 1.0) -> None:
        """The outline of an ellipse."""
        x, y = self._pixels(center)
        rx, ry = self._lengths(*radii)
        half = max(float(width) * self._unit / 2, 0.5)
        window = self._window(x - rx - half, y - ry - half, x + rx + half, y + ry + half)
        if window is None or min(rx, ry) <= 0:
            return
        xs, ys = window
        reach = np.sqrt(((xs - x) / rx) ** 2 + ((ys - y) / ry) ** 2)
        self._fill(window, np.abs(reach - 1.0) * min(rx, ry) - half, color, alpha)

    def line(self, start: Point, end: Point, width: float, color: Color, alpha: float = 1.0) -> None:
        """A straight stroke with round ends."""
        x0, y0 = self._pixels(start)
        x1, y1 = self._pixels(end)
        half = max(float(width) * self._unit / 2, 0.5)
        window = self._window(min(x0, x1) - half, min(y0, y1) - half, max(x0, x1) + half, max(y0, y1) + half)
        if window is None:
            return
        xs, ys = window
        across = xs - x0
        down = ys - y0
        dx = x1 - x0
        dy = y1 - y0
        squared = max(dx * dx + dy * dy, 1e-9)
        along = across * (dx / squared) + down * (dy / squared)
        np.minimum(np.maximum(along, 0.0, out=along), 1.0, out=along)
        distance = np.square(across - along * dx)
        distance += np.square(down - along * dy)
        np.sqrt(distance, out=distance)
        self._fill(window, distance - half, color, alpha)

    def polygon(self, points: Sequence[Point], color: Color, alpha: float = 1.0) -> None:
        """A convex polygon, its points in either order."""
        corners = np.array([self._pixels(point) for point in points])
        window = self._window(*corners.min(axis=0), *corners.max(axis=0))
        if window is None:
            return
        following = np.roll(corners, -1, axis=0)
        area = np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1])
        normals = (following - corners)[:, ::-1] * np.array([1.0, -1.0]) * np.sign(area)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        xs, ys = (axis.astype(np.float32) for axis in window)
        distance = np.full((ys.size, xs.size), -np.inf, np.float32)
        for (nx, ny), (x, y) in zip(normals.astype(np.float32), corners.astype(np.float32), strict=True):
            np.maximum(distance, (xs - x) * nx + (ys - y) * ny, out=distance)
        self._fill(window, distance, color, alpha)

    def box_shape(self, corner: Point, opposite: Point, color: Color, alpha: float = 1.0) -> None:
        """An upright rectangle."""
        x0, y0 = self._pixels(corner)
        x1, y1 = self._pixels(opposite)
        window = self._window(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        if window is None:
            return
        xs, ys = window
        beyond_x = np.abs(xs - (x0 + x1) / 2.0) - abs(x1 - x0) / 2.0
        beyond_y = np.abs(ys - (y0 + y1) / 2.0) - abs(y1 - y0) / 2.0
        self._fill(window, np.maximum(beyond_x, beyond_y), color, alpha)

    @property
    def _unit(self) -> float:
        return self.place.unit_px

    def _lengths(self, *units: float) -> list[float]:
        return [float(unit) * self._unit for unit in units]

    def _pixels(self, point: Point) -> Point:
        # Plain floats: the float64 scalars of a figure would turn whole windows into float64.
        x = float(point[0])
        y = float(point[1])
        x = -x if self.place.is_mirrored else x
        return (self.place.x_px + x * self._unit, self.place.y_px + y * self._unit)

    def _window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Pixel centres of the part of the frame that the shape can touch: a row and a column."""
        left = max(int(np.floor(x0)) - 1, 0)
        top = max(int(np.floor(y0)) - 1, 0)
        right = min(int(np.ceil(x1)) + 1, WIDTH_PX)
        bottom = min(int(np.ceil(y1)) + 1, HEIGHT_PX)
        if right <= left or bottom <= top:
            return None
        self._remember(max(x0, 0.0), max(y0, 0.0), min(x1, WIDTH_PX), min(y1, HEIGHT_PX))
        return _XS[:, left:right], _YS[top:bottom]

    def _remember(self, x0: float, y0: float, x1: float, y1: float) -> None:
        if self._box_px is not None:
            a0, b0, a1, b1 = self._box_px
            x0 = min(a0, x0)
            y0 = min(b0, y0)
            x1 = max(a1, x1)
            y1 = max(b1, y1)
        self._box_px = (float(x0), float(y0), float(x1), float(y1))

    def _fill(
        self, window: tuple[np.ndarray, np.ndarray], distance_px: np.ndarray, color: Color, alpha: float
    ) -> None:
        """Lays `color` over the pixels whose signed distance to the shape is below half a pixel."""
        xs, ys = window
        top = int(ys[0, 0])
        left = int(xs[0, 0])
        region = self.canvas[:, top : top + ys.size, left : left + xs.size]
        cover = np.float32(0.5) - distance_px.astype(np.float32, copy=False)
        np.minimum(np.maximum(cover, 0.0, out=cover), 1.0, out=cover)
        if alpha != 1.0:
            cover *= np.float32(alpha)
        change = _shaded(color, ys.size) - region
        change *= cover
        region += change


@lru_cache(
    maxsize=4096
)  # the shapes of a scene share their colours, and keep their heights from frame to frame
def _shaded(color: Color, num_rows: int) -> np.ndarray:
    """`color` on each row of a shape, lit from above: (3, rows, 1)."""
    light = np.linspace(1.0 + SHADE, 1.0 - SHADE, num_rows, dtype=np.float32)[:, None]
    shaded = np.minimum(np.array(color, np.float32)[:, None, None] * light, np.float32(255.0))
    shaded.flags.writeable = False
    return shaded


def turned(points: Sequence[Point], pivot: Point, angle: float) -> list[Point]:
    """`points` turned by `angle` radians (clockwise on screen) about `pivot`."""
    cos = float(np.cos(angle))
    sin = float(np.sin(angle))
    px, py = pivot
    return [(px + (x - px) * cos - (y - py) * sin, py + (x - px) * sin + (y - py) * cos) for x, y in points]


def skin(stage: Stage, center: Point, radii: Point, material: str) -> None:
    """An ellipse that shows its material: grain, a dull seam, a clear bubble, or a polished gleam."""
    x, y = center
    rx, ry = radii
    palette = stage.palette
    if material == "glass":
        stage.ellipse(center, radii, palette.body, alpha=0.35)
        stage.ring(center, (rx * 0.96, ry * 0.96), rx * 0.09, palette.light)
        stage.line((x - rx * 0.5, y - ry * 0.1), (x - rx * 0.15, y - ry * 0.6), rx * 0.16, palette.light)
        return
    stage.ellipse(center, radii, palette.body)
    if material == "wood":
        for row in (-0.6, -0.2, 0.2, 0.6):
            half = rx * 0.95 * float(np.sqrt(1.0 - row * row))
            stage.line((x - half, y + row * ry), (x + half, y + row * ry), ry * 0.13, palette.dark, 0.75)
    elif material == "rubber":
        stage.ring(center, (rx * 0.88, ry * 0.88), rx * 0.24, palette.dark)
    elif material == "metal":
        stage.ellipse((x, y + ry * 0.45), (rx * 0.75, ry * 0.45), palette.dark, alpha=0.55)
        stage.ellipse((x - rx * 0.3, y - ry * 0.4), (rx * 0.34, ry * 0.28), (255.0, 255.0, 255.0))
