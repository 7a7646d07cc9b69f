"""Listen addresses: one rule for all services.

an IP address        that address; 0.0.0.0 is every IPv4 address of the machine
::                   every address of the machine, IPv4 and IPv6
a name (localhost)   its first IPv4 address, or its first IPv6 address if it has no other
"""

from __future__ import annotations

import socket
from typing import Final

from core.errors import Misconfigured

ALLOWED: Final = "an IP address, a name such as localhost, or :: for IPv4 and IPv6"
# A client cannot connect to "every address": it uses the loopback address of the same family.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def resolve(variable: str, host: str) -> str:
    """Return the IP address for the value of a setting like GATEWAY_HOST.

    Raises Misconfigured with the variable and what is allowed.
    """
    try:
        addresses = socket.getaddrinfo(host.removeprefix("[").removesuffix("]"), 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise Misconfigured(f"{variable}: has no address ({reason}); set {ALLOWED}") from error
    _, _, _, _, address = min(addresses, key=lambda each: each[0] != socket.AF_INET)
    if len(address) == 4 and address[3]:
        raise Misconfigured(f"{variable}: is an address with a zone, which is not supported; set {ALLOWED}")
    return str(address[0])


def bind(address: str, port: int, *options: int) -> socket.socket:
    """Bind a TCP socket with these socket options. `::` includes IPv4. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound


def reachable(address: str) -> str:
    """Return the address at which a program on this machine reaches a listener on `address`."""
    return _LOOPBACK.get(address, address)


def host_and_port(address: str, port: int) -> str:
    """Return `address:port` as a URL has it: an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
