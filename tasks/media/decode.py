"""Decodes the pictures and the sound of a clip once, on the segment's own clock.

Everything follows presentation time, so nothing outside the segment enters a feature: frame k is the picture on display
(k + 0.5) / rate seconds after the segment's start, and the sound is cut at the exact sample. A clip that decodes with
errors gives no sample.
"""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from schemas.feature import Profile
from schemas.outcome import ItemError, Outcome
from tasks.media.colour import Picture
from tasks.media.passage import passage
from tasks.media.pictures import Display, Moments, on_display
from tasks.media.sound import Sound, heard, resampled
from tasks.media.streams import MS, Clock, media_streams

NEAR_MS = 30_000  # into a file, as in nearly every cut: what lies before a segment is read, but not decoded


@dataclass
class Decoded:
    """A segment as arrays: exactly `profile.num_frames` pictures and `profile.num_samples` samples."""

    pictures: list[Picture]
    wave: np.ndarray  # int16 (samples, channels)
    valid_ms: int
    start_skew_ms: float
    audio_short_ms: float
    decoder: str = "pyav"
    is_tone_mapped: bool = False


def decode(
    path: Path, begins_s: float, length_s: float, profile: Profile, clock: dict[str, str] | None = None
) -> Decoded:
    """Decodes the segment that begins at `begins_s` on the clock of `path`, which may need other options.

    Raises ItemError (quarantined, `decodable`) if a picture or a piece of its sound is damaged.
    """
    moments = Moments(
        Clock.from_seconds(begins_s),
        length_s,
        [(k + 0.5) / profile.frame_rate_hz for k in range(profile.num_frames)],
        profile.frame_short_side_px,
    )
    display, sound = _read(path, moments, profile, clock, sparing=True)
    if display.fault:
        display, sound = _read(path, moments, profile, clock, sparing=False)
    if not display.pictures or display.first_s is None:
        raise ItemError(Outcome.QUARANTINED, "decodable", "no picture inside the segment")
    if fault := display.fault or sound.fault:
        raise ItemError(Outcome.QUARANTINED, "decodable", fault)
    return _decoded(display, sound, length_s, profile)


def _read(
    path: Path, moments: Moments, profile: Profile, clock: dict[str, str] | None, *, sparing: bool
) -> tuple[Display, Sound]:
    """The pictures and sound of the segment, from decoders that nothing else has used."""
    display = Display()
    sound = Sound(profile.sample_rate_hz, profile.channels)
    begins_ms = moments.clock.begins_ms
    ends_ms = begins_ms + round(moments.length_s * MS)
    with passage(path, begins_ms, ends_ms, near_ms=NEAR_MS, clock=clock) as (container, packets):
        for stream in media_streams(container):
            own = [packet for packet in packets if packet.stream_index == stream.index]
            if isinstance(stream, av.VideoStream):
                display = on_display(stream, own, moments, sparing=sparing)
            elif isinstance(stream, av.AudioStream):
                sound = heard(stream, own, moments.clock, moments.length_s, profile)
    return display, sound


def _decoded(display: Display, sound: Sound, length_s: float, profile: Profile) -> Decoded:
    wave = sound.wave(length_s)
    sound_s = len(wave) / sound.rate_hz
    ends_s = max(min(length_s, display.ends_s, sound_s, profile.length_ms / 1000), 0.0)
    skew_s = sound.first_s() - max(display.first_s or 0.0, 0.0)
    return Decoded(
        display.pictures,
        resampled(wave, sound.rate_hz, profile),
        valid_ms=int(round(ends_s * MS, 3)),
        start_skew_ms=skew_s * 1000,
        audio_short_ms=max(0.0, length_s - sound_s) * 1000,
        is_tone_mapped=display.is_tone_mapped,
    )
