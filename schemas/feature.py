"""A feature: a model-ready array or encoded file made from a clip; and the profile, which says what a sample holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from schemas import waveforms
from schemas.manifest import ROW_FIELDS


@dataclass(frozen=True)
class Profile:
    """What every sample of a dataset version holds: exactly `num_frames` frames, exactly `num_samples`.

    Its fields are part of every fingerprint and version digest: a new one here would make every root stale.
    """

    name: str = "small"
    length_ms: int = 10_000
    frame_rate_hz: float = 1.0
    frame_short_side_px: int = 128
    picture: Literal["jpeg", "h264"] = "jpeg"  # a JPEG per frame, or one H.264 file with a key frame a second
    jpeg_quality: int = 85  # 39.9 dB on natural frames; 90 adds 20 % bytes for 1.3 dB
    sound: Literal["wav", "flac"] = "wav"  # wav can be memory-mapped, FLAC is 40 % smaller
    sample_rate_hz: int = 16_000
    channels: int = 1

    @property
    def num_frames(self) -> int:
        """Frame k lies at (k + 0.5) / frame_rate_hz seconds from the segment's start."""
        return round(self.length_ms * self.frame_rate_hz / 1000)

    @property
    def num_samples(self) -> int:
        """The number of audio samples in one sample of the dataset, per channel."""
        return self.length_ms * self.sample_rate_hz // 1000

    @property
    def has_log_mel(self) -> bool:
        """The log-mel is defined for mono sound at its own rate; other front ends start from the waveform."""
        return self.channels == 1 and self.sample_rate_hz == waveforms.SAMPLE_RATE_HZ

    @property
    def features(self) -> tuple[str, ...]:
        """The names of its features, sorted: files of `tasks/features/`."""
        picture = "frames" if self.picture == "jpeg" else "video"
        log_mel = ["log_mel"] if self.has_log_mel else []
        return tuple(sorted(["audio", picture, *log_mel]))


@dataclass(frozen=True)
class ExtendedProfile(Profile):
    """A profile with features besides those from its pictures and its sound.

    A separate class, so that the digests of profiles without any stay unchanged.
    """

    more_features: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """All of them, sorted."""
        return tuple(sorted({*super().features, *self.more_features}))


def stored_profile(stored: Mapping[str, Any]) -> Profile:
    """The profile whose fields were written as JSON. Raises TypeError for fields that no profile has."""
    if "more_features" not in stored:
        return Profile(**stored)
    return ExtendedProfile(**{**stored, "more_features": tuple(stored["more_features"])})


# The stock profiles, each with its own preset, smallest first.
PROFILES = {
    profile.name: profile
    for profile in (
        Profile(),
        Profile("standard", frame_short_side_px=256),
        Profile("dense", frame_short_side_px=256, frame_rate_hz=4.0),
        Profile("video", frame_short_side_px=256, frame_rate_hz=25.0, picture="h264"),
        Profile("seed", frame_short_side_px=256, sample_rate_hz=48_000),
        Profile(
            "multisensory",
            frame_short_side_px=256,
            frame_rate_hz=29.97,
            picture="h264",
            sample_rate_hz=21_000,
            channels=2,
        ),
    )
}

NUM_KEYS = 16  # of a sound print: with fewer, re-encoded clips that are shifted too are missed
NUM_PICTURES = 8  # of a picture print, at even distances in the profile's length
PICTURE_PRINT = np.dtype(("<u8", NUM_PICTURES))  # hashes; 0 for a picture that shows nothing
WORDS_MS = 160  # between the words of a sound print
REACH_MS = 844  # of sound that one word looks at


def num_words(profile: Profile) -> int:
    """How many words the sound print of a full sample has."""
    return max((profile.length_ms - REACH_MS) // WORDS_MS + 1, 0)


def sound_print(profile: Profile) -> np.dtype:
    """The print of a sound: words along its time, and its clearest moments as keys for searching."""
    return np.dtype(
        [
            ("keys", "<u4", NUM_KEYS),
            ("open_bits", "u1", (NUM_KEYS, 2)),  # of each key, those most likely to change with encoding
            ("frames", "<u2", NUM_KEYS),  # in units of 20 ms: the time of each key
            ("num_keys", "u1"),
            ("num_words", "<u2"),
            ("words", "<u2", num_words(profile)),
        ]
    )


# Measured in extraction's one pass over the clip; the suite `features` judges them.
FEATURES = pa.schema(
    [
        *ROW_FIELDS,
        ("length_s", pa.float64()),  # of the segment
        ("valid_ms", pa.int64()),  # where the content ends; beyond it frames and audio are padding
        ("num_frames", pa.int32()),
        ("num_samples", pa.int64()),
        ("rms_db", pa.float64()),  # of the valid audio, in dB below full scale
        ("peak", pa.float64()),  # 0 to 1
        ("clipped_share", pa.float64()),  # of samples at full scale
        ("luma_max", pa.float64()),  # 0 to 255: the brightest pixel of any frame, averaged over 8x8 blocks
        ("frozen_share", pa.float64()),  # of neighbouring frames that do not differ
        ("start_skew_ms", pa.float64()),  # first sound minus first picture
        ("audio_short_ms", pa.float64()),  # how much earlier than the segment its sound ends, zero-padded
        ("speech_share", pa.float64()),  # of the valid audio, by WebRTC's voice activity detector
        ("duration_gap_ms", pa.float64()),  # what the container declared of the segment minus what decoded
        ("made_by", pa.string()),  # code and tools, with their versions
        ("recipe", pa.string()),  # digest of their settings: equal if only versions differ
        (
            "is_kept",
            pa.bool_(),
        ),  # though other versions would be used now: its media are gone, or those versions reject it
        ("decoder", pa.string()),  # pyav; ffmpeg in earlier samples whose file PyAV could not read
        ("is_tone_mapped", pa.bool_()),  # its film has a higher dynamic range than our pictures
        ("sound_print", pa.binary()),  # one `sound_print(profile)`
        ("picture_print", pa.binary()),  # one PICTURE_PRINT
        # The fingerprint of each feature (equal means: it need not be made again) and the digest of its members.
        (
            "features",
            pa.list_(
                pa.struct([("name", pa.string()), ("fingerprint", pa.string()), ("digest", pa.string())])
            ),
        ),
    ]
)
