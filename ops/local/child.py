"""Set user and death signal of a child process between fork and exec. Linux only.

Invariant: a child gets its death signal when the thread that started it ends. So no child outlives a killed supervisor.
This does not include children of the child.

PostgreSQL does not run as root. It runs as this user instead:

    this process is not root ----------------------> the same user
    root, user namespaces allowed -----------------> uid 65534 inside its own namespace, root outside:
                                                     the files still belong to root
    root, user namespaces forbidden (containers) --> the user "nobody", which gets the data folder
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
OVERFLOW_ID = 65534  # the id that the kernel shows for unmapped users; "nobody" in /etc/passwd

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Identity:
    """The user of a child. `owner` is the (uid, gid) of its files outside the namespace."""

    owner: tuple[int, int]
    in_namespace: bool = False
    spawn: dict[str, Any] = field(default_factory=dict)  # arguments for subprocess that switch the user


def current_user() -> Identity:
    """Return the user of this process."""
    return Identity(owner=(os.geteuid(), os.getegid()))


def unprivileged() -> Identity:
    """Return a user other than root: the first of the table above that is possible."""
    if os.geteuid() != 0:
        return current_user()
    if namespaces_allowed():
        return Identity(owner=(0, 0), in_namespace=True)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise SetupFailed(
            "PostgreSQL does not run as root, user namespaces are forbidden, and there is no user "
            '"nobody": start as an ordinary user'
        ) from None
    owner = (nobody.pw_uid, nobody.pw_gid)
    return Identity(owner=owner, spawn={"user": owner[0], "group": owner[1], "extra_groups": []})


def namespaces_allowed() -> bool:
    """Return whether root may enter a user namespace, by a try in a short-lived child."""
    pid = os.fork()
    if pid == 0:
        try:
            _enter_namespace()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def entering(identity: Identity, death_signal: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` that sets the user of the child and its death signal."""
    parent = os.getpid()

    def enter() -> None:
        if identity.in_namespace:
            _enter_namespace()
        # After the change of the user, because that clears the death signal.
        if _libc.prctl(PR_SET_PDEATHSIG, int(death_signal)) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != parent:  # the parent ended before prctl
            os._exit(1)

    return enter


def check_reach(identity: Identity, path: Path) -> None:
    """Raise SetupFailed if the user `identity` cannot access `path`."""
    if identity == current_user():
        return
    for folder in path.parents:
        status = folder.stat()
        if not (status.st_mode & 0o001 or (status.st_uid == identity.owner[0] and status.st_mode & 0o100)):
            raise SetupFailed(
                f"PostgreSQL does not run as root, and an ordinary user cannot access {path} through {folder}: "
                "start as the owner of that folder, or set SLUICE_FOLDER to another folder"
            )


def hand_over(folder: Path, owner: tuple[int, int]) -> None:
    """Change the owner of `folder` and its contents to (uid, gid). Raises SetupFailed if that is not permitted."""
    status = folder.stat()
    if (status.st_uid, status.st_gid) == owner or (os.geteuid() != 0 and status.st_uid == owner[0]):
        return
    if os.geteuid() != 0:
        raise SetupFailed(f"{folder} belongs to uid {status.st_uid}: start as that user, or remove the folder")
    for path in folder.rglob("*"):
        os.chown(path, *owner, follow_symlinks=False)
    os.chown(folder, *owner)  # last, so that an interrupted change is repeated


def _enter_namespace() -> None:
    """Enter a user namespace in which root is uid and gid 65534. Raises OSError if that is forbidden."""
    if _libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for name, content in (
        ("setgroups", "deny"),  # the kernel requires this before a gid_map
        ("uid_map", f"{OVERFLOW_ID} 0 1"),
        ("gid_map", f"{OVERFLOW_ID} 0 1"),
    ):
        Path("/proc/self", name).write_text(content)
