"""A host that drips is given up within two windows of patience, however fast it was before."""

import pytest

from schemas.outcome import Transient
from tasks.transport.policy import DownloadLimits
from tasks.transport.transfer import PIECE_BYTES, Patience

LIMITS = DownloadLimits(patience_s=60.0, slowest_bytes_s=1000.0)


class Body:
    """A body of zeros that comes in pieces, each after so many seconds."""

    def __init__(self, *pieces: tuple[int, float]) -> None:
        self.pieces = list(pieces)
        self.now_s = 0.0

    def read1(self, size: int) -> bytes:
        num_bytes, seconds = self.pieces.pop(0) if self.pieces else (0, 0.0)
        if num_bytes > size:
            self.pieces.insert(0, (num_bytes - size, 0.0))
        self.now_s += seconds
        return bytes(min(num_bytes, size))

    @property
    def patience(self) -> Patience:
        return Patience(self.read1, LIMITS, lambda: self.now_s)


def test_a_read_is_whole_though_it_comes_in_pieces():
    reader = Body((1000, 0.1), (1000, 0.1), (500, 0.1)).patience

    assert [len(reader.read(1500)) for _ in range(3)] == [1500, 1000, 0]


def test_all_of_a_body_is_read_where_no_size_is_named():
    assert len(Body((100_000, 1.0), (1, 1.0)).patience.read()) == 100_001


def test_a_drip_within_one_block_is_given_up_after_its_first_window():
    body = Body(*[(100, 1.0)] * 1000)

    with pytest.raises(Transient, match="6,100 bytes in 61 s: too slow"):
        body.patience.read(1 << 22)


def test_what_came_fast_does_not_vouch_for_what_drips_now():
    body = Body(*[(PIECE_BYTES, 1.0)] * 61, *[(100, 1.0)] * 1000)

    with pytest.raises(Transient, match="too slow"):
        body.patience.read(1 << 30)

    assert body.now_s <= 2 * LIMITS.patience_s + 2


def test_who_takes_long_over_what_came_is_not_the_hosts_fault():
    body = Body(*[(4000, 1.0)] * 100)
    reader = body.patience
    for _ in range(100):
        assert len(reader.read(4000)) == 4000
        body.now_s += 600.0
