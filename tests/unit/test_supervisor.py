"""The supervisor, with small real programs: order, readiness, restart, drain, and that nothing is left behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ops.local import Death, Program, Supervisor
from ops.local.errors import NotRunning, StartFailed
from tests.support.processes import ended, python_running

LONG = "sleep 1000 & wait"  # in the background, so that the shell answers signals at once


class Deaths(asyncio.Queue[Death]):
    """What the supervisor reported, to be awaited."""


@pytest.fixture
def deaths() -> Deaths:
    return Deaths()


@pytest.fixture
async def supervisor(tmp_path: Path, deaths: Deaths) -> AsyncIterator[Supervisor]:
    async with Supervisor(tmp_path, deaths.put_nowait) as supervisor:
        yield supervisor


def shell(script: str, name: str = "program", **how: Any) -> Program:
    return Program(name=name, argv=["sh", "-c", script], **how)


def filled(path: Path) -> dict[str, Any]:
    """Readiness by a file that the program writes."""

    def is_filled() -> bool:
        return path.exists() and path.read_text() != ""

    async def is_ready() -> bool:
        return is_filled()

    return {"is_ready": is_ready}


async def test_start_returns_when_the_program_is_ready(supervisor: Supervisor, tmp_path: Path) -> None:
    """`start` does not return before the readiness check has said yes."""
    mark = tmp_path / "mark"
    await supervisor.start(shell(f"sleep 0.1; echo here > {mark}; {LONG}", **filled(mark)))
    assert mark.read_text() == "here\n"


async def test_a_program_that_ends_before_it_is_ready_fails_the_start(supervisor: Supervisor) -> None:
    """The error reports the exit code and the end of the program's log; the program is not kept."""

    async def never() -> bool:
        return False

    with pytest.raises(StartFailed, match=r"(?s)exit code 7 before it was ready.*no room on the disk"):
        await supervisor.start(shell("echo no room on the disk; exit 7", is_ready=never))
    assert supervisor.names == []


async def test_a_program_that_is_not_ready_in_time_is_ended(supervisor: Supervisor, tmp_path: Path) -> None:
    """The error reports the time allowed, and the process is gone."""
    mark = tmp_path / "mark"

    async def never() -> bool:
        return False

    with pytest.raises(StartFailed, match=r"not ready within 0\.2 s"):
        await supervisor.start(shell(f"echo $$ > {mark}; {LONG}", is_ready=never, ready_seconds=0.2))
    await ended(int(mark.read_text()))


async def test_a_killed_program_is_started_again(supervisor: Supervisor, deaths: Deaths) -> None:
    """A death is reported and counted, and another process takes its place."""
    await supervisor.start(shell(LONG))
    killed = supervisor.kill("program")
    assert await supervisor.wait_ready("program", after=killed) != killed
    death = deaths.get_nowait()
    assert death.why == f"pid {killed}, ended by SIGKILL"
    assert death.restarts == supervisor.restarts("program") == 1


async def test_pauses_between_restarts_double(supervisor: Supervisor, deaths: Deaths) -> None:
    """A program that keeps dying is started less and less often."""
    await supervisor.start(shell("sleep 0.02; exit 3"))
    reported = [await deaths.get() for _ in range(4)]
    assert [death.pause_seconds for death in reported] == [0.1, 0.2, 0.4, 0.8]
    assert "exit code 3" in reported[0].why


async def test_a_readiness_check_that_raises_is_reported_and_requested_again(
    supervisor: Supervisor, deaths: Deaths
) -> None:
    """An error while restarting, whatever it is, neither ends the watch nor leaves a process behind."""
    requested: list[int] = []

    async def raises_the_second_time() -> bool:
        requested.append(supervisor.pid("program"))
        if len(requested) == 2:
            raise RuntimeError("a defect")
        return True

    await supervisor.start(shell(LONG, is_ready=raises_the_second_time))
    first = supervisor.kill("program")
    third = await supervisor.wait_ready("program", after=first)
    assert requested == [first, requested[1], third]
    assert [deaths.get_nowait().why for _ in range(2)] == [f"pid {first}, ended by SIGKILL", "a defect"]
    await ended(requested[1])


