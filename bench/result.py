"""Save results, and compute percentiles and slopes of samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from core.settings import MEBIBYTE

RESULTS: Final = Path(__file__).parent / "results"


def write(name: str, result: dict[str, Any]) -> None:
    """Save a result as bench/results/<name>.json."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


def kept(name: str) -> dict[str, Any]:
    """The result that is kept; empty if there is none."""
    file = RESULTS / f"{name}.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the sample below which `share` percent of the samples are; 0 without samples."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))] if ordered else 0.0


def flatness(samples: Sequence[int], every_seconds: float) -> dict[str, float]:
    """Return the maximum memory in MB, and the slope in MB per minute of a line fitted to the second half of samples.

    In the first half, a program allocates the memory that its work needs.
    """
    half = samples[len(samples) // 2 :]
    middle = (len(half) - 1) / 2
    spread = sum((number - middle) ** 2 for number in range(len(half)))
    slope = sum((number - middle) * size for number, size in enumerate(half)) / spread if spread else 0.0
    return {
        "max_mb": round(max(samples) / MEBIBYTE, 1),
        "slope_mb_per_minute": round(slope * 60 / every_seconds / MEBIBYTE, 2),
    }
