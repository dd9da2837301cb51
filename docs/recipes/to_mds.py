"""`python to_mds.py ROOT TARGET`: the latest version's shards as MosaicML MDS, member for member.

Needs `pip install mosaicml-streaming`; nothing of mcgurk.
"""

import sys
import tarfile
from itertools import groupby
from pathlib import Path

from streaming import MDSWriter

root, target = Path(sys.argv[1]), sys.argv[2]
tars = [root / "versions" / line for line in (root / "versions" / "latest.txt").read_text().split()]
writer = None
for path in tars:
    with tarfile.open(path) as tar:
        for key, members in groupby(tar, key=lambda member: member.name.partition(".")[0]):
            sample = {m.name.partition(".")[2]: tar.extractfile(m).read() for m in members}
            columns = {"key": "str", **dict.fromkeys(sample, "bytes")}
            writer = writer or MDSWriter(out=target, columns=columns)
            writer.write({"key": key, **sample})
writer.finish()
