"""Select ports: the port that the environment names, or a free one; on 127.0.0.1 by default.

Invariants:
- Free ports are below the range of outgoing connections. So the kernel never assigns the port of a server that is down
  to an outgoing connection. On loopback, a client that retries could otherwise connect to itself.
- Each process uses free ports from its own block in turn. So no other process assigns the same port to another server
  while a server has not bound its port yet, or is down.
"""

import errno
import itertools
import random
import socket
from collections.abc import Iterator, Mapping
from functools import cache

from core import listen
from ops.local.errors import PortTaken

LOOPBACK = "127.0.0.1"
FREE_PORTS = range(15_000, 32_768)  # Linux uses ports from 32,768 for outgoing connections by default
BLOCK_PORTS = 200  # room for 88 processes, whose servers need some 30 ports at a time

_claims: list[socket.socket] = []


def choose(variable: str, environ: Mapping[str, str], host: str = LOOPBACK) -> int:
    """Return the port in the variable of `environ`, or a free port if it is unset or empty; on an address of `host`.

    Raises PortTaken with the variable in the message if the port is in use or is not a number from 1 to 65535.
    """
    text = environ.get(variable, "").strip()
    if not text:
        return free_port(host)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise PortTaken(f"{variable}={text}: a port is a number from 1 to 65535")
    if not is_free(int(text), host):
        where = listen.host_and_port(host, int(text))
        raise PortTaken(
            f"{variable}={text}: {where} is in use. Set another port, or unset the variable to use a free one"
        )
    return int(text)


def free_port(host: str = LOOPBACK) -> int:
    """Return the next port of the block of this process on which no server listens.

    Raises PortTaken if no port of the block is free, or other processes have all blocks.
    """
    for port in itertools.islice(_block(), BLOCK_PORTS):
        if is_free(port, host):
            return port
    raise PortTaken(f"no free port on {host}: all {BLOCK_PORTS} ports of the block of this process are in use")


@cache
def _block() -> Iterator[int]:
    """Return an endless iterator over the ports of a block that no other process has.

    A process owns a block by keeping its first port bound.
    """
    firsts = range(FREE_PORTS.start, FREE_PORTS.stop - BLOCK_PORTS, BLOCK_PORTS)
    for first in random.sample(firsts, len(firsts)):
        try:
            _claims.append(listen.bind(LOOPBACK, first))
        except OSError:
            continue
        return itertools.cycle(range(first + 1, first + BLOCK_PORTS))
    raise PortTaken(
        f"other processes own all {len(firsts)} blocks of the ports {FREE_PORTS.start}-{FREE_PORTS.stop - 1}: stop some"
    )


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Return whether a server can listen on `port` of this address now. Raises PortTaken if it never can."""
    try:
        # With SO_REUSEADDR, as the servers: closing connections of an earlier run do not prevent binding.
        with listen.bind(host, port, socket.SO_REUSEADDR) as probe:
            probe.listen(1)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise PortTaken(f"cannot listen on {listen.host_and_port(host, port)}: {error.strerror}") from error
        return False
    return True
