"""What varies without a cause: colours, background, position, rooms, noise, loudness. One law for all families.

Pictures draw from one stream, sounds from another; neither depends on the family.
"""

import colorsys
from dataclasses import dataclass

import numpy as np

from tasks.sources.scenes.paint import FLOOR, HEIGHT_PX, WIDTH_PX, Color, Palette, Place, Stage
from tasks.sources.scenes.synth import SAMPLE_RATE_HZ

# Half of the scenes have a silent thing that moves, half have a sound from off screen: often enough to be encountered,
# rare enough that the cause remains the best explanation.
DISTRACTOR_SHARE = OFF_SCREEN_SHARE = 0.5
DISTRACTOR_UNIT_PX = 80.0  # a third of the stage: a silent thing is no larger than the smallest heard one
# Its distance from the middle: beside the stage
CORNER_X_PX = (100.0, 130.0)
CORNER_Y_PX = (40.0, 75.0)
# What a centre crop of 112 of 128 px still shows completely
X_JITTER_PX = 24.0
Y_JITTER_PX = 5.0
BACKGROUND_CELLS = (5, 7)  # of low-frequency texture, smoothly joined
BACKGROUND_RELIEF = 26.0  # standard deviation of its brightness, of 255

# Uniform limits of what changes a sound. A room and a microphone colour a sound but leave its pitch recognisable; noise
# and off-screen sounds stay below the sound itself.
NOISE_DB = (-45.0, -28.0)
NOISE_COLOR = (0.0, 0.95)  # the pole of a one-pole filter: white to dark
TILT_DB = (-4.0, 4.0)
TILT_HZ = 1000.0  # the middle of the range that log-mels show
ROOM_S = (0.03, 0.15)  # shorter than the time from one beat to the next
ROOM_GAIN = (0.05, 0.3)
ROOM_DECAYS = 4.0  # the tail is cut 35 dB down
OFF_SCREEN_DB = (-20.0, -12.0)

LOUDNESS_DB = -26.0  # RMS below full scale: leaves room for the peaks of single blows
LOUDNESS_JITTER_DB = 4.0  # uniform, either way
PEAK_TO_RMS = 8.0  # higher peaks are rounded off; with the loudest jitter they stay below 0.7
LIMITER_ROUNDS = 3  # rounding off peaks lowers the RMS that they are measured by
SILENCE = 1e-8


@dataclass(frozen=True)
class Setting:
    """The nuisance of a picture."""

    background: np.ndarray  # float32 (H, W, 3), 0 to 255
    palette: Palette
    place: Place
    distractor_place: Place | None


@dataclass(frozen=True)
class Acoustics:
    """The nuisance of a sound."""

    loudness_db: float
    noise_db: float  # below the sound
    noise_color: float  # 0 white, towards 1 darker
    tilt_db: float  # of the treble against the bass
    room_s: float
    room_gain: float
    off_screen_db: float
    has_off_screen: bool


def draw_setting(rng: np.random.Generator) -> Setting:
    """A background, colours and places."""
    hue = rng.uniform()
    saturation = rng.uniform(0.1, 0.45)
    lightness = rng.uniform(0.2, 0.42)
    return Setting(
        background=_texture(_color(hue, lightness, saturation), rng),
        palette=_palette(hue, rng),
        place=_place(rng),
        distractor_place=_corner(rng) if rng.uniform() < DISTRACTOR_SHARE else None,
    )


def draw_room(setting: Setting) -> np.ndarray:
    """The background with a floor, the same for every family: float32 (H, W, 3), a view of a canvas."""
    canvas = np.ascontiguousarray(setting.background.transpose(2, 0, 1))
    floor = Stage(canvas, setting.place, setting.palette)
    floor.box_shape((-1.0, FLOOR), (1.0, 1.0), setting.palette.ground)
    return canvas.transpose(1, 2, 0)


def draw_acoustics(rng: np.random.Generator) -> Acoustics:
    """A room, a microphone, a level, and whether something sounds off screen."""
    return Acoustics(
        loudness_db=LOUDNESS_DB + rng.uniform(-LOUDNESS_JITTER_DB, LOUDNESS_JITTER_DB),
        noise_db=rng.uniform(*NOISE_DB),
        noise_color=rng.uniform(*NOISE_COLOR),
        tilt_db=rng.uniform(*TILT_DB),
        room_s=rng.uniform(*ROOM_S),
        room_gain=rng.uniform(*ROOM_GAIN),
        off_screen_db=rng.uniform(*OFF_SCREEN_DB),
        has_off_screen=bool(rng.uniform() < OFF_SCREEN_SHARE),
    )


def mixed(wave: np.ndarray, other: np.ndarray, other_db: float) -> np.ndarray:
    """`wave` with `other` under it, `other_db` below by RMS."""
    return wave + other * rms(wave) / max(rms(other), SILENCE) * 10.0 ** (other_db / 20.0)


