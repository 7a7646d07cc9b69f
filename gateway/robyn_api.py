"""Robyn's classes, imported so that Robyn does not parse our command line."""

from __future__ import annotations

import sys

__all__ = ["FunctionInfo", "HttpMethod", "Request", "Response", "Server", "SocketHeld"]

_arguments, sys.argv = sys.argv, sys.argv[:1]
from robyn.robyn import FunctionInfo, HttpMethod, Request, Response, Server, SocketHeld  # noqa: E402

sys.argv = _arguments
