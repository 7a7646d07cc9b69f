"""The operator's command line: `sluice <command>`, also `python -m ops <command>`.

Exit codes: 0 success, 1 a problem was found or the command failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Final

import structlog

from core import lifecycle
from core.errors import Misconfigured, SluiceError
from core.settings import unknown_variables
from ops.cli.arguments import is_json
from ops.cli.connection import local_folder, operator_settings, require_system
from ops.command_line import command_line, requires_local
from ops.settings import EVERY

INTERRUPTED: Final = 130
STACK_COMMANDS: Final = frozenset({"up", "demo", "reset-data"})
"""Commands that run or change the stack of this folder, and read .env."""
DEMO_SECONDS: Final = 30.0


def main() -> None:
    """Parse the command line and run one command."""
    code = INTERRUPTED
    for name, nearest in unknown_variables(*EVERY).items():
        hint = f": did you mean {nearest}?" if nearest else ""
        sys.stderr.write(f"sluice: {name} is not a setting{hint}\n")

    async def run(stop: asyncio.Event) -> None:
        nonlocal code
        if options.command in STACK_COMMANDS:
            code = await _run_stack(stop, options)
        else:
            # Commands report errors as text, so log lines of libraries are not needed.
            structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
            code = await lifecycle.unless_stopped(stop, options.run(operator_settings(), options))

    try:
        options = command_line().parse_args()
        if options.command in STACK_COMMANDS:
            with requires_local(options.command):
                from ops.local.env_file import read_env_file  # noqa: PLC0415
            read_env_file(Path(".env"), os.environ)
        elif options.command == "doctor":
            require_system()
        # Not on uvloop: its children cannot get a user namespace of their own.
        lifecycle.run(run, asyncio.new_event_loop)
    except SluiceError as error:
        sys.stderr.write(f"sluice: {error}\n")
        code = 1
    except BrokenPipeError:  # `… list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


async def _run_stack(stop: asyncio.Event, options: argparse.Namespace) -> int:
    with requires_local(options.command):
        from ops.local.demo import demo  # noqa: PLC0415
        from ops.local.reset import reset_data  # noqa: PLC0415
        from ops.local.up import up  # noqa: PLC0415

    as_json = is_json(options)
    if options.command == "reset-data":
        reset_data(local_folder(), as_json=as_json)
        return 0
    distribution = [] if options.values == "publisher" else ["--values", options.values]
    if options.command == "demo":
        return await demo(stop, _demo_seconds(options), [*distribution, *options.publisher], as_json=as_json)
    with_publisher = os.environ.get("PUBLISHER", "1") != "0"
    await up(stop, with_publisher=with_publisher, publisher_options=distribution, as_json=as_json)
    return 0


def _demo_seconds(options: argparse.Namespace) -> float:
    """Return --seconds, or DEMO_SECONDS, or the default. Raises Misconfigured."""
    if options.seconds is not None:
        return float(options.seconds)
    text = os.environ.get("DEMO_SECONDS") or str(DEMO_SECONDS)
    try:
        return float(text)
    except ValueError:
        raise Misconfigured(f"DEMO_SECONDS: {text} is not a number of seconds") from None


if __name__ == "__main__":
    main()
