"""Extraction decodes what changed and nothing else; a clip that cannot be decoded is a row."""

import io
import wave
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
import soundfile
import timecode
from small_roots import (
    PROFILE,
    RECIPE,
    SECONDS,
    clip_rows,
    extract_all,
    fetch,
    indexed,
    key_of,
    media,
    passed,
)
from timecode import read_number

from schemas.clip import CLIPS
from schemas.feature import Profile
from schemas.manifest import part_path, read_header, read_manifest, read_part, write_part
from schemas.shard import JSON_SUFFIX
from schemas.waveforms import N_MELS, num_frames
from tasks import extract, features, standing
from tasks.feature_files import feature_path, open_members
from tasks.features import member_suffixes
from tasks.media.decode import decode
from tasks.media.measure import measure_clip
from tasks.parts import plan_stage

IDS = ["first", "second", "third"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    recipes = {video: replace(RECIPE, seconds=2.0 + n / 10) for n, video in enumerate(IDS)}
    return media(tmp_path_factory.mktemp("media"), recipes)


@pytest.fixture
def root(tmp_path, folder):
    """A root whose three clips are there and passed."""
    indexed(tmp_path, IDS)
    fetch(tmp_path, f"folder:{folder}")
    passed(tmp_path, "clips")
    return tmp_path


def rows_of(root):
    return {row["key"]: row for _, row in read_manifest(root / "features")}


def members_of(root, feature):
    with open_members(feature_path(root, feature, 0)) as table:
        return {(row["key"], row["suffix"]): row["data"] for row in table.to_pylist()}


def replace_clip(root, video_id, recipe):
    """Another file for one clip, as a later download would leave it."""
    source = media(root / "other", {video_id: recipe})
    (root / clip_rows(root)[video_id]["path"]).unlink()
    fetch(root, f"folder:{source}")
    passed(root, "clips")


@pytest.fixture(scope="module")
def decoded(folder):
    return decode(folder / "first.mp4", 0.0, SECONDS, PROFILE)


@pytest.mark.parametrize("name", features.of_profile(PROFILE))
def test_every_feature_has_a_version_and_gives_members(name, decoded):
    module = features.modules()[name]

    members, again = (module.members(decoded, PROFILE) for _ in range(2))

    assert isinstance(module.VERSION, int) and module.VERSION >= 1
    assert members and set(members) == set(module.suffixes(PROFILE))
    assert all(isinstance(content, bytes) and content for content in members.values())
    assert members == again


PROFILES = {
    "small": PROFILE,
    "flac": replace(PROFILE, sound="flac"),
    "seed": replace(PROFILE, sample_rate_hz=48_000),
    "video": replace(PROFILE, frame_rate_hz=25.0, picture="h264"),
    "multisensory": replace(PROFILE, frame_rate_hz=29.97, picture="h264", sample_rate_hz=21_000, channels=2),
}


@pytest.mark.parametrize("name", PROFILES)
def test_a_sample_holds_exactly_what_its_profile_says(folder, name):
    profile = PROFILES[name]
    decoded = decode(folder / "first.mp4", 0.0, SECONDS, profile)

    members = {}
    for module in features.of_profile(profile).values():
        members |= module.members(decoded, profile)

    assert sorted([*members, JSON_SUFFIX]) == member_suffixes(profile)
    sound, rate = soundfile.read(io.BytesIO(members[profile.sound]), dtype="int16", always_2d=True)
    assert (rate, sound.shape) == (profile.sample_rate_hz, (profile.num_samples, profile.channels))
    assert np.array_equal(sound, decoded.wave)
    if profile.picture == "h264":
        with av.open(io.BytesIO(members["mp4"])) as container:
            frames = list(container.decode(video=0))
        assert [frame.key_frame for frame in frames[:2]] == [True, False]
        assert sum(frame.key_frame for frame in frames) == SECONDS
        shown = [read_number(frame.to_ndarray(format="gray")) for frame in frames]
        at_s = (np.arange(profile.num_frames) + 0.5) / profile.frame_rate_hz
        assert shown == [min(int(t * RECIPE.frame_rate), 19) for t in at_s]


def test_the_members_of_a_clip_have_exactly_the_profiles_sizes(root):
    extract_all(root)

    key = key_of("second")
    frames = [data for (of, _), data in members_of(root, "frames").items() if of == key]
    with wave.open(io.BytesIO(members_of(root, "audio")[key, "wav"])) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (PROFILE.sample_rate_hz, PROFILE.num_samples)
    mel = np.load(io.BytesIO(members_of(root, "log_mel")[key, "log_mel.npy"]))
    assert (mel.dtype, mel.shape) == (np.float16, (N_MELS, num_frames(PROFILE.num_samples)))
    assert {simplejpeg.decode_jpeg_header(data)[:2] for data in frames} == {(64, 96)}
    assert len(frames) == PROFILE.num_frames


def test_a_second_run_decodes_nothing_and_writes_the_same(root):
    assert extract_all(root) == len(IDS)
    before = {path: path.read_bytes() for path in (root / "features").rglob("*.*")}

    assert extract_all(root) == 0
    assert {path: path.read_bytes() for path in (root / "features").rglob("*.*")} == before


def test_a_changed_clip_is_decoded_alone_and_the_others_are_copied(root):
    extract_all(root)
    before = {name: members_of(root, name) for name in features.of_profile(PROFILE)}
    for video in ("first", "third"):  # no longer media, and never read
        path = root / clip_rows(root)[video]["path"]
        path.write_bytes(bytes(path.stat().st_size))
    replace_clip(root, "second", replace(RECIPE, is_black=True))

    decoded = extract_all(root)

    assert decoded == 1
    for name, members in before.items():
        after = members_of(root, name)
        assert list(after) == list(members)
        changed = {key for (key, suffix), data in after.items() if members[key, suffix] != data}
        assert changed <= {key_of("second")}
    assert (
        members_of(root, "frames")[key_of("second"), "000.jpg"]
        != before["frames"][key_of("second"), "000.jpg"]
    )


def test_an_undecodable_clip_is_a_row_and_its_part_goes_on(root):
    path = root / clip_rows(root)["second"]["path"]
    content = path.read_bytes()
    path.write_bytes(content[:64] + bytes(len(content) - 64))

    extract_all(root)

    rows = rows_of(root)
    assert {key: (row["outcome"], row["reason"]) for key, row in rows.items()} == {
        key_of("first"): ("ok", ""),
        key_of("second"): ("quarantined", "decodable"),
        key_of("third"): ("ok", ""),
    }
    assert rows[key_of("second")]["detail"]
    assert {key for key, _ in members_of(root, "frames")} == {key_of("first"), key_of("third")}


def test_a_clip_that_is_not_there_stops_the_stage_and_is_no_verdict(root):
    (root / clip_rows(root)["second"]["path"]).unlink()

    with pytest.raises(FileNotFoundError, match="second_0_2000.mkv .*--from download"):
        extract_all(root)

    assert plan_stage(extract.stage(root, PROFILE)).counts()["missing"] == 1


def test_what_failed_before_is_carried_and_not_decoded(tmp_path, folder):
    root = indexed(tmp_path, ["first", "gone"])
    fetch(root, f"folder:{folder}")
    passed(root, "clips")

    assert extract_all(root) == 1
    gone = rows_of(root)[key_of("gone")]
    assert (gone["outcome"], gone["reason"], gone["num_frames"]) == ("waiting", "removed", None)


def test_a_part_without_a_single_clip_is_done(tmp_path, folder):
    root = indexed(tmp_path, ["gone"])
    fetch(root, f"folder:{folder}")
    passed(root, "clips")

    assert extract_all(root) == 0
    assert plan_stage(extract.stage(root, PROFILE)).counts()["done"] == 1


def test_fragments_of_a_killed_run_are_removed(root):
    def killed(function, batches):
        for batch in batches:
            function(batch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract.run(extract.stage(root, PROFILE), [0], PROFILE, killed)
    left = list((root / "features").glob("*/.*"))
    left[0].with_name(".000000-000009.arrow").write_bytes(b"torn")

    extract_all(root)

    assert len(left) == len(features.of_profile(PROFILE))
    assert not list((root / "features").glob("*/.*"))
    assert {row["outcome"] for row in rows_of(root).values()} == {"ok"}


def test_a_lost_feature_file_is_made_anew(root):
    extract_all(root)
    before = members_of(root, "audio")
    feature_path(root, "audio", 0).unlink()

    (plan,) = plan_stage(extract.stage(root, PROFILE)).parts
    extract_all(root)

    assert (plan.state, plan.reason) == ("stale", "1 file(s) lost: features/audio/000000.arrow")
    assert members_of(root, "audio") == before


def test_the_order_in_which_batches_end_does_not_matter(root, monkeypatch):
    monkeypatch.setattr(extract, "CLIPS_PER_BATCH", 1)
    stage = extract.stage(root, PROFILE)
    extract.run(stage, [0], PROFILE, lambda f, batches: [f(one) for one in reversed(batches)])
    backwards = {path.name: path.read_bytes() for path in (root / "features").rglob("*.arrow")}
    for path in (root / "features").rglob("*.arrow"):
        path.unlink()

    extract_all(root)

    assert {path.name: path.read_bytes() for path in (root / "features").rglob("*.arrow")} == backwards


def seen(tmp_path, profile=PROFILE, **changes):
    clip = timecode.write(tmp_path / "clip.mp4", replace(RECIPE, **changes))
    return measure_clip(decode(clip, 0.0, SECONDS, profile), profile)


def test_an_ordinary_clip_is_loud_bright_and_moving(tmp_path):
    row = seen(tmp_path)

    # A sine of amplitude 0.5 has a power of 1/8: -9.03 dB.
    assert row["rms_db"] == pytest.approx(-9.03, abs=0.3)
    assert row["peak"] == pytest.approx(0.5, abs=0.1)
    assert (row["clipped_share"], row["frozen_share"], row["decoder"]) == (0.0, 0.0, "pyav")
    assert row["luma_max"] > 180
    assert row["valid_ms"] == pytest.approx(2000, abs=70)
    assert row["start_skew_ms"] == pytest.approx(0, abs=70)


def test_silence_is_measured_as_silence(tmp_path):
    row = seen(tmp_path, is_silent=True)

    assert row["rms_db"] < -90
    assert (row["clipped_share"], row["audio_short_ms"]) == (0.0, pytest.approx(0, abs=70))


def test_a_black_picture_is_measured_as_black(tmp_path):
    row = seen(tmp_path, is_black=True)

    assert row["luma_max"] < 5
    assert row["frozen_share"] == 1.0


def test_a_still_picture_is_measured_as_frozen(tmp_path):
    row = seen(tmp_path, is_frozen=True)

    assert row["frozen_share"] == 1.0
    assert row["luma_max"] > 30


def test_one_frame_alone_is_never_frozen(tmp_path):
    profile = Profile("one", length_ms=2000, frame_rate_hz=0.5, frame_short_side_px=64)

    assert seen(tmp_path, profile, is_frozen=True)["frozen_share"] == 0.0


def test_what_is_padding_is_not_measured(tmp_path):
    row = seen(tmp_path, seconds=1.0)

    assert row["valid_ms"] == pytest.approx(1000, abs=70)
    assert row["rms_db"] == pytest.approx(-9.03, abs=0.3)  # the silence behind it would halve the power
    assert row["audio_short_ms"] == pytest.approx(1000, abs=70)
    assert row["num_samples"] == PROFILE.num_samples


def test_a_clip_without_sound_has_silence_of_full_length(tmp_path):
    row = seen(tmp_path, has_audio=False)

    assert (row["rms_db"], row["peak"], row["valid_ms"]) == (pytest.approx(-120), 0.0, 0)
    assert (row["num_samples"], row["audio_short_ms"]) == (PROFILE.num_samples, 2000.0)


def test_a_worker_with_other_tools_makes_no_bytes(tmp_path):
    batch = extract.ClipBatch(tmp_path, 0, 0, [], PROFILE)
    other = replace(batch, tools={**batch.tools, "av": "1.0"})

    assert extract.extract_batch(batch) == (0, [])
    with pytest.raises(RuntimeError, match="'av': '1.0'.*install the same requirements.lock on both"):
        extract.extract_batch(other)


def with_tools(monkeypatch, **versions):
    """Extraction by tools of other versions."""
    tools = {**extract._tools(), **versions}
    monkeypatch.setattr(extract, "_tools", lambda: tools)


def test_a_sample_that_todays_tools_reject_stays_and_says_what_made_it(root, monkeypatch):
    extract_all(root)
    before = rows_of(root)
    members = members_of(root, "frames")
    with_tools(monkeypatch, numpy="99.1")
    path = root / clip_rows(root)["second"]["path"]
    path.write_bytes(bytes(path.stat().st_size))

    assert extract_all(root) == len(IDS)

    after = rows_of(root)
    second = after[key_of("second")]
    old = before[key_of("second")]
    assert second == {**old, "is_kept": True, "fingerprint": second["fingerprint"]}
    assert second["fingerprint"] != old["fingerprint"]  # it is not tried again with every build
    assert "numpy 99.1" not in second["made_by"] and "numpy 99.1" in after[key_of("first")]["made_by"]
    assert {row["outcome"] for row in after.values()} == {"ok"}
    assert members_of(root, "frames") == members
    assert extract_all(root) == 0
    assert rows_of(root) == after


def test_a_clip_that_never_was_a_sample_is_rejected(root):
    path = root / clip_rows(root)["second"]["path"]
    path.write_bytes(bytes(path.stat().st_size))

    extract_all(root)

    second = rows_of(root)[key_of("second")]
    assert (second["outcome"], second["reason"], second["is_kept"]) == ("quarantined", "decodable", None)


def test_a_recipe_is_of_what_is_asked_and_not_of_who_does_it(monkeypatch):
    names = list(features.of_profile(PROFILE))
    recipe = standing.recipe(PROFILE)
    with_tools(monkeypatch, numpy="99.1")
    monkeypatch.setattr(extract, "VERSION", 99)
    monkeypatch.setattr(features.modules()[names[0]], "VERSION", 99)

    assert standing.recipe(PROFILE) == recipe
    assert standing.recipe(replace(PROFILE, name="other")) == recipe
    assert standing.recipe(replace(PROFILE, jpeg_quality=84)) != recipe
    assert extract.stage(Path("r"), PROFILE).recipe == recipe


def with_begin(root, begins_s, *ids):
    """Gives clips a begin that our own code stumbles over, as it might over a file."""
    path = part_path(root / "clips/checked", 0)
    keys = {key_of(one) for one in ids}
    rows = [{**row, "begins_s": begins_s} if row["key"] in keys else row for row in read_part(path)]
    header = read_header(path)
    assert header is not None
    write_part(path, rows, CLIPS, header)


def test_a_clip_at_which_our_own_code_fails_is_tried_again_by_the_next_version(root, monkeypatch):
    with_begin(root, None, "second")

    assert extract_all(root) == len(IDS)

    second = rows_of(root)[key_of("second")]
    assert (second["outcome"], second["reason"]) == ("quarantined", "bug")
    assert "Traceback" in second["detail"] and "TypeError" in second["detail"]
    assert rows_of(root)[key_of("first")]["outcome"] == "ok"
    assert extract_all(root) == 0
    with_begin(root, 0.0, "second")
    monkeypatch.setattr(extract, "VERSION", extract.VERSION + 1)
    extract_all(root)
    assert rows_of(root)[key_of("second")]["outcome"] == "ok"


def test_code_that_fails_at_more_than_a_few_stops_the_stage(tmp_path, folder):
    files = {f"video{n}": folder / "first.mp4" for n in range(5)}
    indexed(tmp_path, files)
    listing = tmp_path / "videos.csv"
    listing.write_text("video_id,file\n" + "".join(f"{one},{file}\n" for one, file in files.items()))
    fetch(tmp_path, f"folder:{listing}")
    passed(tmp_path, "clips")
    with_begin(tmp_path, None, *files)

    with pytest.raises(RuntimeError, match="mcgurk's own code failed on 5 of 5 items of part 0: Traceback"):
        extract_all(tmp_path)