def recorded(wave: np.ndarray, acoustics: Acoustics, rng: np.random.Generator) -> np.ndarray:
    """`wave` in its room, through its microphone, over noise, at its loudness: float32 in [-1, 1]."""
    from scipy.signal import lfilter

    in_room = _with_room(wave, acoustics, rng)
    white = rng.standard_normal(len(wave))
    dark_noise = np.asarray(lfilter([1.0], [1.0, -acoustics.noise_color], white))
    noisy = mixed(_tilted(in_room, acoustics.tilt_db), dark_noise, acoustics.noise_db)
    return _levelled(noisy, acoustics.loudness_db).astype(np.float32)


def rms(wave: np.ndarray) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def _color(hue: float, lightness: float, saturation: float) -> Color:
    red, green, blue = colorsys.hls_to_rgb(hue % 1.0, lightness, saturation)
    return (255.0 * red, 255.0 * green, 255.0 * blue)


def _palette(background_hue: float, rng: np.random.Generator) -> Palette:
    """Colours that stand out from each other and from any background: far in hue, apart in lightness."""
    body_hue = background_hue + rng.uniform(0.25, 0.75)
    return Palette(
        body=_color(body_hue, rng.uniform(0.52, 0.64), rng.uniform(0.55, 0.9)),
        accent=_color(body_hue + rng.uniform(0.2, 0.5), rng.uniform(0.55, 0.7), rng.uniform(0.6, 0.95)),
        dark=_color(body_hue, rng.uniform(0.05, 0.09), 0.4),
        light=_color(body_hue + rng.uniform(-0.1, 0.1), rng.uniform(0.86, 0.94), 0.7),
        ground=_color(background_hue + rng.uniform(-0.1, 0.1), rng.uniform(0.12, 0.2), 0.3),
    )


def _texture(color: Color, rng: np.random.Generator) -> np.ndarray:
    """A soft relief in one colour."""
    rows, columns = BACKGROUND_CELLS
    cells = rng.normal(0.0, BACKGROUND_RELIEF, (rows, columns))
    # Not `@`: BLAS would start a thread for each core, and its sums depend on the machine.
    tall = np.einsum("hr,rc->hc", _smooth(HEIGHT_PX, rows), cells)
    relief = np.einsum("hc,wc->hw", tall, _smooth(WIDTH_PX, columns))
    return np.clip(np.asarray(color) + relief[..., None], 0.0, 255.0).astype(np.float32)


def _smooth(num_pixels: int, num_cells: int) -> np.ndarray:
    """Weights (pixels, cells) that join cells by cosines."""
    place = np.linspace(0.0, num_cells - 1.0, num_pixels)[:, None]
    reach = np.minimum(np.abs(place - np.arange(num_cells)), 1.0)
    return 0.5 + 0.5 * np.cos(np.pi * reach)


def _place(rng: np.random.Generator) -> Place:
    return Place(
        x_px=WIDTH_PX / 2 + rng.uniform(-X_JITTER_PX, X_JITTER_PX),
        y_px=HEIGHT_PX / 2 + rng.uniform(-Y_JITTER_PX, Y_JITTER_PX),
        is_mirrored=bool(rng.uniform() < 0.5),
    )


def _corner(rng: np.random.Generator) -> Place:
    """Beside the stage, in the upper or lower half."""
    side, half = rng.choice([-1.0, 1.0], size=2).tolist()
    return Place(
        x_px=WIDTH_PX / 2 + side * rng.uniform(*CORNER_X_PX),
        y_px=HEIGHT_PX / 2 + half * rng.uniform(*CORNER_Y_PX),
        unit_px=DISTRACTOR_UNIT_PX,
        is_mirrored=bool(rng.uniform() < 0.5),
    )


def _with_room(wave: np.ndarray, acoustics: Acoustics, rng: np.random.Generator) -> np.ndarray:
    """`wave` with a dense, dying tail: noise under an exponential, as a diffuse field is."""
    from scipy.signal import oaconvolve

    number = round(acoustics.room_s * SAMPLE_RATE_HZ)
    tail = rng.standard_normal(number) * np.exp(-ROOM_DECAYS * np.arange(number) / number)
    tail *= acoustics.room_gain / np.linalg.norm(tail)
    return wave + oaconvolve(wave, tail)[: len(wave)]


def _tilted(wave: np.ndarray, tilt_db: float) -> np.ndarray:
    """`wave` with its treble (above TILT_HZ) `tilt_db` louder."""
    from scipy.signal import lfilter

    pole = float(np.exp(-2.0 * np.pi * TILT_HZ / SAMPLE_RATE_HZ))
    bass = lfilter([1.0 - pole], [1.0, -pole], wave)
    return bass + (wave - bass) * 10.0 ** (tilt_db / 20.0)


def _levelled(wave: np.ndarray, loudness_db: float) -> np.ndarray:
    """`wave` with rounded peaks, its RMS at `loudness_db` below full scale."""
    for _ in range(LIMITER_ROUNDS):
        ceiling = PEAK_TO_RMS * max(rms(wave), SILENCE)
        wave = ceiling * np.tanh(wave / ceiling)
    return wave * 10.0 ** (loudness_db / 20.0) / max(rms(wave), SILENCE)
