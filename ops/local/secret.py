"""Secrets of the local stack: each in a file that only its owner can read, generated once.

Invariant: such a file is complete or absent. A secret consists of the letters a to z, so no URL, shell or configuration
needs to quote it.
"""

import os
import secrets
import string
from pathlib import Path

LENGTH = 48  # 225 bits


def keep_secret(path: Path) -> str:
    """Return the secret in `path`; generate it if the file does not exist."""
    if not path.exists():
        new = path.with_name(path.name + ".new")
        new.unlink(missing_ok=True)
        secret = "".join(secrets.choice(string.ascii_lowercase) for _ in range(LENGTH))
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret + "\n")
        new.rename(path)
    return path.read_text().strip()
