"""Ports: given ones are checked, free ones are safe to come back to."""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from ops.local import ports
from ops.local.errors import PortTaken
from tests.support.processes import python_running
from tests.support.tools import only_where

GIVEN = 180  # a few of a block may be taken by others
GIVE = f"""
from ops.local.ports import free_port
print(*(free_port() for _ in range({GIVEN})), flush=True)
input()
"""


def test_a_given_port_is_used() -> None:
    """The environment decides, when the port is free."""
    port = ports.free_port()
    assert ports.choose("SLUICE_NATS_PORT", {"SLUICE_NATS_PORT": str(port)}) == port


def test_a_taken_port_is_reported_with_its_variable() -> None:
    """The error names the variable and the address, so that the operator knows what to change."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"SLUICE_NATS_PORT={taken}: 127\.0\.0\.1:{taken} is in use"):
            ports.choose("SLUICE_NATS_PORT", {"SLUICE_NATS_PORT": str(taken)})


@pytest.mark.parametrize("given", ["0", "65536", "-1", "4222x", "٤٢٢٢", "1e3"])
def test_what_is_no_port_is_reported(given: str) -> None:
    """Anything but a number from 1 to 65535 is rejected by name."""
    with pytest.raises(PortTaken, match=r"^SLUICE_NATS_PORT=.*: a port is a number from 1 to 65535"):
        ports.choose("SLUICE_NATS_PORT", {"SLUICE_NATS_PORT": given})


@pytest.mark.parametrize("environ", [{}, {"SLUICE_NATS_PORT": ""}])
def test_a_free_port_is_never_given_to_a_client(environ: dict[str, str]) -> None:
    """A free port lies outside the range from which the kernel serves outgoing connections."""
    lowest, highest = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    only_where(ports.FREE_PORTS.stop <= lowest, "a kernel that connects from 32768 upwards")
    port = ports.choose("SLUICE_NATS_PORT", environ)
    assert ports.is_free(port)
    assert not lowest <= port <= highest


def test_a_free_port_is_given_once() -> None:
    """A server may bind its port later: until then neither this process nor another one gives the port again."""
    with ExitStack() as running:
        processes = [running.enter_context(python_running(GIVE)) for _ in range(3)]
        given = [ports.free_port() for _ in range(GIVEN)]
        for process in processes:
            assert process.stdout is not None
            given += map(int, process.stdout.readline().split())
    assert len(given) == 4 * GIVEN
    assert len(set(given)) == len(given)
    assert set(given) <= set(ports.FREE_PORTS)
