"""Tests wait for what they need and assert no durations: on a slow machine they take longer, and say the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.waiting import SAFETY_SECONDS

FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))
REASON = re.compile(r"# (a rate|the cause itself), not a wait$")
CLOCKS = {"monotonic", "perf_counter", "time"}


def called(node: ast.AST) -> str:
    """The last name of what a call calls; empty for other nodes."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def is_elapsed(node: ast.AST) -> bool:
    """Whether it subtracts an earlier instant from a clock's."""
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Sub)
        and called(node.left) in CLOCKS
        and not isinstance(node.right, ast.Constant)
    )


def time_limit(call: ast.Call) -> float:
    """The time limit that is written at a wait, in seconds; 0 where there is none."""
    given = [word.value for word in call.keywords if word.arg == "timeout"] + call.args[1:2]
    return sum(one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, int | float))


def faults(text: str) -> Iterator[str]:
    """Each fixed sleep without a reason, short time limit, and upper bound of what something took."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call() if called(node) == "sleep":
                waits = not node.args or not isinstance(node.args[0], ast.Constant) or node.args[0].value
                if waits and not REASON.search(lines[node.lineno - 1]):
                    yield f"line {node.lineno} sleeps"
            case ast.Call() if called(node) in ("wait_for", "wait") and 0 < time_limit(node) < SAFETY_SECONDS:
                yield f"line {node.lineno} has a time limit that a busy machine passes"
            case ast.Assert(test=ast.Compare(left=left, ops=[*ops], comparators=[*others])):
                for one, op, other in zip([left, *others], ops, others, strict=False):
                    if (isinstance(op, ast.Lt | ast.LtE) and is_elapsed(one)) or (
                        isinstance(op, ast.Gt | ast.GtE) and is_elapsed(other)
                    ):
                        yield f"line {node.lineno} asserts how long something took"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_test_waits_for_signals(path: Path) -> None:
    """Where a sleep is no wait it says so: a rate, or the cause itself. Whatever hangs is ended by `in_time`."""
    assert list(faults((ROOT / path).read_text())) == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("await asyncio.sleep(0)", False),
        ("await asyncio.sleep(0.3)", True),
        ("time.sleep(seconds)", True),
        ("await asyncio.sleep(0.3)  # a rate, not a wait", False),
        ("await asyncio.wait_for(done.wait(), 5)", True),
        ("await asyncio.wait({run}, timeout=0.2)", True),
        ("await asyncio.wait_for(done.wait(), SECONDS)", False),
        ("assert time.monotonic() - began < 2", True),
        ("assert 0.5 <= loop.time() - began < 10", True),
        ("assert 10 > time.perf_counter() - began", True),
        ("assert time.monotonic() - began > 1.5", False),
        ("assert time.monotonic() < deadline", False),
        ("assert started > time.time() - 120", False),
    ],
)
def test_what_counts_as_a_fault(line: str, wrong: bool) -> None:
    """A fixed sleep, a short time limit, an upper bound. A lower bound holds on any machine."""
    assert bool(list(faults(line))) == wrong
