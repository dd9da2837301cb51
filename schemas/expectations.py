"""The Great Expectations suites of every manifest, and one way to run them.

Each expectation has a name, which becomes the reason of the rows it rejects, and a sentence for the report.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.core.expectation_suite import ExpectationSuite

from schemas.errors import InternalError
from schemas.feature import Profile
from schemas.rules import ClipRules, FeatureRules, Rules, SegmentRules


@dataclass(frozen=True)
class Finding:
    """The result of one expectation on a whole manifest."""

    name: str
    why: str
    checked: int
    rejected: dict[str, Any]  # key -> observed value
    is_broken: bool  # so many rows fail that the run, not the rows, is suspect


def suite(manifest: str, rules: Rules, profile: Profile, suffixes: Collection[str] = ()) -> ExpectationSuite:
    """The suite of one manifest: `segments`, `clips`, `features` or `shards`.

    `suffixes` are those of the members of every sample, for `shards`.
    """
    made = {
        "segments": lambda: _segments(rules.segments),
        "clips": lambda: _clips(rules.clips),
        "features": lambda: _features(rules.features, profile),
        "shards": lambda: _shards(suffixes),
    }[manifest]()
    expectations = [_named(*one) for one in (*made, _UNIQUE)]
    return ExpectationSuite(name=manifest, expectations=expectations)


Named = tuple[gxe.Expectation, str, str]
_UNIQUE: Named = (gxe.ExpectColumnValuesToBeUnique(column="key"), "unique_key", "every segment stands once")


def _named(expectation: gxe.Expectation, name: str, why: str) -> gxe.Expectation:
    expectation.meta = {"name": name, "why": why}
    return expectation


def _between(column: str, low: float | None = None, high: float | None = None) -> gxe.Expectation:
    return gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high)


def _true(column: str) -> gxe.Expectation:
    return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[True])


def _segments(rules: SegmentRules) -> list[Named]:
    length = _between("length_s", rules.min_length_s, rules.max_length_s)
    return [(length, "segment_length", f"{rules.min_length_s:g} to {rules.max_length_s:g} s long")]


def _clips(rules: ClipRules) -> list[Named]:
    side = rules.min_side_px
    rate = rules.min_sample_rate_hz
    frames = rules.min_frame_rate_hz
    return [
        (_true("has_video"), "has_video", "there is a moving picture"),
        (_true("has_audio"), "has_audio", "there is a sound track"),
        (_between("width_px", side), "width", f"at least {side} px wide"),
        (_between("height_px", side), "height", f"at least {side} px high"),
        (_between("frame_rate_hz", frames), "frame_rate", f"at least {frames:g} frames/s"),
        (_between("sample_rate_hz", rate), "sample_rate", f"sampled at {rate} Hz or more"),
        (_between("size_bytes", 1), "not_empty", "the file is not empty"),
    ]


def _features(rules: FeatureRules, profile: Profile) -> list[Named]:
    frames = profile.num_frames
    samples = profile.num_samples
    skew = rules.max_start_skew_ms
    return [
        (_between("num_frames", frames, frames), "exact_frames", f"exactly {frames} frames"),
        (_between("num_samples", samples, samples), "exact_samples", f"exactly {samples} samples"),
        (
            _between("valid_share", rules.min_valid_share),
            "covers_segment",
            "picture and sound cover the segment",
        ),
        (
            _between("rms_db", rules.min_rms_db),
            "not_silent",
            f"louder than {rules.min_rms_db:g} dB full scale",
        ),
        (_between("luma_max", rules.min_luma), "not_black", f"some block brighter than {rules.min_luma:g}"),
        (_between("frozen_share", None, rules.max_frozen_share), "not_frozen", "the picture changes"),
        (
            _between("clipped_share", None, rules.max_clipped_share),
            "not_clipped",
            "the sound is not overdriven",
        ),
        (_between("start_skew_ms", -skew, skew), "starts_together", f"streams start within {skew:g} ms"),
        (
            _between("duration_gap_ms", None, rules.max_duration_gap_ms),
            "true_duration",
            "as long as its container says",
        ),
    ]


def _shards(suffixes: Collection[str]) -> list[Named]:
    count = len(suffixes)
    return [(_between("num_members", count, count), "all_members", f"every sample has its {count} members")]


def check(frame: pd.DataFrame, expectations: ExpectationSuite, rules: Rules) -> list[Finding]:
    """Runs a suite over a whole manifest (a frame with `key`). Raises InternalError if GX itself fails."""
    for noisy in ("data_context.types.base", "datasource.fluent.config"):
        logging.getLogger(f"great_expectations.{noisy}").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # pyright: ignore[reportAttributeAccessIssue]
    asset = context.data_sources.add_pandas("mcgurk").add_dataframe_asset(expectations.name)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame})
    shape = {"result_format": "COMPLETE", "unexpected_index_column_names": ["key"]}
    result = batch.validate(expectations, result_format=shape)
    return [_finding(one, rules) for one in result.results]


def _finding(result: Any, rules: Rules) -> Finding:
    # GX reports an expectation that crashed as one that failed.
    for said in (result.exception_info or {}).values():
        if isinstance(said, Mapping) and said.get("raised_exception"):
            raise InternalError(f"Great Expectations failed: {said.get('exception_message')}")
    config = result.expectation_config
    found = result.result
    column = config.kwargs["column"]
    rejected = {row["key"]: _plain(row[column]) for row in found.get("unexpected_index_list") or ()}
    checked = int(found.get("element_count", 0))
    is_broken = checked >= rules.min_rows and len(rejected) > (1 - rules.min_pass_share) * checked
    return Finding(config.meta["name"], config.meta["why"], checked, rejected, is_broken)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
