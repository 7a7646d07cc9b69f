"""The wheel: built from the tree, installed in an environment that has only what requirements.lock pins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from core.metrics import VERSION
from tests.support.processes import ROOT

PACKAGES = ("core", "gateway", "collector", "reporter", "sql", "ops", "bench")
TREE = ROOT / "build" / "wheel"  # always the same path, so that Cargo reuses what it has built
IGNORED = shutil.ignore_patterns("__pycache__", "*.so", "target", "node_modules", "bin", "results")


def locked(lock: str) -> dict[str, str]:
    """The distributions that a lock file pins, each with the comment that says why."""
    text = (ROOT / lock).read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==.*\n(?:    --hash.*\n)*((?:    #.*\n)*)", text, re.MULTILINE))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build the wheel as `pip install .` does, with a native module that is not optimized."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.rmtree(TREE, ignore_errors=True)
    TREE.mkdir(parents=True)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, TREE / name, ignore=IGNORED)
    shutil.copy2(ROOT / "pyproject.toml", TREE)
    build = {
        "CARGO_TARGET_DIR": str(ROOT / "core" / "native" / "target" / "wheel"),
        "CARGO_PROFILE_RELEASE_LTO": "off",
        "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
        "CARGO_PROFILE_RELEASE_OPT_LEVEL": "0",
    }
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    try:
        subprocess.run([*pip, "--wheel-dir", folder, TREE], check=True, env={**os.environ, **build})
    finally:
        shutil.rmtree(TREE)
    (built,) = folder.glob("sluice-*.whl")
    yield built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel and the distributions of requirements.lock, and no others."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in locked("requirements.lock"):
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # pinned for another platform
            continue
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    return folder / "bin"


def sluice(programs: Path, folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the installed command in a folder; its exit code, and what it printed on stdout and stderr."""
    done = subprocess.run(
        [programs / "sluice", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_wheel_declares_what_is_locked(wheel: Path) -> None:
    """Its dependencies are those that requirements.lock pins for Sluice itself; its version is that of the program."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode()
    declared = {
        re.split(r"[^\w.-]", line)[0].lower()
        for line in re.findall(r"^Requires-Dist: (.*)$", text, re.MULTILINE)
        if "extra ==" not in line
    }
    assert declared == {name for name, why in locked("requirements.lock").items() if "sluice (pyproject.toml)" in why}
    assert f"\nVersion: {VERSION}\n" in text


def test_the_wheel_has_all_files(wheel: Path) -> None:
    """It has statements, migrations, pages, configuration of local servers and runbooks; and no file but those."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = [
        *ROOT.glob("sql/**/*.sql"), *ROOT.glob("gateway/page.*"), *ROOT.glob("reporter/page/*.*"),
        *ROOT.glob("ops/runbooks/*.md"), ROOT / "ops/postgres/local.conf", ROOT / "ops/postgres/roles.sql",
        ROOT / "ops/nats/users.conf", ROOT / "ops/prometheus/rules/alerts.yml",
    ]  # fmt: skip
    assert {str(path.relative_to(ROOT)) for path in wanted} <= names
    assert not [name for name in names if name.startswith("tests/") or name.endswith((".rs", ".go", ".pyc"))]
    native = [name for name in names if name.startswith("core/_native") and name.endswith(".so")]
    assert len(native) == (shutil.which("cargo") is not None)


def test_the_command_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Help, version and completion work; what is missing is named with what to do about it; nothing is written."""
    assert sluice(installed, tmp_path, "--version") == (0, f"sluice {VERSION}\n", "")
    code, said, errors = sluice(installed, tmp_path, "--help")
    assert (code, errors) == (0, "")
    assert "look after a system:" in said
    code, said, errors = sluice(installed, tmp_path, "doctor")
    assert (code, said) == (1, "")
    assert errors.startswith("sluice: no system is named: ")
    assert "`sluice up`" in errors
    for command in (["up"], ["demo"], ["reset-data"], ["fill", "--events", "10"]):
        assert sluice(installed, tmp_path, command[0], "--help")[0] == 0
        code, said, errors = sluice(installed, tmp_path, *command)
        assert (code in (1, 2), said) == (True, ""), errors
        assert "needs the extra `local`" in errors
        assert "Traceback" not in errors
    code, said, errors = sluice(installed, tmp_path, "completion", "bash")
    assert (code, errors) == (0, "")
    assert "dead-letters" in said
    assert not list(tmp_path.iterdir())


def test_the_services_run_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Each service imports all that it needs, the native module too if there is a Rust toolchain."""
    modules = "gateway.workers, collector.__main__, reporter.__main__, core.migrate, ops.__main__"
    if shutil.which("cargo"):
        modules += ", core._native"
    subprocess.run([installed / "python", "-P", "-c", f"import {modules}"], cwd=tmp_path, check=True)
