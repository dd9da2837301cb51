"""The errors that can occur, as one tree; any other error is a bug of ours and shows its traceback.

McgurkError
 +- RequestError      the user's request can't be met: the message names the option, the problem and the remedy
 |   +- MissingError    a file or folder that was named does not exist
 +- DataError         stored bytes are not what was written, or are not what their name says
 +- OperationalError  something outside mcgurk failed: a host, a server, a disk, a process that was killed
 +- InternalError     one of our own rules is broken: a bug in mcgurk that it found itself

Each is also the built-in error that it stands for, so that `except ValueError` in a user's own code still works.
"""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
OF_THE_MACHINE = frozenset(
    {
        *FULL,
        *DENIED,
        errno.EADDRINUSE,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EFBIG,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)


class McgurkError(Exception):
    """Base of every error that mcgurk raises for a user to read; never raised itself."""


class RequestError(McgurkError, ValueError):
    """The user's request can't be met."""


class MissingError(RequestError, FileNotFoundError):
    """A file or folder that the user named does not exist."""


class DataError(McgurkError, ValueError):
    """Stored bytes are damaged, or are not what their name says."""


class OperationalError(McgurkError, RuntimeError):
    """A host, a server, a disk or a process failed; the same command may work later."""


class InternalError(McgurkError, RuntimeError):
    """A bug in mcgurk that it found itself: a rule that holds for every build is broken."""


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error comes from a disk, a network or missing rights, whatever the operation was."""
    return isinstance(error, OSError) and error.errno in OF_THE_MACHINE
