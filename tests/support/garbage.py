"""What is left for Python's cyclic collector, which services let run rarely: an error among it holds frames, and what
stands in them."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_left_behind() -> Iterator[list[Exception]]:
    """At the end of the block the list has the errors that no one holds any more and that only the collector frees.

    A task that was cancelled is no error.
    """
    left: list[Exception] = []
    gc.collect()
    gc.disable()
    try:
        yield left
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left += [found for found in gc.garbage if isinstance(found, Exception)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
