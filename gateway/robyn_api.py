"""Robyn's own classes, imported without its command line, which would read ours."""

from __future__ import annotations

import sys

__all__ = ["FunctionInfo", "HttpMethod", "Request", "Response", "Server", "SocketHeld"]

_arguments, sys.argv = sys.argv, sys.argv[:1]
from robyn.robyn import FunctionInfo, HttpMethod, Request, Response, Server, SocketHeld  # noqa: E402

sys.argv = _arguments
