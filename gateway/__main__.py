"""The command `python -m gateway`: the parent process of the workers.

`prometheus_client` reads PROMETHEUS_MULTIPROC_DIR when it is imported. The variable is set first, so the import of the
workers is inside the function.
"""

from __future__ import annotations

import os
import tempfile


def main() -> None:
    """Run the gateway until SIGTERM. Exit with 0 after a clean drain, with 2 if a setting is wrong."""
    with tempfile.TemporaryDirectory(prefix="sluice-gateway-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        from gateway.workers import run  # noqa: PLC0415

        run()


if __name__ == "__main__":
    main()
