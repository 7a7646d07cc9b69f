"""Ports, on 127.0.0.1 unless another address is given: the one that the environment gives, or a free one.

Invariant: a free port comes from below the range that the kernel hands to outgoing connections. A server that is
down for a while keeps its number: no client's own connection can be given it (on loopback a client that keeps
trying could even end up connected to itself).
"""

import errno
import random
import socket
from collections.abc import Mapping

from core import listen
from ops.local.errors import PortTaken

LOOPBACK = "127.0.0.1"
FREE_PORTS = range(15_000, 32_768)  # Linux connects from 32,768 upwards unless told otherwise
ATTEMPTS = 200


def choose(variable: str, environ: Mapping[str, str], host: str = LOOPBACK) -> int:
    """The port named by `variable` in `environ`, or a free one where it is unset or empty; on an address of `host`.

    Raises PortTaken, naming the variable, when the given port is in use or is not a number from 1 to 65535.
    """
    given = environ.get(variable, "").strip()
    if not given:
        return free_port(host)
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= 65_535:
        raise PortTaken(f"{variable}: a port is a number from 1 to 65535")
    if not is_free(int(given), host):
        where = listen.host_and_port(host, int(given))
        raise PortTaken(f"{variable}={given}: {where} is taken; give another port, or none to get a free one")
    return int(given)


def free_port(host: str = LOOPBACK) -> int:
    """A port on which nothing listens. Raises PortTaken when none of many tried is free."""
    for port in random.sample(FREE_PORTS, ATTEMPTS):
        if is_free(port, host):
            return port
    raise PortTaken(f"no free port on {host} among {ATTEMPTS} tried in {FREE_PORTS.start}-{FREE_PORTS.stop - 1}")


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on `port` of this address now. Raises PortTaken if it never could."""
    try:
        # As the servers do it: connections of an earlier run that still fade out are no hindrance.
        with listen.bind(host, port, socket.SO_REUSEADDR) as probe:
            probe.listen(1)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise PortTaken(f"cannot listen on {listen.host_and_port(host, port)}: {error.strerror}") from error
        return False
    return True
