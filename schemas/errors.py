"""What can go wrong, as one tree; whatever is not in it is a mistake of ours, and shows its traceback.

McgurkError
 +- RequestError      the user's request can't be met: the message names the option, the problem and the remedy
 |   +- MissingError    a file or folder that was named is not there
 +- DataError         stored bytes are not what was written, or not what their name says
 +- OperationalError  the world failed: a host, a server, a disk, a process that was killed
 +- InternalError     a rule of ours does not hold: a mistake in mcgurk that it found itself

Each is also the built-in error that it stands for, so that `except ValueError` in a user's own code goes on to work.
"""

import errno

OF_THE_MACHINE = frozenset(
    {
        errno.EACCES,
        errno.EADDRINUSE,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EPERM,
        errno.EROFS,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)


class McgurkError(Exception):
    """Whatever mcgurk raises for a user to read; never raised itself."""


class RequestError(McgurkError, ValueError):
    """The user's request can't be met."""


class MissingError(RequestError, FileNotFoundError):
    """A file or folder that the user named is not there."""


class DataError(McgurkError, ValueError):
    """Stored bytes are damaged, or are not what their name says."""


class OperationalError(McgurkError, RuntimeError):
    """A host, a server, a disk or a process failed; the same command may work later."""


class InternalError(McgurkError, RuntimeError):
    """A mistake in mcgurk that it found itself: a law that every build holds does not hold."""


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error comes from a disk, a network or missing rights, whatever the operation was."""
    return isinstance(error, OSError) and error.errno in OF_THE_MACHINE
