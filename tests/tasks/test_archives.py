"""Members of any tar are found where `tarfile` finds them, and a hostile header costs nothing but its tar."""

import io
import random
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.files import archives
from tasks.files.archives import BLOCK
from tasks.files.bytes_at import opened

LONG = "deep/" * 60 + "file.wav"


def tar_of(path, files, form=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return path


def members(path):
    with opened(path) as file:
        yield from archives.members(file)


def found_by_tarfile(path):
    with tarfile.open(path) as tar:
        return [(one.name, one.offset_data, one.size) for one in tar if one.isreg()]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(
    files=st.dictionaries(st.text("aB0_-./é", min_size=1, max_size=120), st.binary(max_size=1200), max_size=6)
)
def test_members_are_where_tarfile_finds_them(form, files, tmp_path_factory):
    if form == tarfile.USTAR_FORMAT:
        files = {name[:45]: content for name, content in files.items()}  # no more than its 100 bytes
    files = {f"{name}.wav": content for name, content in files.items()}
    path = tar_of(tmp_path_factory.mktemp("tars") / "a.tar", files, form)

    assert list(members(path)) == found_by_tarfile(path)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_large_sizes_are_read(tmp_path, form):
    path = tar_of(tmp_path / "a.tar", {LONG: b"one", "b.wav": b"two"}, form)

    assert [(name, size) for name, _, size in members(path)] == [(LONG, 3), ("b.wav", 3)]


def test_tars_that_were_joined_are_read_to_their_end(tmp_path):
    joined = tmp_path / "joined.tar"
    first = tar_of(tmp_path / "a.tar", {"a.wav": b"one"}).read_bytes()
    joined.write_bytes(first + tar_of(tmp_path / "b.tar", {LONG: b"two", "c.wav": b"three"}).read_bytes())

    found = list(members(joined))

    assert [one.name for one in found] == ["a.wav", LONG, "c.wav"]
    assert [joined.read_bytes()[at : at + size] for _, at, size in found] == [b"one", b"two", b"three"]


def test_zeros_without_an_end_are_not_read_to_their_end(tmp_path):
    path = tar_of(tmp_path / "a.tar", {"a.wav": b"one"})
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # sparse: a terabyte

    assert [one.name for one in members(path)] == ["a.wav"]


def test_links_folders_and_devices_are_no_media(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            header = tarfile.TarInfo("a.mp4")
            header.type = kind
            header.linkname = "/etc/passwd"
            header.size = 5
            tar.addfile(header)
        header = tarfile.TarInfo("b.mp4")
        header.size = 1
        tar.addfile(header, io.BytesIO(b"b"))

    assert [name for name, *_ in members(tmp_path / "a.tar")] == ["b.mp4"]


def test_what_stands_before_a_cut_is_found(tmp_path):
    path = tar_of(tmp_path / "a.tar", {"a.wav": b"a" * 600, "b.wav": b"b" * 600})
    path.write_bytes(path.read_bytes()[: 3 * BLOCK + BLOCK + 5])
    found = []

    with pytest.raises(ValueError, match=r"a.tar: the member at byte 1536 ends beyond the file"):
        found.extend(members(path))

    assert [one.name for one in members_before(path)] == ["a.wav"]


def members_before(path):
    found = []
    try:
        for one in members(path):
            found.append(one)
    except ValueError:
        pass
    return found


@pytest.mark.parametrize("content", [b"BZh91AY" + bytes(600), b"no tar", b"x" * 1024])
def test_what_is_no_tar_is_told(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)

    with pytest.raises(ValueError, match=r"a.tar: not a tar, or damaged, at byte 0"):
        list(members(tmp_path / "a.tar"))


def test_nothing_that_a_header_says_leads_out_of_its_tar(tmp_path):
    """Bytes changed at random, checksums mended: every member that is found lies inside the file."""
    original = tar_of(
        tmp_path / "a.tar", {LONG: b"a" * 700, "b.wav": b"b", "c.wav": b"c" * 2000}
    ).read_bytes()
    rng = random.Random(0)
    for _ in range(2000):
        damaged = bytearray(original)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        for at in range(0, len(damaged), BLOCK):
            damaged[at + 148 : at + 156] = b" " * 8
            damaged[at + 148 : at + 156] = b"%06o\0 " % sum(damaged[at : at + BLOCK])
        (tmp_path / "b.tar").write_bytes(damaged)

        for _, offset, size in members_before(tmp_path / "b.tar"):
            assert 0 < offset <= offset + size <= len(damaged)
