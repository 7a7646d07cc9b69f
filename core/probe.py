"""The command `python -m core.probe http://127.0.0.1:8080 …`: a container's health check.

Exit code 0 if one of the addresses answers /health/ready with 200; otherwise 1, with the missing needs on standard
output, which `docker inspect` shows. Uses only the standard library, because it is started every few seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from core import http_client

ANSWER_SECONDS = 2.0


def probe(address: str) -> tuple[bool, str]:
    """Return whether the service at http://host:port is ready, and its response."""
    try:
        status, body = http_client.get(f"{address}/health/ready", seconds=ANSWER_SECONDS)
    except OSError as error:
        return False, f"{address}: {error}"
    return status == 200, body.decode(errors="replace")


def main(addresses: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    if not addresses:
        sys.stderr.write("usage: python -m core.probe http://HOST:PORT …\n")
        return 2
    answers = [probe(address) for address in addresses]
    for ready, response in answers:
        if ready:
            print(response)
            return 0
    print("\n".join(response for _, response in answers))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
