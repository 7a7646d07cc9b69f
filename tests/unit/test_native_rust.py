"""The native parser's own tests."""

import os
import subprocess
from pathlib import Path

from tests.support.tools import require_tool

CRATE = Path(__file__).parents[2] / "core" / "native"


def test_the_rust_tests_pass() -> None:
    """`cargo test` of the crate, where there is a Rust toolchain."""
    cargo = require_tool("cargo")
    done = subprocess.run(
        [cargo, "test", "--locked", "--quiet"],
        cwd=CRATE,
        env={**os.environ, "RUST_BACKTRACE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test result: ok" in done.stdout
