"""Parse the headers Accept and Accept-Encoding (RFC 9110, 12.5)."""

from __future__ import annotations

import re
from typing import Final

_QUALITY: Final = re.compile(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)", re.IGNORECASE)


def weights(header: str) -> dict[str, float]:
    """Return the weight (0 to 1) of each name in the header; names are in lower case and without parameters."""
    weight_of: dict[str, float] = {}
    for part in header.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((float(quality[1]) for piece in parameters if (quality := _QUALITY.fullmatch(piece))), 1.0)
        weight_of[name] = max(weight, weight_of.get(name, 0.0))
    return weight_of
