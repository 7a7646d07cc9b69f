"""Prometheus and the exporter for the local stack, with the rules of the deployment.

    services --/metrics--> Prometheus <--/metrics-- ops.exporter <-- NATS, PostgreSQL, the disk

Prometheus has to be installed on the machine (Debian: `apt-get install prometheus`); `find_prometheus` finds it.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from ops.local import ports
from ops.local.program import Program
from ops.local.ready import answers_ok
from ops.local.servers import Servers
from ops.local.services import COLLECTORS, Services

RULES: Final = Path(__file__).parents[1] / "prometheus" / "rules"
RUNBOOKS: Final = Path(__file__).parents[1].absolute() / "runbooks"
PROMETHEUS_PORT: Final = 9090


def find_prometheus() -> str | None:
    """Return the path of the installed Prometheus, or None."""
    return shutil.which("prometheus")


async def start_monitoring(
    servers: Servers,
    services: Services,
    environ: Mapping[str, str],
    *,
    rules: Path = RULES,
    every: str = "5s",
    listed: Mapping[str, int] | None = None,
) -> str:
    """Start the exporter and Prometheus on the supervisor of the stack; return the URL of Prometheus.

    Its data is in <folder>/prometheus, its port is PROMETHEUS_PORT of `environ` or a free one. It scrapes and evaluates
    `rules` in the interval `every`; `listed` has the ports of other services to scrape. Raises StackError.
    """
    exporter = ports.free_port()
    await servers.supervisor.start(
        Program(
            name="exporter",
            argv=[
                *(sys.executable, "-m", "ops.exporter", "--port", str(exporter)),
                *("--nats", servers.nats.monitor_url, "--disk", str(servers.folder)),
            ],
            env={"EXPORTER_DSN": servers.dsn("postgres")},
            is_ready=partial(answers_ok, exporter, "/health/ready"),
        )
    )
    port = ports.choose("PROMETHEUS_PORT", environ)
    folder = servers.folder / "prometheus"
    folder.mkdir(mode=0o700, exist_ok=True)
    settings = folder / "prometheus.yml"  # JSON is YAML, too
    settings.write_text(
        json.dumps(
            _settings(services, {"exporter": exporter, "prometheus": port, **(listed or {})}, rules, every), indent=2
        )
    )
    await servers.supervisor.start(
        Program(
            name="prometheus",
            argv=[
                find_prometheus() or "prometheus",
                *(f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}"),
                *(f"--web.listen-address={ports.LOOPBACK}:{port}", "--storage.tsdb.retention.time=2d"),
                *("--web.enable-lifecycle", "--log.level=warn"),
            ],
            is_ready=partial(answers_ok, port, "/-/ready"),
        )
    )
    return f"http://{ports.LOOPBACK}:{port}"


def _settings(services: Services, beside: Mapping[str, int], rules: Path, every: str) -> dict[str, Any]:
    jobs = {"gateway": "gateway", "reporter": "reporter", **dict.fromkeys(COLLECTORS, "collector")}
    targets = [(jobs[name], name, services.host_and_port(name)) for name in services.ports]
    targets += [(name, name, f"{ports.LOOPBACK}:{port}") for name, port in beside.items()]
    return {
        "global": {
            "scrape_interval": every,
            "scrape_timeout": every,
            "evaluation_interval": every,
            "external_labels": {"environment": "local", "runbooks": RUNBOOKS.as_uri()},
        },
        "rule_files": [f"{rules}/*.yml"],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [
                    {"targets": [address], "labels": {"service": service}}
                    for of, service, address in targets
                    if of == job
                ],
            }
            for job in dict.fromkeys(of for of, _, _ in targets)
        ],
    }
