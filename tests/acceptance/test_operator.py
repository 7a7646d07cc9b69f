"""The operator's commands on a running system: doctor finds what is broken, and the command that it names fixes it."""

import asyncio
import json
import os
import re
import shlex
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest
from nats.js.api import StreamConfig

from core import postgres
from core.errors import SluiceError
from core.jetstream import stream_info
from core.postgres import Connection
from core.settings import load
from ops.cli.connection import published_locally
from ops.doctor import doctor
from ops.doctor.checks import CheckResult
from ops.doctor.server_checks import NEEDS
from ops.local.flow import Flow
from ops.local.nats import Nats
from ops.local.ports import free_port
from ops.local.up import variables
from ops.settings import OperatorSettings
from tests.support.events import facebook, tiktok
from tests.support.operator import ended, ops, ops_json, start
from tests.support.processes import ROOT
from tests.support.system import System
from tests.support.tools import require_tool
from tests.support.waiting import eventually

Capsys = pytest.CaptureFixture[str]
Owner: TypeAlias = Connection
LAG_SECONDS = 30.0


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """Small streams, and one worker."""
    return {"GATEWAY_WORKERS": "1", "STREAM_MAX_BYTES": str(1 << 30), "REJECTED_STREAM_MAX_BYTES": str(1 << 28)}


@pytest.fixture
def operator_settings(system: System, settings: dict[str, str]) -> OperatorSettings:
    """What `ops up` reports of this system."""
    return load(OperatorSettings, variables(system.servers, system.services, settings))


@pytest.fixture
async def owner(system: System) -> AsyncIterator[Owner]:
    """A connection of the owner's."""
    connection = await postgres.connect(system.servers.owner_dsn, name="tests")
    yield connection
    await connection.close()


async def wrong(operator_settings: OperatorSettings, lag_seconds: float = LAG_SECONDS) -> dict[str, CheckResult]:
    """What doctor finds not to be ok."""
    return {
        check.check: check
        for check in await doctor.run_checks(operator_settings, lag_seconds, [])
        if check.state != "ok"
    }


async def fixed(operator_settings: OperatorSettings, capsys: Capsys, check: CheckResult, *more: str) -> None:
    """Run the command that a check names; it succeeds, and all is well."""
    arguments = shlex.split(check.fix[check.fix.index("sluice ") :])[1:]
    code, said = await ops(operator_settings, capsys, *arguments, *more)
    assert code == 0, said
    assert await wrong(operator_settings) == {}


async def test_all_is_well(system: System, operator_settings: OperatorSettings, capsys: Capsys) -> None:
    """Every check is ok on a system that works, while events come in; for people and for programs; exit code 0."""
    await system.post([facebook(), tiktok()])
    code, said = await ops(operator_settings, capsys, "doctor")
    assert (code, said.splitlines()[-1]) == (0, "all checks are ok"), said
    code, document = await ops_json(operator_settings, capsys, "doctor")
    assert (code, document["ok"]) == (0, True)
    names = [check["check"] for check in document["checks"]]
    assert len(names) == len(set(names)) == 28


async def test_nothing_answers(operator_settings: OperatorSettings, capsys: Capsys) -> None:
    """Without a single server each is named, no check is passed over as ok, and no command ends in a traceback."""
    nowhere = {name: f"http://127.0.0.1:{free_port()}" for name in ("GATEWAY_URL", "REPORTER_URL", "NATS_MONITOR_URL")}
    nats, dsn = f"nats://127.0.0.1:{free_port()}", f"postgresql://o:secret@127.0.0.1:{free_port()}/sluice"
    away = load(OperatorSettings, {**nowhere, "NATS_URL": nats, "SLUICE_MIGRATE_DSN": dsn})
    found = {name: check.state for name, check in (await wrong(away)).items()}
    states = {"NATS": "wrong", "PostgreSQL": "wrong", "gateway": "wrong", "reporter": "wrong"}
    assert found == states | dict.fromkeys(NEEDS, "unknown")
    code, said, errors = await ended(await start(away, "dead-letters", "list"))
    assert (code, said) == (1, "")
    assert errors.startswith("sluice: PostgreSQL at 127.0.0.1:")
    assert "SLUICE_MIGRATE_DSN" in errors
    assert "secret" not in errors
    assert "Traceback" not in errors


