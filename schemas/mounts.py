"""What kind of file system a folder is on, according to the kernel's list of mounts."""

import re
from pathlib import Path

from schemas.errors import RequestError

MOUNTS = Path("/proc/self/mountinfo")
# Network file systems. Their locks may be missing, or invisible to other hosts, and SQLite's write-ahead log needs
# memory that processes share.
NETWORK = re.compile(
    r"nfs4?|cifs|smb[23]?|smbfs|ncpfs|afs|coda|9p|lustre|lustre_lite|beegfs|gpfs|panfs|ceph|orangefs|pvfs2|glusterfs"
    r"|fuse\.(nfs|sshfs|s3fs|rclone|gcsfuse|goofys|geesefs|juicefs.*|ceph|ceph-fuse|glusterfs|cvmfs2?|moosefs|mfs.*"
    r"|seaweedfs|weed|davfs2?|curlftpfs|smbnetfs|blobfuse2?|mount-s3|mountpoint-s3|hdfs|beegfs|lizardfs.*|onedata.*)"
)


def file_system(path: Path, mounts: str) -> str:
    """The kind of file system of an absolute path, such as `ext4`; `mounts` is the text of the kernel's list.

    If several mounts lie above a path, the nearest one counts; if several are on one folder, the last one. Empty if the
    list has none.
    """
    found = ""
    deepest = -1
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) > 4 and after:  # noqa: PLR2004
            point = Path(_unescaped(fields[4]))
            if path.is_relative_to(point) and len(point.parts) >= deepest:
                deepest = len(point.parts)
                found = after.split()[0]
    return found


def _unescaped(field: str) -> str:
    """A mount point as a plain path: the kernel writes spaces in octal."""
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), field)


def network_file_system(path: Path) -> str | None:
    """The kind of file system of a path if it is a network one; None if it is local or can't be determined."""
    try:
        kind = file_system(path.resolve(), MOUNTS.read_text(errors="surrogateescape"))
    except OSError:  # not Linux
        return None
    return kind if NETWORK.fullmatch(kind) else None


def require_local(state: Path) -> None:
    """Raises RequestError if the state folder is on a network file system."""
    if kind := network_file_system(state):
        raise RequestError(
            f"the state folder {state} is on a network file system ({kind}), which breaks the locks and databases "
            "there: name a folder on a disk of this machine with --state DIR"
        )
