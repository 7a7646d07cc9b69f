"""Errors of the local stack.

StackError (a SluiceError)
  x PortTaken       a requested port is in use or is not a port
  x FolderInUse     another stack, or a remaining server of one, uses the data folder
  x DiskFull        the disk of the data folder has too little free space
  x NotInstalled    the programs of a server are not installed
  x SetupFailed     the data folder could not be prepared for a server
  x StartFailed     a program ended before it was ready, or was not ready in time
  x NotRunning      a program is down or unknown

Each message says what happened and what to do.
"""

from core.errors import SluiceError


class StackError(SluiceError):
    """Base of the errors that prevent the local stack from running."""


class PortTaken(StackError):
    """A requested port is not available."""


class FolderInUse(StackError):
    """Another process uses the data folder."""


class DiskFull(StackError):
    """The disk has too little free space for a stack."""


class NotInstalled(StackError):
    """The programs of a server are not installed."""


class SetupFailed(StackError):
    """The data folder could not be prepared."""


class StartFailed(StackError):
    """A program did not become ready."""


class NotRunning(StackError):
    """A program is down or unknown."""
