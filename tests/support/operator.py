"""Operators' commands for tests: run in this process, or as a program that can be killed.

code, said = await ops(settings, capsys, "dead-letters", "list")
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from types import UnionType
from typing import Any, get_args

import msgspec
import pytest

from ops.command_line import command_line
from ops.local.ports import free_port
from ops.settings import OperatorSettings
from tests.support.processes import ROOT


def operator(nats_url: str, owner_dsn: str, **settings: Any) -> OperatorSettings:
    """Settings of these servers; where nothing else is said, no service is there."""
    nowhere = {name: f"http://127.0.0.1:{free_port()}" for name in ("gateway_url", "reporter_url", "nats_monitor_url")}
    # Streams of this size fit many times into a test's disk.
    sizes = {"stream_max_bytes": 1 << 30, "rejected_stream_max_bytes": 1 << 28}
    return OperatorSettings(**{**nowhere, **sizes, **settings, "nats_url": nats_url, "sluice_migrate_dsn": owner_dsn})


async def ops(settings: OperatorSettings, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run one command here; its exit code, and what it said on stdout."""
    capsys.readouterr()
    options = command_line().parse_args(arguments)
    code = await options.run(settings, options)
    return code, capsys.readouterr().out


async def ops_json(settings: OperatorSettings, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    """Run one command here for a program; its exit code and its document."""
    code, said = await ops(settings, capsys, *arguments, "--format", "json")
    # What runs in this process logs to stdout, too.
    begin = re.search(r"^(\{|\[\]?)$", said, re.MULTILINE)
    assert begin, said
    document = json.JSONDecoder().raw_decode(said, begin.start())[0]
    assert_shape(arguments, document)
    return code, document


def assert_shape(arguments: Sequence[str], document: Any) -> None:
    """The document has exactly the fields and types that the command's help shows."""
    parser = command_line()
    for argument in arguments:
        parser = parser.commands().get(argument, parser)
    shapes = get_args(parser.document) if isinstance(parser.document, UnionType) else (parser.document,)
    errors = []
    for shape in shapes:
        try:
            converted = json.loads(msgspec.json.encode(msgspec.convert(document, shape)))
        except msgspec.ValidationError as error:
            errors.append(str(error))
            continue
        if converted == document:
            return
        errors.append(f"{converted} != {document}")
    raise AssertionError(errors)


def environment(settings: OperatorSettings) -> dict[str, str]:
    """The variables that lead a program to these servers, and nothing else of our own environment's."""
    named = ("nats_url", "sluice_migrate_dsn", "gateway_url", "reporter_url", "nats_monitor_url")
    return {"PATH": os.environ["PATH"], **{name.upper(): str(getattr(settings, name)) for name in named}}


async def start(settings: OperatorSettings, *arguments: str, through: Sequence[str] = ()) -> Process:
    """Run one command as a program, started by another one where one is given."""
    return await asyncio.create_subprocess_exec(
        *(*through, sys.executable, "-m", "ops", *arguments),
        cwd=ROOT,
        env=environment(settings),
        stdout=PIPE,
        stderr=PIPE,
    )


async def ended(process: Process, seconds: float = 60) -> tuple[int, str, str]:
    """Wait for a program's end; its exit code, and what it said on stdout and stderr."""
    async with asyncio.timeout(seconds):
        said, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(), errors.decode()
