"""Find the ends of array elements or objects by brackets and strings alone, without parsing values.

Invariant: at most CAREFUL_BYTES are read between two marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

CAREFUL_BYTES: Final = 8 * 1024  # scanned at a time; at worst every byte is a step

_TO_TOKEN: Final = re.compile(rb'[^"\[\]{},]*+')
# Inside an element: skip everything except brackets, and skip strings that end within the piece.
_TO_BRACKET: Final = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+', re.DOTALL)
_TO_QUOTE: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_OPENING: Final = re.compile(rb"[\[{]++")
_QUOTE, _BACKSLASH, CLOSE_ARRAY, _CLOSE_OBJECT = b'"\\]}'


def marks(content: bytes, at: int, *, of_array: bool = True) -> Iterator[int]:
    """Yield the positions at which elements end.

    They are commas and the bracket that closes the array; with of_array=False, brackets that close an object. Yield -1
    after each CAREFUL_BYTES of work.
    """
    depth = 0
    in_string = False
    outside = _TO_TOKEN if of_array else _TO_BRACKET
    while at < len(content):
        stop = min(at + CAREFUL_BYTES, len(content))
        while at < stop:
            at = _end(_TO_QUOTE if in_string else outside if not depth else _TO_BRACKET, content, at, stop)
            if at >= stop:
                break
            token = content[at]
            if in_string and token == _BACKSLASH:  # the escaped byte is past the stop
                at += 2
                continue
            if token == _QUOTE:
                in_string = not in_string
            elif token in b"[{":
                after = _end(_OPENING, content, at, stop)
                depth += after - at
                at = after
                continue
            elif depth:
                depth -= 1
                if not (depth or of_array):
                    yield at
            elif of_array and token != _CLOSE_OBJECT:  # this bracket closes nothing: it is part of an invalid element
                yield at
            at += 1
        yield -1


def _end(pattern: re.Pattern[bytes], content: bytes, at: int, stop: int) -> int:
    match = pattern.match(content, at, stop)
    return match.end() if match else at
