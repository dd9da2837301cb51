"""Faulty clips: each has the fault that it is named for, and no other."""

import av
import numpy as np
import pytest

from tasks.sources.scenes.corpus import CorpusConfig, media_path, render_scene
from tasks.sources.scenes.faults import FAULTS, SHIFT_MS, write_fault

CONFIG = CorpusConfig(num_scenes=24, seed=2)
INDEX = 5


@pytest.fixture(scope="module")
def sound_media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    for index in (INDEX - 1, INDEX):
        render_scene(folder, CONFIG, index)
    return folder


def decode(path):
    """(frames, wave, container) of a file."""
    with av.open(str(path)) as media:
        frames = [frame.to_ndarray(format="rgb24") for frame in media.decode(video=0)]
        media.seek(0)
        wave = np.concatenate([frame.to_ndarray()[0] for frame in media.decode(audio=0)])
        return np.stack(frames).astype(int), wave, media.format.name


def faulty(name, folder):
    return decode(write_fault(name, folder, CONFIG, INDEX))


@pytest.fixture(scope="module")
def sound(sound_media):
    return decode(media_path(sound_media, CONFIG, INDEX))


def test_silent_has_the_picture_and_no_sound(sound, tmp_path):
    frames, wave, _ = faulty("silent", tmp_path)

    assert np.abs(wave).max() == 0.0 < np.abs(sound[1]).max()
    assert np.array_equal(frames, sound[0])


def test_frozen_stands_still_and_sounds(sound, tmp_path):
    frames, wave, _ = faulty("frozen", tmp_path)

    assert np.abs(np.diff(frames, axis=0)).mean() < 0.5
    assert np.array_equal(wave, sound[1])


def test_black_shows_nothing_and_sounds(sound, tmp_path):
    frames, wave, _ = faulty("black", tmp_path)

    assert frames.max() <= 2
    assert np.array_equal(wave, sound[1])


def test_too_short_ends_after_three_seconds(tmp_path):
    frames, wave, _ = faulty("too_short", tmp_path)

    assert len(frames) == 36
    assert len(wave) / 32_000 == pytest.approx(3.0, abs=0.05)


def test_truncated_cannot_be_opened(sound_media, tmp_path):
    path = write_fault("truncated", tmp_path, CONFIG, INDEX)

    whole = media_path(sound_media, CONFIG, INDEX).read_bytes()
    assert whole.startswith(path.read_bytes()) and path.stat().st_size < len(whole)
    with pytest.raises(av.error.InvalidDataError):
        av.open(str(path))


def test_wrong_container_is_no_mp4_in_spite_of_its_name(sound, tmp_path):
    frames, _, container = faulty("wrong_container", tmp_path)

    assert "matroska" in container and "mp4" in sound[2]
    assert np.array_equal(frames, sound[0])


def test_sound_shifted_is_late_and_the_picture_is_not(sound, tmp_path):
    frames, wave, _ = faulty("sound_shifted", tmp_path)

    size = len(wave) + len(sound[1])
    product = np.fft.rfft(wave, size) * np.conj(np.fft.rfft(sound[1], size))
    assert np.argmax(np.fft.irfft(product, size)) / 32.0 == pytest.approx(SHIFT_MS, abs=2.0)
    assert np.array_equal(frames, sound[0])


def test_duplicate_has_the_bytes_of_another_id(sound_media, tmp_path):
    path = write_fault("duplicate", tmp_path, CONFIG, INDEX)

    other = media_path(sound_media, CONFIG, INDEX - 1)
    assert path.name == media_path(sound_media, CONFIG, INDEX).name != other.name
    assert path.read_bytes() == other.read_bytes()


def test_an_unknown_fault_is_refused_with_the_choices(tmp_path):
    with pytest.raises(ValueError, match="no fault 'mute'.*silent"):
        write_fault("mute", tmp_path, CONFIG, INDEX)


def test_every_fault_has_its_test():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}

    assert all(any(test.startswith(fault) for test in tested) for fault in FAULTS)
