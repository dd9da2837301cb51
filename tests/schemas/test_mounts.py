"""What kind of file system a folder lies on; the texts are the kernel's, of machines with such mounts."""

from pathlib import Path

import pytest

from schemas import mounts
from schemas.mounts import file_system, network_file_system

CLUSTER = r"""
22 27 0:21 / /proc rw,nosuid,relatime shared:12 - proc proc rw
27 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
40 27 0:35 / /home rw,relatime shared:60 - nfs4 filer:/export/home rw,vers=4.2,rsize=1048576,hard,proto=tcp
41 40 259:3 / /home/local rw,relatime shared:61 - xfs /dev/nvme1n1 rw
42 27 0:36 / /scratch rw,relatime - lustre 10.0.0.1@tcp:/scratch rw,flock
43 27 0:37 / /mnt/my\040share rw,relatime - cifs //nas/share rw,vers=3.1.1
44 27 0:38 / /mnt/ssh rw,nosuid - fuse.sshfs me@host:/data rw,user_id=0
45 27 0:39 / /mnt/bucket rw,nosuid - fuse.rclone remote:bucket rw,user_id=0
46 27 0:40 / /mnt/usb rw,nosuid - fuseblk /dev/sdb1 rw,user_id=0
47 27 0:41 / /mnt/pool rw,nosuid - fuse.mergerfs 1:2 rw,user_id=0
48 27 0:42 / /over rw - nfs old:/over rw
49 48 0:43 / /over rw - tmpfs tmpfs rw
50 27 0:44 / /mnt/c rw,noatime - 9p C:\134 rw,dirsync,aname=drvfs
"""


@pytest.mark.parametrize(
    ("path", "kind", "is_network"),
    [
        ("/srv/data/state", "ext4", False),
        ("/home/me/data/state", "nfs4", True),
        ("/home/local/state", "xfs", False),
        ("/homework/state", "ext4", False),  # it begins like a mount, and is in none
        ("/scratch/me", "lustre", True),
        ("/mnt/my share/state", "cifs", True),
        ("/mnt/ssh/state", "fuse.sshfs", True),
        ("/mnt/bucket", "fuse.rclone", True),
        ("/mnt/usb/state", "fuseblk", False),
        ("/mnt/pool/state", "fuse.mergerfs", False),
        ("/over/state", "tmpfs", False),  # the last of two on one folder
        ("/mnt/c/state", "9p", True),
    ],
)
def test_the_nearest_mount_above_a_folder_says_what_it_lies_on(path, kind, is_network, tmp_path, monkeypatch):
    assert file_system(Path(path), CLUSTER) == kind

    (tmp_path / "mountinfo").write_text(CLUSTER)
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    assert network_file_system(Path(path)) == (kind if is_network else None)


def test_a_text_that_says_nothing_of_a_folder_forbids_nothing():
    assert file_system(Path("/srv"), "") == file_system(Path("/srv"), "no such line\n1 2 - x\n") == ""
