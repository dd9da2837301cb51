"""Rules: the thresholds of the expectations, with their reasons. Great Expectations is not imported here."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SegmentRules:
    """What a segment list may request."""

    min_length_s: float = 1.0
    max_length_s: float = 60.0


@dataclass(frozen=True)
class ClipRules:
    """What the header of a clip must state."""

    min_sample_rate_hz: int = 8_000  # telephone speech; below it most events of AudioSet are gone
    min_frame_rate_hz: float = 5.0
    min_side_px: int = 64


@dataclass(frozen=True)
class FeatureRules:
    """What extraction must have found in a clip."""

    min_rms_db: float = -60.0  # below: muted tracks and the noise of a 10-bit converter
    min_luma: float = 24.0  # video black is 16
    max_frozen_share: float = 0.999  # every frame the same: cover art, slides
    max_clipped_share: float = 0.2
    max_start_skew_ms: float = 1000.0
    min_valid_share: float = 0.9  # of the segment
    max_duration_gap_ms: float = 1000.0  # that the container promises and the streams do not hold


@dataclass(frozen=True)
class Rules:
    """All rules. Where fewer than `min_pass_share` pass one, the run is suspect, not the rows."""

    segments: SegmentRules = field(default_factory=SegmentRules)
    clips: ClipRules = field(default_factory=ClipRules)
    features: FeatureRules = field(default_factory=FeatureRules)
    min_pass_share: float = 0.5
    min_rows: int = 20  # fewer rows say nothing about a rate