async def test_services_that_are_down(system: System, operator_settings: OperatorSettings) -> None:
    """A gateway, a reporter and a collector that do not run are named; started again, all is well."""
    for name, check in (("gateway", "gateway"), ("reporter", "reporter"), ("rejected-collector", "collectors")):
        await system.supervisor.stop(name)

        async def found(check: str = check) -> bool:
            return check in await wrong(operator_settings)

        await eventually(found, what=f"doctor misses {name}", seconds=60, every=0.3)
        await system.supervisor.start_again(name)
        assert await wrong(operator_settings) == {}


@pytest.mark.parametrize("name", ["NATS", "PostgreSQL"])
async def test_a_frozen_server_is_the_only_cause(
    system: System, operator_settings: OperatorSettings, settings: dict[str, str], tmp_path: Path, name: str
) -> None:
    """Of a server that does not answer any more, doctor names that server alone as a cause, with log and runbook, and
    folds what follows from it; `make up` shows in its state column that it does not answer."""
    program = {"NATS": "nats", "PostgreSQL": "postgres"}[name]
    (tmp_path / ".sluice").symlink_to(system.servers.folder)
    flow = Flow(system.supervisor, system.services, system.servers)
    assert (await flow.sample()).states[program] == "ready"
    pids = system.supervisor.pids(program)
    with published_locally(system.servers.folder, variables(system.servers, system.services, settings)):
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            here = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
            doctor = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ops", "doctor"), cwd=tmp_path, env=here, stdout=PIPE, stderr=PIPE
            )
            code, said, errors = await ended(doctor)
            states = (await flow.sample()).states
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
    assert (code, errors) == (1, "")
    assert said.splitlines()[0].split()[:2] == ["wrong", name], said
    assert [line.split()[1] for line in said.splitlines() if line.startswith(("wrong", "unknown"))] == [name], said
    assert f"log: .sluice/logs/{program}.log" in said
    (runbook,) = re.findall(r"runbook: (\S+)", said)
    assert (ROOT / runbook).is_file()
    assert "or a consequence: " in said
    assert "1 check not ok" in said
    assert states[program] == "does not answer"

    async def well() -> bool:
        return not await wrong(operator_settings)

    await eventually(well, what="all is well again", seconds=60, every=0.3)


async def test_partitions_ahead(operator_settings: OperatorSettings, capsys: Capsys, owner: Connection) -> None:
    """A day that lacks its partition is named, and made by the command that is named."""
    day = await owner.fetchval("SELECT ((now() AT TIME ZONE 'UTC')::date + 3)::date")
    await owner.execute(f"DROP TABLE tiktok_events_{day:%Y%m%d}")
    check = (await wrong(operator_settings))["partitions"]
    assert check.message == f"tiktok_events has no partition for {day}"
    await fixed(operator_settings, capsys, check)


async def test_streams_drift(system: System, operator_settings: OperatorSettings, capsys: Capsys) -> None:
    """A stream that is not as declared is named with what differs, and made so by the command that is named."""
    js = system.client.jetstream()
    config: StreamConfig = (await js.stream_info("EVENTS_TIKTOK")).config
    config.max_bytes = 1 << 29
    await js.update_stream(config)
    check = (await wrong(operator_settings))["streams"]
    assert check.message == f"EVENTS_TIKTOK max_bytes is {1 << 29}, declared {1 << 30}"
    await fixed(operator_settings, capsys, check, "--yes")


