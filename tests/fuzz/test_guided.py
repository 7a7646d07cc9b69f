"""The fuzz target that coverage guides, for a moment; `make fuzz` goes on for as long as it is reported to."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from tests.support.tools import require, require_native

ROOT = Path(__file__).parents[2]
RUNS = 6_000


def test_lines_that_coverage_leads_to_are_read_alike(tmp_path: Path) -> None:
    """From the corpus on, libFuzzer finds no line that both parsers do not read alike, and finds new ways to go."""
    require_native()
    require(importlib.util.find_spec("atheris") is not None, "atheris, which has no wheel for this Python")
    kept = tmp_path / "kept"
    kept.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.guided", f"-runs={RUNS}", "-seed=7", f"-artifact_prefix={tmp_path}/", kept],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(kept.iterdir()), "coverage guides it: some lines led further"
