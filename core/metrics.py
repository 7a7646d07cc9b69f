"""Prometheus metrics: exposition for one process or several, and the buckets that all services share.

With several workers, each writes files into the folder PROMETHEUS_MULTIPROC_DIR, which must be set before
`prometheus_client` is imported. The process that answers /metrics adds them up. The parent merges the files of ended
workers into one file of each type.

Invariant: files are read under a shared lock and merged under an exclusive one, so each count is read once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.mmap_dict import MmapedDict

disable_created_metrics()  # type: ignore[no-untyped-call]  # no second series for each counter

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
VERSION: Final = "0.1.0"

# In seconds, from a fast decode to a publish that times out.
DURATION_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
# Events in a batch.
BATCH_BUCKETS: Final = (1, 10, 100, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000)

build_info = Gauge(
    "sluice_build_info",
    "Always 1; the labels have the versions",
    ["version", "python"],  # the service is in the labels of the scrape target
    multiprocess_mode="max",
)
start_time = Gauge(
    "sluice_start_time_seconds",
    "Start time of the service in seconds since 1970; it changes with each restart",
    multiprocess_mode="max",  # 0 in workers: a replaced worker is not a restart of the service
)

spans_sampled = Counter("sluice_spans_sampled", "Spans to export; 0 if tracing is off")
spans_exported = Counter(
    "sluice_spans_exported", "Spans that the endpoint accepted; spans missing after a minute are lost"
)


def record_build_info() -> None:
    """Set sluice_build_info and sluice_start_time_seconds for the service that starts now."""
    build_info.labels(VERSION, platform.python_version()).set(1)
    start_time.set(time.time())


def exposition() -> bytes:
    """Return the text for a Prometheus scrape: of this process, or of all worker processes together."""
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        with _locked(Path(folder), fcntl.LOCK_SH):
            return generate_latest(registry)
    return generate_latest(REGISTRY)


_FOLDS: Final[dict[str, Callable[[float, float], float]]] = {
    "counter": float.__add__,
    "histogram": float.__add__,
    "gauge_max": max,
}


def fold_ended(pid: int) -> None:
    """Merge the files of an ended worker into those of all ended workers. Its live gauges are removed.

    Raises OSError, for example for a full disk; the remaining files are still read.
    """
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    for path in folder.glob(f"*_{pid}.db"):
        metric_type = path.name.removesuffix(f"_{pid}.db")
        with _locked(folder, fcntl.LOCK_EX):
            if not metric_type.startswith("gauge_live"):
                _fold(path, folder / f"{metric_type}_ended.db", _FOLDS[metric_type])
            path.unlink()


def _fold(path: Path, ended: Path, fold: Callable[[float, float], float]) -> None:
    sums = _values(ended) if ended.exists() else {}
    for key, value in _values(path).items():
        sums[key] = fold(sums[key], value) if key in sums else value
    new = ended.with_suffix(".new")
    with new.open("wb") as file:
        # Otherwise a full disk would kill this process with SIGBUS when it writes to the mapping.
        os.posix_fallocate(file.fileno(), 0, max(one.stat().st_size for one in (path, ended) if one.exists()))
    values = MmapedDict(str(new))  # type: ignore[no-untyped-call]
    for key, value in sums.items():
        values.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    values.close()  # type: ignore[no-untyped-call]
    new.replace(ended)


def _values(path: Path) -> dict[str, float]:
    read = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    return {key: value for key, value, _, _ in read}


@contextlib.contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, how)
        yield