async def test_pause_resume_drain(system: System, operator_settings: OperatorSettings, capsys: Capsys) -> None:
    """A paused source keeps what comes in, over restarts of collector and NATS, and is reported; other sources go
    on."""
    assert (await ops(operator_settings, capsys, "pause", "facebook"))[0] == 0
    await system.post([facebook(), tiktok()])
    assert (await ops(operator_settings, capsys, "drain", "--source", "tiktok"))[0] == 0
    with pytest.raises(SluiceError, match="facebook is paused"):
        await ops(operator_settings, capsys, "drain")
    await system.supervisor.wait_ready("nats", after=system.supervisor.kill("nats"))
    await system.supervisor.stop("fb-collector")
    await system.supervisor.start_again("fb-collector")

    async def shown() -> bool:
        metrics = await system.http.get(f"http://127.0.0.1:{system.services.ports['fb-collector']}/metrics")
        return 'collector_paused{source="facebook"} 1.0' in metrics.text

    await eventually(shown, what="the collector shows the pause", seconds=60)
    assert (await stream_info(system.client, "EVENTS_FACEBOOK")).state.messages == 1
    found = await wrong(operator_settings, lag_seconds=0)
    assert found.keys() == {"paused", "lag"}
    assert "EVENTS_FACEBOOK: 1 message waiting" in found["lag"].message
    assert (await ops(operator_settings, capsys, *shlex.split(found["paused"].fix)[1:]))[0] == 0
    assert (await ops(operator_settings, capsys, "drain"))[0] == 0
    assert (await stream_info(system.client, "EVENTS_FACEBOOK")).state.messages == 0
    assert await wrong(operator_settings) == {}


async def test_a_deleted_streams_loss_is_reported(
    system: System, operator_settings: OperatorSettings, capsys: Capsys
) -> None:
    """What waited in a stream that somebody deleted is reported, until somebody says that it is known."""
    await ops(operator_settings, capsys, "pause", "facebook")
    async with httpx.AsyncClient() as http:  # behind the oracle's back: these are lost
        for _ in range(3):
            assert (await http.post(system.services.endpoint, json=[facebook()])).status_code == 202

        async def seen() -> bool:
            last = (
                "SELECT last_sequence FROM stream_lives WHERE stream = 'EVENTS_FACEBOOK' ORDER BY created DESC LIMIT 1"
            )
            ((noted,),) = await system.select(last)
            return bool(noted == (await stream_info(system.client, "EVENTS_FACEBOOK")).state.last_seq)

        await eventually(seen, what="a collector has seen the messages", seconds=30)
        await system.client.jetstream().delete_stream("EVENTS_FACEBOOK")
    await system.post([facebook()])
    await system.until_stored()

    async def collected() -> bool:
        return (await wrong(operator_settings)).keys() == {"lost"}

    await eventually(collected, what="all but the loss is well again", seconds=60, every=0.3)
    check = (await wrong(operator_settings))["lost"]
    assert check.message.startswith("EVENTS_FACEBOOK: at least 3 messages deleted before they were stored")
    await fixed(operator_settings, capsys, check, "--yes")
    _, document = await ops_json(operator_settings, capsys, "doctor")
    (lost,) = (check for check in document["checks"] if check["check"] == "lost")
    assert lost["message"] == "no message is lost, besides 3 messages that an operator accepted as lost"


async def test_a_schema_that_is_not_there(system: System, operator_settings: OperatorSettings, capsys: Capsys) -> None:
    """An empty database is reported, and migrated by the command that is named."""
    superuser = await postgres.connect(system.servers.dsn("postgres", "postgres"), name="tests")
    await superuser.execute("CREATE DATABASE t_doctor OWNER sluice_owner")
    await superuser.close()
    dsn = system.servers.dsn("sluice_owner", "t_doctor")
    empty = load(OperatorSettings, {"NATS_URL": operator_settings.nats_url, "SLUICE_MIGRATE_DSN": dsn})
    found = await wrong(empty)
    assert found["schema"].message == "the database has no schema"
    assert found["partitions"].state == found["ledger"].state == "unknown"
    assert (await ops(empty, capsys, *shlex.split(found["schema"].fix)[1:]))[0] == 0
    assert "schema" not in await wrong(empty)