async def test_what_a_dead_program_started_is_ended(supervisor: Supervisor, tmp_path: Path) -> None:
    """The children of a killed program do not run beside those of the next."""
    mark = tmp_path / "child"
    await supervisor.start(shell(f"sleep 1000 & echo $! > {mark}; wait", **filled(mark)))
    orphan = int(mark.read_text())
    assert orphan in supervisor.pids("program")
    killed = supervisor.kill("program")
    await supervisor.wait_ready("program", after=killed)
    await ended(orphan)


async def test_programs_drain_in_reverse_order(supervisor: Supervisor, tmp_path: Path) -> None:
    """What was started last gets SIGTERM first, and the next one only when it has ended."""
    out = tmp_path / "out"
    for name in ("first", "second", "third"):
        mark = tmp_path / name
        script = f"trap 'sleep 0.05; echo {name} >> {out}; exit 0' TERM; echo . > {mark}; {LONG}"
        await supervisor.start(shell(script, name=name, **filled(mark)))
    await supervisor.close()
    assert out.read_text().split() == ["third", "second", "first"]


async def test_a_program_that_does_not_drain_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    """SIGTERM is ignored, so drain_seconds later comes SIGKILL."""
    mark = tmp_path / "mark"
    script = f"trap '' TERM; echo . > {mark}; sleep 1000"
    await supervisor.start(shell(script, drain_seconds=0.2, **filled(mark)))
    pids = supervisor.pids("program")
    await supervisor.stop("program")
    await ended(*pids)


async def test_stop_signals_are_tried_in_turn(supervisor: Supervisor, tmp_path: Path) -> None:
    """A program that ignores the first stop signal gets the second before it is killed."""
    mark, out = tmp_path / "mark", tmp_path / "out"
    script = f"trap '' TERM; trap 'echo second > {out}; exit 0' USR1; echo . > {mark}; {LONG}"
    signals = (signal.SIGTERM, signal.SIGUSR1)
    await supervisor.start(shell(script, drain_seconds=2, stop_signals=signals, **filled(mark)))
    await supervisor.stop("program")
    assert out.read_text() == "second\n"


async def test_a_stopped_program_stays_down_until_it_is_started_again(supervisor: Supervisor, deaths: Deaths) -> None:
    """An outage made by `stop` is no death: nothing restarts the program but `start_again`."""
    await supervisor.start(shell(LONG))
    before = supervisor.pid("program")
    await supervisor.stop("program", signal.SIGKILL)
    with pytest.raises(NotRunning, match="program is down"):
        supervisor.kill("program")
    assert supervisor.pids("program") == []
    await supervisor.start_again("program")
    assert supervisor.pid("program") != before
    assert deaths.empty()


async def test_waiting_for_what_does_not_come_back_ends_in_time(supervisor: Supervisor) -> None:
    """`wait_ready` raises an error that names the program."""
    await supervisor.start(shell(LONG))
    with pytest.raises(NotRunning, match=r"program was not ready within 0\.1 s"):
        await supervisor.wait_ready("program", after=supervisor.pid("program"), seconds=0.1)


async def test_nothing_outlives_a_killed_supervisor() -> None:
    """kill -9 of the process that supervises ends what it started."""
    script = """
import asyncio
from ops.local import Program, Supervisor

async def main():
    supervisor = Supervisor()
    for name in ("a", "b"):
        await supervisor.start(Program(name=name, argv=["sleep", "1000"]))
        print(supervisor.pid(name), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    with python_running(script) as above:
        assert above.stdout is not None
        pids = [int(above.stdout.readline()) for _ in range(2)]
        for pid in pids:
            os.kill(pid, 0)  # they run
        above.kill()
    await ended(*pids)
