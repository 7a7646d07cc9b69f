"""What a child process takes on between fork and exec. Linux only.

Invariant: a child gets its death signal when the thread that started it ends, in whatever way: nothing is left
running behind a supervisor that was killed. (The child's own children are its own business.)

PostgreSQL rejects to run as root. Who it runs as instead:

    we are not root ------------------------------> ourselves
    root, user namespaces allowed ----------------> root outside, uid 65534 inside a namespace of its own:
                                                    no other user is involved, the files stay root's
    root, user namespaces forbidden (containers) -> the user "nobody", who is given the data folder
"""

import ctypes
import os
import pwd
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.local.errors import SetupFailed

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
OVERFLOW_ID = 65534  # the id that the kernel itself shows for "some other user"; "nobody" in /etc/passwd

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Identity:
    """Who a child is. `owner` is the (uid, gid) that its files must have, as we see them."""

    owner: tuple[int, int]
    in_namespace: bool = False
    spawn: dict[str, Any] = field(default_factory=dict)  # arguments for subprocess that switch the user


def ourselves() -> Identity:
    """Run as whoever we are."""
    return Identity(owner=(os.geteuid(), os.getegid()))


def unprivileged() -> Identity:
    """Someone other than root, by the first way of the table above that works here."""
    if os.geteuid() != 0:
        return ourselves()
    if namespaces_allowed():
        return Identity(owner=(0, 0), in_namespace=True)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise SetupFailed(
            "PostgreSQL must not run as root, user namespaces are forbidden here and there is no user "
            '"nobody": start as an ordinary user'
        ) from None
    owner = (nobody.pw_uid, nobody.pw_gid)
    return Identity(owner=owner, spawn={"user": owner[0], "group": owner[1], "extra_groups": []})


def namespaces_allowed() -> bool:
    """Whether root may enter a user namespace here, tried out in a short-lived child."""
    pid = os.fork()
    if pid == 0:
        try:
            _enter_namespace()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def entering(identity: Identity, death_signal: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn` that makes the child `identity` and ties its life to the calling thread's."""
    parent = os.getpid()

    def enter() -> None:
        if identity.in_namespace:
            _enter_namespace()
        # After every change of identity, for each of them would clear it.
        if _libc.prctl(PR_SET_PDEATHSIG, int(death_signal)) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != parent:  # it ended before we asked to be told
            os._exit(1)

    return enter


def check_reach(identity: Identity, path: Path) -> None:
    """Raises SetupFailed if `identity`, who is not root even where it has root's files, cannot get to `path`."""
    if identity == ourselves():
        return
    for folder in path.parents:
        status = folder.stat()
        if not (status.st_mode & 0o001 or (status.st_uid == identity.owner[0] and status.st_mode & 0o100)):
            raise SetupFailed(
                f"PostgreSQL must not run as root, and without root's rights it cannot get to {path} through "
                f"{folder}: start as the owner of that folder, or use another place"
            )


def hand_over(folder: Path, owner: tuple[int, int]) -> None:
    """Give `folder` and all in it to `owner` (uid, gid), unless it is theirs. Raises SetupFailed if we may not."""
    status = folder.stat()
    if (status.st_uid, status.st_gid) == owner or (os.geteuid() != 0 and status.st_uid == owner[0]):
        return
    if os.geteuid() != 0:
        raise SetupFailed(f"{folder} belongs to uid {status.st_uid}, not to us: start as that user or remove it")
    for path in folder.rglob("*"):
        os.chown(path, *owner, follow_symlinks=False)
    os.chown(folder, *owner)  # last: a hand-over that broke off is begun again


def _enter_namespace() -> None:
    """Enter a user namespace in which root is uid and gid 65534. Raises OSError where that is forbidden."""
    if _libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for name, content in (
        ("setgroups", "deny"),  # the kernel asks for this before a gid_map
        ("uid_map", f"{OVERFLOW_ID} 0 1"),
        ("gid_map", f"{OVERFLOW_ID} 0 1"),
    ):
        Path("/proc/self", name).write_text(content)
