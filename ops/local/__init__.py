"""The local stack: PostgreSQL and NATS from wheels, and a supervisor, without Docker. Linux only.

| module | does | does not |
| --- | --- | --- |
| `servers` | both servers on one data folder, and its lock | know the services |
| `services` | the services as programs on that stack | know how they are built |
| `postgres`, `nats` | one server: settings, data, readiness | keep it running |
| `supervisor`, `program` | start, watch, restart and drain programs | know what they are; handle our own signals |
| `child` | user and death signal of a child process, set before exec | decide when |
| `ports`, `ready`, `errors` | free ports; readiness over HTTP; errors | |
| `secret` | a password in a file | |
| `up`, `demo`, `reset`, `env_file` | the commands that run the stack or delete its data, and their .env | |
| `flow`, `tables`, `outcome` | their output: figures each second, the ledger, the result of a demo | |

    async with Servers(Path(".sluice")) as servers:
        await servers.supervisor.start(Program(name="reporter", argv=[...], env={"DSN": servers.reporter_dsn}))
"""

from ops.local.errors import StackError
from ops.local.program import Death, Program
from ops.local.servers import Servers
from ops.local.supervisor import Supervisor

__all__ = ["Death", "Program", "Servers", "StackError", "Supervisor"]
