"""Networks for containers without an engine: a bridge each, and a network namespace for every container on it.

Addresses are 10.<a free number>.<network>.<host>; this side of a bridge has the host number 1. Nothing leads out.
Invariants: what was made is taken down by `close`, the last first; meanwhile no test of this checkout works
`without_changes`.
"""

import fcntl
import random
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

FIRST_HOST = 10


def without_changes() -> AbstractContextManager[None]:
    """No other test makes or takes down networks meanwhile: a browser fails what it is loading when they change."""
    return _locked(fcntl.LOCK_EX)


@contextmanager
def _locked(how: int) -> Iterator[None]:
    with Path(__file__).open() as file:
        fcntl.flock(file, how)
        yield


class Bridges:
    """The networks of one project, by name. Needs root."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._tag = f"s{random.randrange(16**6):06x}"  # a network device's name has at most 15 characters
        self._made = ExitStack()
        self._networks = list(networks)
        self._hosts = 0
        taken = _ip("-o", "-4", "addr")
        self._net = random.choice([net for net in range(100, 250) if f" 10.{net}." not in taken])

    def open(self) -> None:
        """Make the bridges, once no test is in the way of changes."""
        self._made.enter_context(_locked(fcntl.LOCK_SH))
        for number in range(len(self._networks)):
            bridge = f"{self._tag}b{number}"
            _ip("link", "add", bridge, "type", "bridge")
            self._made.callback(_ip, "link", "del", bridge)
            _ip("addr", "add", f"10.{self._net}.{number}.1/24", "dev", bridge)
            _ip("link", "set", bridge, "up")

    def connect(self, name: str, networks: Iterable[str]) -> dict[str, str]:
        """Make the namespace of a container, on these networks; its address on each."""
        namespace = self.namespace(name)
        _ip("netns", "add", namespace)
        self._made.callback(_ip, "netns", "del", namespace)
        _ip("-n", namespace, "link", "set", "lo", "up")
        host = FIRST_HOST + self._hosts
        self._hosts += 1
        addresses = {}
        for network in networks:
            number = self._networks.index(network)
            outer, inner = f"{self._tag}v{host}n{number}", f"eth{number}"
            _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", namespace)
            self._made.callback(_ip, "link", "del", outer)  # a namespace would take it down some time later
            _ip("link", "set", outer, "master", f"{self._tag}b{number}", "up")
            addresses[network] = f"10.{self._net}.{number}.{host}"
            _ip("-n", namespace, "addr", "add", f"{addresses[network]}/24", "dev", inner)
            _ip("-n", namespace, "link", "set", inner, "up")
        return addresses

    def namespace(self, name: str) -> str:
        """What `ip netns` calls a container's namespace."""
        return f"{self._tag}-{name}"

    def close(self) -> None:
        """Take everything down. Twice is fine."""
        self._made.close()


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
