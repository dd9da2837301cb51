"""A folder is walked at any depth; what is not taken is counted by its reason, and nothing odd is opened."""

import os
import socket
from collections import Counter

import av
from hypothesis import given
from hypothesis import strategies as st

from tasks.files.suffixes import AUDIO_SUFFIXES, MEDIA_SUFFIXES, OTHER_SUFFIXES, VIDEO_SUFFIXES
from tasks.files.walk import walk


def claimed_suffixes():
    """The suffixes that the demuxers of libav know their files by."""
    found = set()
    for name in av.formats_available:
        try:
            found |= av.ContainerFormat(name, "r").extensions
        except ValueError:
            continue  # a muxer only
    return {f".{suffix.lower()}" for suffix in found}


def test_every_suffix_that_libav_claims_is_known_for_what_it_is():
    assert claimed_suffixes() - MEDIA_SUFFIXES - OTHER_SUFFIXES == set()
    assert not (VIDEO_SUFFIXES & AUDIO_SUFFIXES or MEDIA_SUFFIXES & OTHER_SUFFIXES)


PATHS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["a", "b c", "ü", ".git"]), max_size=3).map(tuple),
        st.sampled_from(["x", "y.z", "-", ".h"]),
        st.sampled_from([".mp4", ".MKV", ".wav", ".txt", ".jpg", "", ".mp4.part"]),
    ),
    max_size=20,
    unique=True,
)


@given(paths=PATHS)
def test_every_file_is_taken_or_counted(paths, tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for inner, stem, suffix in paths:
        folder.joinpath(*inner).mkdir(parents=True, exist_ok=True)
        folder.joinpath(*inner, f"{stem}{suffix}").touch()

    found = walk(folder)

    seen = [one for one in paths if ".git" not in one[0]]
    media = [one for one in seen if one[1] != ".h" and one[2].lower() in MEDIA_SUFFIXES]
    assert set(found.names) == {"/".join((*inner, stem + suffix)) for inner, stem, suffix in media}
    assert found.names == sorted(found.names, key=lambda name: (name.lower().endswith(".wav"), name))
    hidden = sum(entry.startswith(".") for _, folders, files in os.walk(folder) for entry in (*folders, *files)
                 if ".git" not in os.path.relpath(_, folder).split("/"))  # fmt: skip
    assert sum(found.passed.values()) == len([one for one in seen if one[1] != ".h"]) - len(media) + hidden


def test_links_to_files_are_followed_and_nothing_else_is_opened(tmp_path):
    folder = tmp_path / "videos"
    outside = tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    outside.mkdir()
    (outside / "a.mp4").write_bytes(b"x")
    (folder / "a.mp4").symlink_to(outside / "a.mp4")
    (folder / "deep" / "b.mp4").symlink_to("../a.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    (folder / "deep" / "up").symlink_to("..")
    (folder / "outside").symlink_to(outside)
    os.mkfifo(folder / "pipe.mp4")
    (folder / "null.mp4").symlink_to("/dev/null")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "socket.mp4"))
    server.close()

    found = walk(folder)

    assert (found.names, found.num_links) == (["a.mp4", "deep/b.mp4"], 2)
    assert found.passed == Counter(
        {"link(s) that lead nowhere": 2, "link(s) to folders": 2, "pipe(s), socket(s) or device(s)": 3}
    )
    assert found.summary.startswith("2 media files (2 behind links); skipped 3 pipe(s)")


def test_a_root_in_the_folder_is_not_its_content(tmp_path):
    for name in ("a.mp4", "root/build.json", "root/clips/media/000000/a_0_2000.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    found = walk(tmp_path)

    assert (found.names, found.passed) == (["a.mp4"], {"root(s) of mcgurk": 1})
