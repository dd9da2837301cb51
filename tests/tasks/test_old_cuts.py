"""A cut of before says itself where its segment begins, or nobody knows."""

from dataclasses import replace

import pytest
from cuts_of_before import old_cut
from generated_films import RATE, Film, Played, lag_s, shown_ms

from schemas.feature import Profile
from tasks.media.decode import decode
from tasks.media.old_cuts import mended_begin_s
from tasks.media.packets import RAW_CLOCK
from tasks.media.probe import probe

FILM = Film("mp4", "libx264", "aac", "24", 44_100, 50, 2, False, 0.0, 0.0, 0.0, 0.0, False)
FILMS = {
    "24": FILM,
    "23.976": replace(FILM, frame_rate="24000/1001", sample_rate=48_000),
    "29.97": replace(FILM, frame_rate="30000/1001"),
    "varying": replace(FILM, frame_rate="30", varies=True),
    "remuxed": replace(FILM, container="mkv", sample_rate=22_050),
    "broadcast": replace(FILM, container="ts", frame_rate="25"),
}
START_S = 2.417
LENGTH_S = 2.0
PROFILE = Profile("old", length_ms=2000, frame_rate_hz=4.0, frame_short_side_px=96)
SOUND_S = 0.001


@pytest.fixture(scope="module", params=FILMS)
def source(request, tmp_path_factory):
    return FILMS[request.param].write(tmp_path_factory.mktemp("films"))


def test_an_old_cut_in_mp4_is_mended_from_itself(source, tmp_path):
    facts = probe(source)
    path, begins_s = old_cut(source, facts, (START_S, START_S + LENGTH_S), tmp_path / "old")

    mended_s = mended_begin_s(path, begins_s)

    assert path.suffix == ".mp4" and mended_s is not None
    mended = decode(path, mended_s, LENGTH_S, PROFILE, RAW_CLOCK)
    uncut = decode(source, facts.start_s + START_S, LENGTH_S, PROFILE)
    played = Played.of(source)
    for k, picture in enumerate(mended.pictures):
        assert shown_ms(picture.luma) in played.may_show(START_S + (k + 0.5) / PROFILE.frame_rate_hz)
    waves = [one.wave[RATE // 10 :, 0] / 32768 for one in (mended, uncut)]
    assert abs(lag_s(waves[0][:RATE], waves[1], 0.0) or 0.0) <= SOUND_S


def test_an_old_cut_in_matroska_cannot_be_known(tmp_path):
    source = replace(FILM, container="webm", video="libvpx", audio="libvorbis").write(tmp_path)
    path, begins_s = old_cut(source, probe(source), (START_S, START_S + LENGTH_S), tmp_path / "old")

    assert path.suffix == ".mkv"
    assert mended_begin_s(path, begins_s) is None
