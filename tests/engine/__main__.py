"""`make compose-check`: build the images and run the real compose files under a real engine.

An engine that runs here is used, with the images of its registry; otherwise root on Debian brings its own (`own.py`).
Where none can run, that is one skipped test; with SLUICE_REQUIRE_TOOLS=1 it is a failure.

    python -m tests.engine [--short] [PYTEST OPTION…]

--short runs what CI can wait for: the image, staging under load, and an upgrade of production under load.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.engine.own import STOP_SECONDS, EngineUnavailable, OwnEngine
from tests.support.compose import ROOT

FOLDER: Final = Path(os.environ.get("SLUICE_ENGINE_FOLDER") or "/var/cache/sluice-engine")
TESTS: Final = Path(__file__).parent
SHORT: Final = "no_secret or as_a_user or staging or healthy_and_the_load or upgrade_loses_nothing"
_STARTED: Final = time.monotonic()


def main(options: Sequence[str]) -> int:
    """Run the check; return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(128 + signal.SIGHUP))
    try:
        if _engine_runs():
            _step("an engine runs here")
            _build(os.environ)
            return _test((), os.environ, options)
        return _check_with_own(options)
    except EngineUnavailable as reason:
        required = os.environ.get("SLUICE_REQUIRE_TOOLS") == "1"
        print(f"compose-check: {reason}", file=sys.stderr)
        print(f"0 passed, {int(required)} failed, {int(not required)} skipped")
        return int(required)


def _check_with_own(options: Sequence[str]) -> int:
    engine = OwnEngine(FOLDER)
    with engine.opened():
        _step(f"engine and compose, in {FOLDER}")
        engine.fetch()
        with engine.running(alone=False):
            _step("base images")
            engine.make_bases()
            _build(engine.client)
        with engine.running(alone=True):
            _clean(engine.client)
            try:
                return _test(engine.inside(), engine.client, options)
            finally:
                _clean(engine.client)
                _step(f"the end; {engine.size_mib()} MiB are kept in {FOLDER} for the next run")


def _engine_runs() -> bool:
    try:
        for command in (("docker", "info"), ("docker", "compose", "version")):
            if subprocess.run(command, capture_output=True, check=False).returncode != 0:
                return False
    except OSError:
        return False
    return True


def _build(environment: Mapping[str, str]) -> None:
    _step("the images")
    subprocess.run(("nice", "make", "images"), cwd=ROOT, env=environment, check=True, stdin=subprocess.DEVNULL)


def _test(prefix: Sequence[str | Path], environment: Mapping[str, str], options: Sequence[str]) -> int:
    _step("tests")
    command = [*prefix, sys.executable, "-m", "pytest", "--durations=5", TESTS, *options]
    process = subprocess.Popen(command, cwd=ROOT, env={**environment, "SLUICE_ENGINE": "1"})
    try:
        return process.wait()
    except BaseException:  # let pytest stop what it has started
        process.send_signal(signal.SIGINT)
        process.wait(STOP_SECONDS)
        raise


def _clean(environment: Mapping[str, str]) -> None:
    """Remove the containers, networks and volumes of the own engine; images and layers stay as a cache."""

    def docker(*words: str) -> str:
        ran = subprocess.run(("docker", *words), env=environment, capture_output=True, text=True, check=False)
        return ran.stdout

    if containers := docker("ps", "--all", "--quiet").split():
        docker("rm", "--force", "--volumes", *containers)
    docker("network", "prune", "--force")
    if volumes := docker("volume", "ls", "--quiet").split():
        docker("volume", "rm", "--force", *volumes)
    docker("image", "prune", "--force")


def _step(name: str) -> None:
    print(f"== {time.monotonic() - _STARTED:.0f} s: {name}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    options = sys.argv[1:]
    sys.exit(main(["-k", SHORT, *options[1:]] if options[:1] == ["--short"] else options))
