"""The native module: `core/native`, in Rust, for the collector's parser and the gateway's reader.

Invariant: nothing needs it. Whoever uses it asks NOT_BUILT first, and has a Python reference that gives the same.
"""

from __future__ import annotations

from typing import Final

__all__ = ["NOT_BUILT", "BatchReader", "Counts", "Parser"]

_why: str | None = None
try:
    from core._native import BatchReader, Counts, Parser
except ImportError as error:
    _why = f"it is not built, which an install does where there is a Rust toolchain ({error})"

NOT_BUILT: Final = _why
"""Why there is no native module here; None where there is."""
