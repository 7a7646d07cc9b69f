"""Ports, on 127.0.0.1 unless another address is given: the one that the environment gives, or a free one.

Invariants:
- A free port comes from below the range that the kernel hands to outgoing connections. A server that is down for a
  while keeps its number: no client's own connection can be given it (on loopback a client that keeps trying could even
  end up connected to itself).
- Each process takes free ports from a block of its own, each port in turn. So a server may bind its port later, or be
  down for a while: no other process gives the same number to another server meanwhile.
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
FREE_PORTS = range(15_000, 32_768)  # Linux connects from 32,768 upwards unless told otherwise
BLOCK_PORTS = 200  # room for 88 processes, whose servers need some 30 ports at a time

_claims: list[socket.socket] = []


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
    """A port of this process's block on which nothing listens, the one after the last that was given.

    Raises PortTaken when none of the block is free, or other processes have all blocks.
    """
    for port in itertools.islice(_block(), BLOCK_PORTS):
        if is_free(port, host):
            return port
    raise PortTaken(f"no free port on {host}: this process has tried all {BLOCK_PORTS} of its block")


@cache
def _block() -> Iterator[int]:
    """The ports of a block that no other process has, over and over.

    A process has a block as long as it lives: it keeps the first port bound, alone.
    """
    firsts = range(FREE_PORTS.start, FREE_PORTS.stop - BLOCK_PORTS, BLOCK_PORTS)
    for first in random.sample(firsts, len(firsts)):
        try:
            _claims.append(listen.bind(LOOPBACK, first))
        except OSError:
            continue
        return itertools.cycle(range(first + 1, first + BLOCK_PORTS))
    raise PortTaken(f"{len(firsts)} other processes have all ports of {FREE_PORTS.start}-{FREE_PORTS.stop - 1}")


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
