"""The native module in Rust, for the collector's parser and the gateway's reader.

Invariant: it is optional. Code that uses it checks NOT_BUILT first and has a Python reference with the same results.
"""

from __future__ import annotations

from typing import Final

__all__ = ["NOT_BUILT", "BatchReader", "Counts", "Parser"]

_why: str | None = None
try:
    from core._native import BatchReader, Counts, Parser
except ImportError as error:
    _why = f"it is not built; an installation with a Rust toolchain builds it ({error})"

NOT_BUILT: Final = _why
"""Why the native module is missing; None if it exists."""
