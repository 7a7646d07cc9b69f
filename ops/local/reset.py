"""Delete the data of the local stack: what a stack writes into its folder, and nothing else that is there."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Final

from ops.local.servers import locked

WRITTEN: Final = (
    *("postgres", "postgres.new", "postgres-secret", "nats", "nats-secret", "prometheus", "logs"),
    *("env", "env.new", "demo.json", "publisher.json", "faults.json"),
)


def reset_data(folder: Path) -> str:
    """Delete it; what was deleted, in words. Raises FolderInUse while a stack runs in the folder."""
    if not folder.is_dir():
        return f"{folder} does not exist: nothing to delete\n"
    with locked(folder):
        found = [path for name in WRITTEN if (path := folder / name).exists()]
        size = sum(file.lstat().st_size for path in found for file in (path, *path.rglob("*")) if not file.is_dir())
        for path in found:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        (folder / "lock").unlink()
    with contextlib.suppress(OSError):  # something else is in it
        folder.rmdir()
    names = ", ".join(path.name for path in found)
    return f"deleted from {folder}: {names} ({size / 1024**2:,.0f} MiB)\n" if found else f"{folder} holds no data\n"
