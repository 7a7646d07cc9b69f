"""`python -m gateway`: the parent of the workers.

Each worker's metrics go to files in one folder, which has to be named before `prometheus_client` is imported
anywhere: hence the import in the middle.
"""

from __future__ import annotations

import os
import tempfile


def main() -> None:
    """Run the gateway until SIGTERM. Exits with 0 after a clean drain, 2 where it is misconfigured."""
    with tempfile.TemporaryDirectory(prefix="sluice-gateway-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        from gateway.workers import run  # noqa: PLC0415

        run()


if __name__ == "__main__":
    main()
