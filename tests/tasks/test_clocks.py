"""The law: features of a cut are those of the uncut file, and both are where the file's own clock says."""

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from generated_films import EDITED, RATE, Film, Played, films, lag_s, shown_in_parts, shown_ms
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from schemas.feature import Profile
from tasks.media.cut import cut
from tasks.media.decode import Decoded, decode
from tasks.media.probe import probe

PROFILE = Profile("law", length_ms=2000, frame_rate_hz=4.0, frame_short_side_px=96)
SOUND_S = 0.001
SEGMENTS = 3  # of each film


def hold(path: Path, segment_s: tuple[float, float], played: Played) -> float:
    """Asserts the law for one segment; returns by how many seconds the sound was off."""
    facts = probe(path)
    start_s, length_s = segment_s
    made = cut(path, facts, (start_s, start_s + length_s), path.parent / "cut")
    of_cut = decode(made.path, made.begins_s, length_s, PROFILE)
    uncut = decode(path, facts.start_s + start_s, length_s, PROFILE)

    same(of_cut, uncut)
    inside = [k for k in range(PROFILE.num_frames) if (k + 0.5) * 250 < of_cut.valid_ms]
    for k in inside:
        at_s = start_s + (k + 0.5) / PROFILE.frame_rate_hz
        assert shown_ms(of_cut.pictures[k].luma) in played.may_show(at_s), (k, at_s)
    wave = of_cut.wave[: of_cut.valid_ms * RATE // 1000, 0] / 32768
    late_s = max(played.sound_s - start_s, 0.0)
    assert max(of_cut.start_skew_ms, 0.0) <= 1000 * (late_s + SOUND_S) or of_cut.valid_ms < 1000 * late_s
    # Begins clear of where a late sound comes on.
    late = round((late_s + 0.1) * RATE)
    off_s = lag_s(wave[late:], played.wave, start_s + late / RATE) if len(wave) > late + RATE // 2 else None
    assert off_s is None or abs(off_s) <= SOUND_S
    return abs(off_s or 0.0)


def same(one: Decoded, other: Decoded) -> None:
    """Asserts that two decodes are equal to the byte."""
    for k, (here, there) in enumerate(zip(one.pictures, other.pictures, strict=True)):
        for plane in ("luma", "blue", "red"):
            assert np.array_equal(getattr(here, plane), getattr(there, plane)), k
    assert np.array_equal(one.wave, other.wave)
    assert one.start_skew_ms == other.start_skew_ms
    assert abs(one.valid_ms - other.valid_ms) <= 1


STARTS = st.one_of(
    *[st.floats(0.0, 5.5)] * 4, st.integers(0, 5)
)  # one in five on a second, and so often on a frame


DONE: set[Film] = set()  # each film once


def obey(film: Film, starts_s: list[float], length_s: float) -> None:
    assume(film not in DONE)
    with tempfile.TemporaryDirectory() as folder:
        path = film.write(Path(folder))
        played = Played.of(path)
        for start_s in starts_s:
            hold(path, (round(start_s, 3), length_s), played)
    DONE.add(film)


CHECKED = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "phases": (Phase.generate,),  # a smaller film says no more than the first
    "suppress_health_check": list(HealthCheck),
}
ANY = {
    "film": films(),
    "starts_s": st.lists(STARTS, min_size=SEGMENTS, max_size=SEGMENTS),
    "length_s": st.sampled_from((1.0, 1.3, 2.0)),
}


@given(**ANY)
@settings(max_examples=9, **CHECKED)
def test_a_cut_is_its_source_on_its_own_clock(film, starts_s, length_s):
    obey(film, starts_s, length_s)


@pytest.mark.slow
@given(**ANY)
@settings(max_examples=170, **CHECKED)
def test_hundreds_of_cuts_are_their_sources_on_their_own_clocks(film, starts_s, length_s):
    obey(film, starts_s, length_s)


LISTS = st.lists(st.tuples(st.floats(0.0, 4.9), st.floats(0.7, 2.0)), min_size=2, max_size=4)
IN_PARTS = {
    "film": films(EDITED),
    "parts": LISTS,
    "times": st.sampled_from(
        (1, 1, 1, 12)
    ),  # the longest beyond 30 s, before which a film is read from its beginning
    "share": st.floats(0.0, 1.0),
}


def obey_in_parts(film: Film, parts: list[tuple[float, float]], times: int, share: float) -> None:
    """Asserts the law for a segment of a film that an edit list shows in parts, several times over."""
    film = replace(film, clock_s=0.0, late_sound_s=0.0, late_picture_s=0.0, hidden_s=0.0, is_streamed=False)
    film = replace(film, is_refreshed=False)  # libav reads a part from no clean picture then
    spans = [(round(begins_s, 3), round(length_s, 3)) for begins_s, length_s in parts] * times
    later_s = sorted(sum(one for _, one in spans[:n]) - begins_s for n, (begins_s, _) in enumerate(spans))
    assume(all(after - before > 0.021 for before, after in pairwise(later_s)))  # the others are left to libav
    start_s = round(share * (sum(length_s for _, length_s in spans) - 1), 3)
    with tempfile.TemporaryDirectory() as folder:
        path = film.write(Path(folder))
        played = Played.of(path).in_parts(spans)
        path.write_bytes(shown_in_parts(path.read_bytes(), spans))
        hold(path, (start_s, 1.0), played)


@given(**IN_PARTS)
@settings(max_examples=6, **CHECKED)
def test_a_film_in_parts_is_its_source_on_its_own_clock(film, parts, times, share):
    obey_in_parts(film, parts, times, share)


@pytest.mark.slow
@given(**IN_PARTS)
@settings(max_examples=100, **CHECKED)
def test_a_hundred_films_in_parts_are_their_sources_on_their_own_clocks(film, parts, times, share):
    obey_in_parts(film, parts, times, share)
