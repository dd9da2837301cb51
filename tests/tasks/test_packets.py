"""The digest of a segment's packets: the same in every container, another where a stream was encoded anew."""

from dataclasses import replace

import av
import pytest
import timecode
from timecode import Recipe

from tasks.media.cut import cut
from tasks.media.probe import probe

RECIPE = Recipe(seconds=6, frame_rate=25, key_every=25)
SPAN_S = (1.3, 4.1)


def packets_of(path):
    """The digest of what a file holds of SPAN_S, as a download takes it."""
    return cut(path, probe(path), SPAN_S, path.parent / f"cut-{path.name}").packets


def remuxed(path, suffix):
    """The same packets in another container."""
    target = path.with_name(f"remuxed{suffix}")
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        copies = {one.index: output.add_stream_from_template(one) for one in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    return target


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return timecode.write(tmp_path_factory.mktemp("film") / "film.mp4", RECIPE)


@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_a_container_does_not_matter(film, suffix):
    assert packets_of(remuxed(film, suffix)) == packets_of(film)


def test_matroska_neither_where_no_packet_is_early(film):
    """It begins at 0. With AAC, whose first packet stands before 0, it moves all times, and that is told apart."""
    silent = timecode.write(film.with_name("silent.mp4"), replace(RECIPE, has_audio=False))

    assert packets_of(remuxed(silent, ".mkv")) == packets_of(silent)


@pytest.mark.parametrize("change", [{"key_every": 24}, {"sample_rate": 48_000}, {"has_audio": False}])
def test_an_encoding_does(film, change):
    again = timecode.write(film.with_name("again.mp4"), replace(RECIPE, **change))

    assert packets_of(again) != packets_of(film)


def test_what_stands_outside_of_the_segment_does_not(film):
    longer = timecode.write(film.with_name("longer.mp4"), replace(RECIPE, seconds=9))

    assert packets_of(longer) == packets_of(film)
