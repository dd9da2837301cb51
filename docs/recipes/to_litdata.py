"""`python to_litdata.py ROOT TARGET`: the latest version's shards as LitData chunks, member for member.

Needs `pip install litdata`; nothing of mcgurk.
"""

import sys
import tarfile
from itertools import groupby
from pathlib import Path

from litdata import optimize


def samples(path):
    """The clips of one tar."""
    with tarfile.open(path) as tar:
        for key, members in groupby(tar, key=lambda member: member.name.partition(".")[0]):
            yield {"key": key, **{m.name.partition(".")[2]: tar.extractfile(m).read() for m in members}}


if __name__ == "__main__":
    root, target = Path(sys.argv[1]), sys.argv[2]
    tars = [str(root / "versions" / line) for line in (root / "versions" / "latest.txt").read_text().split()]
    optimize(fn=samples, inputs=tars, output_dir=target, chunk_bytes="64MB", num_workers=1)
