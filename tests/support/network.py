"""Hosts on one machine, as network namespaces, with cables that can be pulled. Needs root and the program `ip`.

    clients  10.x.y.0/24      every host, and the test itself as .254
    private  10.(x+100).y.0/24  between servers: routes of NATS, replication of PostgreSQL

Invariant: names and addresses are this process's own, and nothing of them is left at the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

Net = Literal["clients", "private"]
NETS: Final[tuple[Net, Net]] = ("clients", "private")
_NO_HOST: Final = "02:00:00:00:00:99"  # the hardware address of no host


class Network:
    """Hosts by name, each with one cable to each net."""

    def __init__(self, hosts: Sequence[str]) -> None:
        pid = os.getpid()
        self._numbers = {host: number for number, host in enumerate(hosts, 1)}
        self._prefix = f"sl{pid % 100_000}"
        second, third = pid % 100, pid // 100 % 250
        self._subnets = {"clients": f"10.{second}.{third}", "private": f"10.{second + 100}.{third}"}

    def address(self, host: str, net: Net = "clients") -> str:
        """The IP address of a host."""
        return f"{self._subnets[net]}.{self._numbers[host]}"

    def on(self, host: str) -> list[str]:
        """What a command line begins with to run on a host."""
        return ["ip", "netns", "exec", self._namespace(host)]

    def up(self) -> None:
        """Make bridges, namespaces and cables. Raises CalledProcessError if this machine does not allow it."""
        lines = []
        for net in NETS:
            bridge = self._bridge(net)
            lines += [f"link add {bridge} type bridge", f"addr add {self._subnets[net]}.254/24 dev {bridge}"]
            lines += [f"link set {bridge} up"]
        for host in self._numbers:
            lines += [f"netns add {self._namespace(host)}"]
            for net in NETS:
                cable = self._cable(host, net)
                lines += [f"link add {cable} type veth peer name {net} netns {self._namespace(host)}"]
                lines += [f"link set {cable} master {self._bridge(net)}", f"link set {cable} up"]
        _ip(lines)
        for host in self._numbers:
            lines = ["link set lo up"]
            for net in NETS:
                lines += [f"addr add {self.address(host, net)}/24 dev {net}", f"link set {net} up"]
            _ip(lines, self._namespace(host))

    def down(self) -> None:
        """Remove everything that `up` made, also if that broke off. Programs on the hosts have to be ended before."""
        lines = [f"netns del {self._namespace(host)}" for host in self._numbers]
        lines += [f"link del {self._cable(host, net)}" for host in self._numbers for net in NETS]
        lines += [f"link del {self._bridge(net)}" for net in NETS]
        _ip(lines, force=True)

    def unplug(self, host: str, nets: Iterable[Net] = NETS) -> None:
        """Pull a host's cables: packets are dropped, and neither end hears of it."""
        _ip([f"link set {self._cable(host, net)} nomaster" for net in nets])

    def plug(self, host: str, nets: Iterable[Net] = NETS) -> None:
        """Put a host's cables back."""
        _ip([f"link set {self._cable(host, net)} master {self._bridge(net)}" for net in nets])

    def vanish(self, host: str) -> None:
        """Unplug a host, and let the others believe that it is there, as behind a router: no connect to it fails."""
        self.unplug(host)
        for net in NETS:
            line = f"neigh replace {self.address(host, net)} lladdr {_NO_HOST} nud permanent dev "
            _ip([line + self._bridge(net)])
            for other in self._numbers.keys() - {host}:
                _ip([line + net], self._namespace(other))

    def come_back(self, host: str) -> None:
        """Undo `vanish`."""
        self.plug(host)
        for net in NETS:
            line = f"neigh del {self.address(host, net)} dev "
            _ip([line + self._bridge(net)], force=True)
            for other in self._numbers.keys() - {host}:
                _ip([line + net], self._namespace(other), force=True)

    def slow(self, host: str, how: str, nets: Iterable[Net] = NETS) -> None:
        """Let what a host sends be late or lost: `how` is tc's, like "delay 50ms 10ms loss 2%"; empty ends it."""
        for net in nets:
            command = [*self.on(host), "tc", "qdisc", "replace" if how else "del", "dev", net, "root"]
            subprocess.run([*command, *(["netem", *how.split()] if how else [])], check=bool(how), capture_output=True)

    def _namespace(self, host: str) -> str:
        return f"{self._prefix}-{host}"

    def _cable(self, host: str, net: Net) -> str:
        return f"{self._prefix}{host}{net[0]}"

    def _bridge(self, net: Net) -> str:
        return f"{self._prefix}-{net[0]}"


@contextmanager
def network(hosts: Sequence[str]) -> Iterator[Network]:
    """Hosts for the time of the block."""
    made = Network(hosts)
    try:
        made.up()
        yield made
    finally:
        made.down()


def can_make_hosts() -> bool:
    """Whether this machine allows us network namespaces and cables."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("setpriv") is None:
        return False
    try:
        with network(["try"]):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _ip(lines: Sequence[str], namespace: str | None = None, *, force: bool = False) -> None:
    """Run lines of `ip`. Raises CalledProcessError at the first that fails, unless all are to be tried."""
    where = ["-n", namespace] if namespace else []
    subprocess.run(
        ["ip", *(["-force"] if force else []), *where, "-batch", "-"],
        input="\n".join(lines), text=True, check=not force, capture_output=True,
    )  # fmt: skip
