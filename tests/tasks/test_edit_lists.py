"""Edit lists of MP4 files, read from boxes of every form."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.media.edit_lists import MOST_EDITS, NOTHING, Part, Read, Seen, Track, parts_of, when_due

TRACK = 7
MOVIE_HZ = 600
TRACK_HZ = 24_000
SPEED = (1, 0)


def box(name, content, form="short"):
    """In one of the three forms that a box's size has."""
    if form == "short":
        return struct.pack(">I4s", 8 + len(content), name) + content
    if form == "long":
        return struct.pack(">I4sQ", 1, name, 16 + len(content)) + content
    return struct.pack(">I4s", 0, name) + content  # to the end


def clock(name, version, number):
    """A box with times of 32 or 64 bits before the number that counts."""
    return box(name, bytes([version, 0, 0, 0]) + bytes(16 if version else 8) + struct.pack(">I", number))


def movie(edits, version=0, form="short", count=None):
    """A film's boxes, with one track that has these edits: (length, beginning, *speed)."""
    layout = ">Qqhh" if version else ">Iihh"
    listed = b"".join(struct.pack(layout, *edit) for edit in edits)
    head = struct.pack(">B3xI", version, len(edits) if count is None else count)
    track = (
        clock(b"tkhd", version, TRACK)
        + box(b"mdia", clock(b"mdhd", version, TRACK_HZ))
        + box(b"edts", box(b"elst", head + listed), "short" if form == "long" else form)
    )
    inside = clock(b"mvhd", version, MOVIE_HZ) + box(b"trak", track, form)
    return box(b"ftyp", b"isom") + box(b"moov", inside, form)


EDITS = st.lists(st.tuples(st.integers(1, 5_000), st.integers(NOTHING, 900_000)), max_size=6)


@given(EDITS, st.sampled_from((0, 1)), st.sampled_from(("short", "long", "to the end")))
def test_parts_are_read_from_every_form_of_box(tmp_path_factory, edits, version, form):
    path = tmp_path_factory.mktemp("boxes") / "film.mp4"
    path.write_bytes(movie([(*edit, *SPEED) for edit in edits], version, form))

    shown = 0
    expected = []
    for length, media in edits:
        ticks = length * TRACK_HZ // MOVIE_HZ
        expected += [] if media == NOTHING else [Part(shown, media, ticks)]
        shown += ticks
    has_gap = NOTHING in [media for _, media in edits[1:]]
    assert parts_of(path) == {TRACK: [] if has_gap else expected}


@given(st.data())
def test_damage_is_not_an_error(tmp_path_factory, data):
    film = bytearray(movie([(600, 1000, *SPEED), (300, 90_000, *SPEED)], data.draw(st.sampled_from((0, 1)))))
    for place in data.draw(st.lists(st.integers(0, len(film) - 1), max_size=8)):
        film[place] = data.draw(st.sampled_from((0, 1, 7, 255)))
    path = tmp_path_factory.mktemp("boxes") / "film.mp4"
    path.write_bytes(film[: data.draw(st.integers(0, len(film)))])

    parts_of(path)  # raises nothing


@pytest.mark.parametrize(
    "film",
    [
        movie([(600, 0, *SPEED), (600, 99_000, *SPEED)]).replace(struct.pack(">I", MOVIE_HZ), bytes(4)),
        struct.pack(">I4s", 4, b"moov"),  # a box that is smaller than its head
        b"no boxes at all",
        b"",
    ],
)
def test_what_is_damaged_is_left_out(tmp_path, film):
    path = tmp_path / "film.mp4"
    path.write_bytes(film)

    assert parts_of(path) == {}


@pytest.mark.parametrize(
    "film",
    [
        movie([(600, 0, 2, 0), (600, 0, *SPEED)]),  # shown at twice the speed
        movie([(600, 0, 0, 0), (600, 0, *SPEED)]),  # a picture that is held
        movie([(600, 0, *SPEED)], count=2),  # more edits than the box holds
        movie([(600, 0, *SPEED), (600, 99_000, *SPEED)])[:-10],
        movie([(1, k, *SPEED) for k in range(MOST_EDITS + 1)]),
    ],
)
def test_a_list_that_is_not_understood_has_no_parts(tmp_path, film):
    path = tmp_path / "film.mp4"
    path.write_bytes(film)

    assert parts_of(path) == {TRACK: []}


def read(raws, shift, hidden=()):
    """Packets with these raw times, of which libav hides some."""
    return [Read(Seen(raw + shift, 1000 + raw, raw in hidden), raw) for raw in raws]


def test_parts_between_which_nothing_is_taken_out_are_left_to_libav():
    """They are shifted alike: the hidden tail of the first looks like the second."""
    track = Track([Part(0, 0, 50), Part(50, 50, 50)], 1000, is_picture=True)
    first = read(range(0, 80, 10), 0, hidden=(50, 60, 70))
    second = read(range(20, 100, 10), 0, hidden=(20, 30, 40))

    assert when_due(track, first + second) == {}


@pytest.mark.parametrize(("is_picture", "begins"), [(True, 50), (False, 45)])
def test_what_lasts_into_a_part_or_to_its_end_is_shown(is_picture, begins):
    track = Track([Part(0, 0, 50), Part(50, 75, 50)], 1000, is_picture=is_picture)
    whole = read(range(0, 50, 10), 0)
    # libav shows what is due at 55 when the part begins, and hides what is due at 95 as if it came after the end.
    moved = read(range(40, 130, 10), -30, hidden=(40, 50, 60, 70, 120))

    due = when_due(track, whole + moved)

    assert [due[one.seen].pts for one in moved if one.seen in due] == [begins, 55, 65, 75, 85, 95]


def test_a_part_that_holds_all_of_another_is_not_taken_for_it():
    track = Track([Part(0, 30, 40), Part(40, 0, 100)], 100, is_picture=True)
    first = read(range(0, 40, 10), 0)
    second = read(range(-30, 70, 10), 70)

    due = when_due(track, first + second)

    assert [due[one.seen].pts for one in first + second] == list(range(0, 140, 10))


def test_a_list_that_libav_does_not_follow_is_left_to_it():
    """In fragmented files it shows the whole track from the beginning of the first part on."""
    track = Track([Part(0, 0, 50), Part(50, 75, 50)], 1000, is_picture=True)

    assert when_due(track, read(range(0, 200, 10), 0)) == {}
