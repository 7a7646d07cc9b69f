"""Delete the data of the local stack: the files that a stack writes to its folder, and no other files."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Final

from core.settings import MEBIBYTE
from ops.cli.documents import DataDeleted
from ops.cli.output import print_json, print_text
from ops.local.servers import locked

WRITTEN: Final = (
    *("postgres", "postgres.new", "postgres-secret", "nats", "nats-secret", "prometheus", "logs"),
    *("env", "env.new", "demo.json", "publisher.json", "faults.json"),
)


def reset_data(folder: Path, *, as_json: bool) -> None:
    """Delete the data of the local stack and print what was deleted. Raises FolderInUse if a stack runs there."""
    deleted, size = _delete(folder)
    if as_json:
        print_json(DataDeleted(str(folder), deleted, size))
    elif deleted:
        print_text(f"deleted from {folder}: {', '.join(deleted)} ({size / MEBIBYTE:,.0f} MiB)")
    else:
        print_text(f"nothing to delete: {folder} holds no data of a stack")


def _delete(folder: Path) -> tuple[list[str], int]:
    """Delete what a stack wrote; return the names and their size in bytes."""
    if not folder.is_dir():
        return [], 0
    with locked(folder):
        paths = [path for name in WRITTEN if (path := folder / name).exists()]
        size = sum(file.lstat().st_size for path in paths for file in (path, *path.rglob("*")) if not file.is_dir())
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        (folder / "lock").unlink()
    with contextlib.suppress(OSError):  # the folder holds other files
        folder.rmdir()
    return [path.name for path in paths], size
