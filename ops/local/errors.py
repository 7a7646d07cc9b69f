"""What can go wrong when servers and services are run on one machine.

StackError (a SluiceError)
  x PortTaken       a port that was asked for is in use, or is no port
  x FolderInUse     another stack, or a server that a stack left behind, works in the data folder
  x DiskFull        the disk of the data folder has too little room
  x NotInstalled    a server's programs are not on this machine
  x SetupFailed     the data folder could not be made ready for a server
  x StartFailed     a program ended before it was ready, or was not ready in time
  x NotRunning      a program that should be signalled or waited for is down

Each message says what to do about it and can be shown to the operator as it stands.
"""

from core.errors import SluiceError


class StackError(SluiceError):
    """Anything that keeps the local stack from running."""


class PortTaken(StackError):
    """A port that was asked for cannot be had."""


class FolderInUse(StackError):
    """Somebody else works in the data folder."""


class DiskFull(StackError):
    """The disk has too little room for a stack."""


class NotInstalled(StackError):
    """A server's programs are missing."""


class SetupFailed(StackError):
    """The data folder could not be made ready."""


class StartFailed(StackError):
    """A program did not become ready."""


class NotRunning(StackError):
    """A program is down, or not known."""
