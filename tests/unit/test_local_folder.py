"""What the local stack's commands promise of its folder, of .env and of data: each promise can be followed."""

from __future__ import annotations

import argparse
import fcntl
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import fill
from core.errors import Misconfigured
from ops.cli.connection import local_folder, operator_settings
from ops.cli.output import NotConfirmed
from ops.command_line import command_line
from ops.local.env_file import read_env_file
from ops.local.errors import DiskFull, FolderInUse
from ops.local.reset import reset_data
from ops.local.servers import check_free
from ops.settings import OperatorSettings
from tests.support.processes import ROOT

READS = {"report events", "report revenue", "report funnel", "report demographics", "doctor", "dead-letters list",
         "dead-letters show", "partitions list", "streams list", "drain", "snapshot save", "completion"}  # fmt: skip
# Nothing is deleted or made up.
REVERSIBLE = {"pause", "resume", "partitions ensure", "partitions index", "migrate", "dead-letters replay"}
ASKS = {"fill", "partitions drop", "countries rebuild", "streams apply", "streams accept-loss", "dead-letters discard",
        "snapshot restore"}  # fmt: skip
STACK = {"up", "demo", "reset-data"}


def commands(parser: argparse.ArgumentParser, before: str = "") -> dict[str, argparse.ArgumentParser]:
    """Every command of the command line, by its words."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, one in action.choices.items():
                found |= commands(one, f"{before} {name}".strip())
    return found or {before: parser}


def test_each_command_that_deletes_or_makes_up_data_asks_first() -> None:
    """A command reads, can be taken back, belongs to the local stack, or asks and has --yes: there is no other kind."""
    found = commands(command_line())
    assert found.keys() == READS | REVERSIBLE | ASKS | STACK
    assert {name for name, parser in found.items() if "--yes" in parser._option_string_actions} == ASKS


async def test_fill_needs_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image has no bench: `sluice fill` says what it needs."""
    monkeypatch.setitem(sys.modules, "bench.fill", None)
    options = command_line().parse_args(["fill", "--events", "10"])
    with pytest.raises(Misconfigured, match="needs the extra `local`"):
        await options.run(OperatorSettings(), options)


async def test_fill_asks_outside_the_local_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Made events go into no configured database without a question; without a terminal --yes is needed."""
    monkeypatch.chdir(tmp_path)
    settings = OperatorSettings(sluice_migrate_dsn="postgresql://o:secret@db.example:1/sluice")
    with pytest.raises(
        NotConfirmed, match=r"generated events in the database at db\.example:1: .*confirm with --yes"
    ) as raised:
        await fill.run(settings, 1_000, 1, "publisher", yes=False, as_json=False)
    assert "secret" not in str(raised.value)


def test_reset_data_deletes_what_a_stack_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what it deleted, leaves what is not the stack's, and is rejected while a stack holds the folder."""
    (tmp_path / "postgres" / "base").mkdir(parents=True)
    (tmp_path / "postgres" / "base" / "1").write_bytes(b"x" * (3 << 20))
    (tmp_path / "nats-secret").touch()
    (tmp_path / "mine").touch()
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FolderInUse, match="stop that stack, or set SLUICE_FOLDER"):
            reset_data(tmp_path, as_json=False)
    assert (tmp_path / "postgres").exists()
    reset_data(tmp_path, as_json=False)
    assert capsys.readouterr().out == f"deleted from {tmp_path}: postgres, nats-secret (3 MiB)\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    reset_data(tmp_path / "elsewhere", as_json=True)
    document = {"folder": f"{tmp_path}/elsewhere", "deleted": [], "bytes": 0}
    assert json.loads(capsys.readouterr().out) == document


