"""Prometheus: exposition that is right with one process and with several, and the buckets that all services share.

With several worker processes each writes into the folder PROMETHEUS_MULTIPROC_DIR, which has to be set before
`prometheus_client` is imported; whoever answers /metrics adds them up. The parent folds the files of workers that ended
into one file of each type.

Invariant: the files are read under a shared lock and folded under an exclusive one, so each count is read once.
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

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody reads

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
VERSION: Final = "0.1.0"

# Seconds: from a quick decode to a publish at the end of its patience.
DURATION_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
# Events in a batch.
BATCH_BUCKETS: Final = (1, 10, 100, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000)

build_info = Gauge(
    "sluice_build_info",
    "Always 1; the labels say what runs",
    ["version", "python"],  # which service it is, the target's own labels say
    multiprocess_mode="max",
)
start_time = Gauge(
    "sluice_start_time_seconds",
    "When the service started, in seconds since 1970; it changes with each restart",
    multiprocess_mode="max",  # 0 in workers: one that is replaced is no restart of the service
)

spans_sampled = Counter("sluice_spans_sampled", "Spans to be exported; 0 where tracing is off")
spans_exported = Counter(
    "sluice_spans_exported", "Spans that the endpoint took; those that are missing after a minute are lost"
)


def record_build_info() -> None:
    """Set sluice_build_info and sluice_start_time_seconds for the service that starts now."""
    build_info.labels(VERSION, platform.python_version()).set(1)
    start_time.set(time.time())


def exposition() -> bytes:
    """The text that Prometheus scrapes: of this process, or of all worker processes together."""
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
    """Fold the files of a worker that ended into those of all that ended before. Its live gauges are gone.

    Raises OSError, such as for a full disk: the files that are left are still read.
    """
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    for path in folder.glob(f"*_{pid}.db"):
        kind = path.name.removesuffix(f"_{pid}.db")
        with _locked(folder, fcntl.LOCK_EX):
            if not kind.startswith("gauge_live"):
                _fold(path, folder / f"{kind}_ended.db", _FOLDS[kind])
            path.unlink()


def _fold(path: Path, ended: Path, fold: Callable[[float, float], float]) -> None:
    sums = _values(ended) if ended.exists() else {}
    for key, value in _values(path).items():
        sums[key] = fold(sums[key], value) if key in sums else value
    new = ended.with_suffix(".new")
    with new.open("wb") as file:
        # Or a full disk would kill this process with SIGBUS where it writes into the mapping.
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
