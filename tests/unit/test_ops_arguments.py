"""The operator's command line: what it takes, and which system it looks at. Nothing here is connected."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.errors import Misconfigured
from ops.cli.connection import operator_settings, published_locally, read_local, where
from ops.command_line import command_line
from ops.dead_letters.options import selection
from ops.dead_letters.replay import Pace
from ops.doctor.checks import clock

LOCAL = {"NATS_URL": "nats://127.0.0.1:1111", "SLUICE_MIGRATE_DSN": "postgresql://o:secret@127.0.0.1:2222/sluice"}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """The folder of a stack that runs, as far as its lock reports, and has reported its addresses."""
    with (tmp_path / "lock").open("w") as lock, published_locally(tmp_path, LOCAL):
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path


def test_a_local_stack_is_found(running: Path) -> None:
    """Where the environment names no system, the stack that runs here is meant; its file is no one else's to read."""
    found = operator_settings({}, running)
    assert (found.nats_url, found.sluice_migrate_dsn) == tuple(LOCAL.values())
    assert (running / "env").stat().st_mode & 0o777 == 0o600


def test_systems_are_never_mixed(running: Path) -> None:
    """One variable in the environment is enough: nothing of the local stack is taken then."""
    found = operator_settings({"NATS_URL": "nats://staging:4222"}, running)
    assert (found.nats_url, found.sluice_migrate_dsn) == ("nats://staging:4222", None)
    (running / "dsn").write_text("postgresql://x@staging/sluice")
    found = operator_settings({"SLUICE_MIGRATE_DSN_FILE": str(running / "dsn")}, running)
    assert found.nats_url == "nats://127.0.0.1:4222"


def test_a_stack_that_was_killed_is_not_believed(tmp_path: Path) -> None:
    """Its file may lie there, but no one holds the lock: its ports may be anyone's."""
    (tmp_path / "lock").touch()
    with published_locally(tmp_path, LOCAL):
        assert read_local(tmp_path) is None
    assert not (tmp_path / "env").exists()


def test_no_secret_is_reported() -> None:
    """What is said of an address has neither user nor password."""
    assert where("nats://u:secret@a:1,nats://u:secret@b:2") == "a:1, b:2"


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("2026-11-23T05:00:00Z", datetime(2026, 11, 23, 5, tzinfo=UTC), datetime(2026, 11, 23, 5, tzinfo=UTC)),
        ("2026-11-23t06:00:00+0100", datetime(2026, 11, 23, 5, tzinfo=UTC), datetime(2026, 11, 23, 5, tzinfo=UTC)),
        (
            "2026-11-23T05:00:00.123456789z",
            datetime(2026, 11, 23, 5, 0, 0, 123_456, tzinfo=UTC),
            datetime(2026, 11, 23, 5, 0, 0, 123_456, tzinfo=UTC),
        ),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)),
        ("2h", datetime.now(UTC) - timedelta(hours=2), datetime.now(UTC) - timedelta(hours=1)),
    ],
)
def test_when(text: str, least: datetime, most: datetime) -> None:
    """An instant, a day in UTC, or how long ago."""
    options = command_line().parse_args(["dead-letters", "list", "--since", text])
    assert least <= selection(options).since <= most  # type: ignore[operator]


@pytest.mark.parametrize(
    "arguments",
    [
        "dead-letters", "dead-letters list --since soon", "dead-letters show 17", "dead-letters show dead-x",
        "dead-letters list --source twitter", "dead-letters list --reason nonsense",
        "dead-letters replay --all --rate 0", "pause", "pause twitter", "partitions drop",
        "partitions drop --older-than never", "drain --timeout -1", "doctor --format xml", "dance",
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_code_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What makes no sense is rejected before anything is connected, and says what would."""
    with pytest.raises(SystemExit) as ended:
        command_line().parse_args(arguments.split())
    assert ended.value.code == 2
    assert "usage: sluice" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["replay", "discard"])
def test_all_dead_letters_are_never_meant_by_accident(action: str) -> None:
    """Without a name or a condition --all is needed."""
    with pytest.raises(Misconfigured, match="select dead letters by ID"):
        selection(command_line().parse_args(["dead-letters", action]))
    assert selection(command_line().parse_args(["dead-letters", action, "--all"])).is_empty
    assert not selection(command_line().parse_args(["dead-letters", action, "dead-1"])).is_empty


def test_a_pace_is_held() -> None:
    """A count of n a second waits until all before it have had their time, and time that was not used is gone."""
    now = 100.0
    pace = Pace(50, clock=lambda: now)
    assert pace.wait_seconds(25) == 0
    assert pace.wait_seconds(50) == 0.5
    now = 100.5
    assert pace.wait_seconds(10) == 1.0
    now = 200.0
    assert pace.wait_seconds(50) == 0
    assert pace.wait_seconds(1) == 1.0


@pytest.mark.parametrize(("skew", "state"), [(0.5, "ok"), (-1.9, "ok"), (3.0, "wrong"), (-3600.0, "wrong")])
def test_clocks_that_differ(skew: float, state: str) -> None:
    """Two seconds are forgiven; more is reported with the server and the direction."""
    ours = datetime(2026, 11, 23, tzinfo=UTC)
    check = clock(ours, {"NATS": ours, "PostgreSQL": ours + timedelta(seconds=skew)})
    assert check.state == state
    if state == "wrong":
        assert "PostgreSQL is 3.0 s ahead of" in check.message or "PostgreSQL is 3600.0 s behind" in check.message
        assert "NATS is" not in check.message