def test_make_clean_keeps_data() -> None:
    """`make clean` deletes what was built; neither it nor any other target deletes the stack's folder by itself."""
    said = subprocess.run(["make", "--dry-run", "clean"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "core/_native" in said
    assert {"core/native/target", "ops/tools/bin"} <= set(said.split())
    assert all((ROOT / path).parent.is_dir() for path in said.split() if re.fullmatch(r"\w+(/[\w.]+)+", path))
    assert ".sluice" not in said
    assert "secrets" not in said
    assert not re.search(r"rm .*\.sluice", (ROOT / "Makefile").read_text())


def test_env_file(tmp_path: Path) -> None:
    """The environment wins over .env; the file is read as docker compose reads it; servers are the stack's own."""
    (tmp_path / ".env").write_text(
        "# a comment\n\nGATEWAY_PORT=9000\nexport LOG_LEVEL='debug' # why\nSTREAM_MAX_BYTES=\n"
        'GATEWAY_FACEBOOK_SECRETS="a b"\nNATS_URL=nats://elsewhere:4222\nSLUICE_MIGRATE_DSN_FILE=/run/secrets/dsn\n'
        "COLLECTOR_DSN=postgresql://elsewhere/sluice\nRETENTION_DAYS=7\n"
    )
    environ = {"RETENTION_DAYS": "30"}
    read_env_file(tmp_path / ".env", environ)
    assert environ == {
        "RETENTION_DAYS": "30", "GATEWAY_PORT": "9000", "LOG_LEVEL": "debug", "GATEWAY_FACEBOOK_SECRETS": "a b",
    }  # fmt: skip
    read_env_file(tmp_path / "none", environ)


def test_the_example_can_be_copied(tmp_path: Path) -> None:
    """.env.example, copied as it stands, changes no setting of the stack."""
    environ: dict[str, str] = {}
    read_env_file(ROOT / ".env.example", environ)
    assert operator_settings(environ, tmp_path) == operator_settings({}, tmp_path)


def test_the_folder_is_a_setting() -> None:
    """SLUICE_FOLDER names another data folder; messages that offer one name it."""
    assert local_folder({}) == Path(".sluice")
    assert local_folder({"SLUICE_FOLDER": "/data/sluice"}) == Path("/data/sluice")


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    """Before anything is started, the room that is missing is named, and what to do."""
    with pytest.raises(
        DiskFull, match=rf"^{tmp_path} has .* GiB free, and a stack needs 1,048,576: free disk space, or set"
    ):
        check_free(tmp_path / "not" / "made", 1 << 50)
    check_free(tmp_path, 0)


def test_messages_name_what_exists() -> None:
    """Every `make` target, extra, lock file, option and command that a message or page names exists."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    names = commands(command_line())
    words = {word for name in names for word in name.split()}
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md", ".env.example")]
    sources = [
        path for folder in ("core", "gateway", "collector", "reporter", "ops") for path in (ROOT / folder).rglob("*.py")
    ]
    for path in (*pages, *sources, *(ROOT / "docs").rglob("*.md"), *(ROOT / "ops" / "runbooks").glob("*.md")):
        text = path.read_text()
        for target in re.findall(r"(?:`|^)(?:[A-Z_]+=\S+ )*make ([a-z][a-z-]+)", text, re.MULTILINE):
            assert target in targets, f"{path}: make {target}"
        for command in re.findall(r"(?:python -m ops |(?:`|^|: )sluice )([a-z][a-z-]+)", text, re.MULTILINE):
            assert command in words, f"{path}: sluice {command}"
        for extra in re.findall(r"extra `([a-z]+)`", text):
            assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text(), f"{path}: extra {extra}"
        for lock in re.findall(r"requirements[a-z-]*\.lock", text):
            assert (ROOT / lock).is_file(), f"{path}: {lock}"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-local.lock", "requirements-dev.lock"])
def test_lock_files_agree(lock: str) -> None:
    """What a smaller lock file pins, each larger one pins to the same version; none names a registry's address."""
    pinned: dict[str, Any] = {}
    for name in ("requirements.lock", "requirements-local.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "http://" not in text
        assert "https://" not in text
        found = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", text, re.MULTILINE))
        assert pinned.items() <= found.items(), name
        pinned = found
        if name == lock:
            break


async def test_a_broken_setting_of_env_is_one_sentence(tmp_path: Path) -> None:
    """A value that is not allowed in .env is rejected like one of the environment: by name, without a traceback."""
    (tmp_path / ".env").write_text("RETENTION_DAYS=soon\n")
    environ: dict[str, str] = {}
    read_env_file(tmp_path / ".env", environ)
    with pytest.raises(Misconfigured, match="RETENTION_DAYS"):
        operator_settings(environ, tmp_path)


def test_python_is_named() -> None:
    """The Makefile's way out of an old Python works: PYTHON is used."""
    make = ["make", "--dry-run", "--always-make", "up", f"PYTHON={sys.executable}"]
    said = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"{sys.executable} -m venv" in said
    assert "requirements-local.lock" in said
    assert "requirements-dev.lock;" not in said