async def test_fsync_of_postgresql(system: System, operator_settings: OperatorSettings) -> None:
    """A database that confirms what is not on disk is reported, and the statements that are named fix it."""
    superuser = await postgres.connect(system.servers.dsn("postgres"), name="tests")

    async def reported(wanted: bool) -> None:
        async def is_so() -> bool:
            return ("PostgreSQL fsync" in await wrong(operator_settings)) is wanted

        await eventually(is_so, what=f"doctor reports of fsync: {wanted}", seconds=30)

    try:
        await superuser.execute("ALTER SYSTEM SET fsync = off")
        await superuser.execute("SELECT pg_reload_conf()")
        await reported(True)
        check = (await wrong(operator_settings))["PostgreSQL fsync"]
        assert check.message == "fsync is off: a crash may lose commits"
        for statement in shlex.split(check.fix)[5::2]:
            await superuser.execute(statement)
        await reported(False)
    finally:
        await superuser.execute("ALTER SYSTEM RESET fsync")
        await superuser.execute("SELECT pg_reload_conf()")
        await superuser.close()


@pytest.mark.parametrize("of", ["ROLE sluice_collector", "ROLE sluice_owner IN DATABASE sluice", "DATABASE sluice"])
async def test_a_harmful_setting_of_a_role(system: System, operator_settings: OperatorSettings, of: str) -> None:
    """Doctor names it and the role or database, and its statement resets it. Reporters may have any."""
    superuser = await postgres.connect(system.servers.dsn("postgres"), name="tests")
    try:
        await superuser.execute(f"ALTER {of} SET synchronous_commit = off")
        await superuser.execute("ALTER ROLE sluice_reporter SET synchronous_commit = off")
        check = (await wrong(operator_settings))["PostgreSQL settings"]
        assert "synchronous_commit is off, a crash may lose commits" in check.message
        assert check.message.count("synchronous_commit") == 1
        await superuser.execute(check.fix.removeprefix("as a superuser: "))
        assert await wrong(operator_settings) == {}
    finally:
        await superuser.execute(f"ALTER {of} RESET ALL")
        await superuser.execute("ALTER ROLE sluice_reporter RESET ALL")
        await superuser.close()


async def test_fsync_of_nats(system: System, operator_settings: OperatorSettings, tmp_path: Path) -> None:
    """A NATS that confirms before it has written is reported."""
    lazy = Nats(tmp_path, free_port(), free_port(), sync_always=False)
    program = lazy.program()
    await system.supervisor.start(type(program)(**{**vars(program), "name": "lazy-nats"}))
    try:
        monitored = load(OperatorSettings, {**_variables(operator_settings), "NATS_MONITOR_URL": lazy.monitor_url})
        assert (await wrong(monitored))["NATS fsync"].message == "NATS confirms messages before they are on disk"
    finally:
        await system.supervisor.stop("lazy-nats")


async def test_a_disk_that_is_full(operator_settings: OperatorSettings, tmp_path: Path) -> None:
    """A file system without room is reported, with what is left."""
    require_tool("unshare")
    script = 'mount -t tmpfs -o size=1m none "$0" && head -c 1000000 /dev/zero > "$0/full"; exec "$@"'
    argv = ("unshare", "--map-root-user", "--mount", "sh", "-c", script, str(tmp_path))
    process = await start(operator_settings, "doctor", "--format", "json", "--disk", str(tmp_path), through=argv)
    code, said, errors = await ended(process)
    assert code == 1, errors
    disks = [check for check in json.loads(said)["checks"] if check["check"] == "disk"]
    assert [check["state"] for check in disks if str(tmp_path) in check["message"]] == ["wrong"]


def _variables(operator_settings: OperatorSettings) -> dict[str, str]:
    return {"NATS_URL": operator_settings.nats_url, "SLUICE_MIGRATE_DSN": operator_settings.sluice_migrate_dsn or ""}
