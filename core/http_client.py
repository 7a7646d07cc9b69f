"""A minimal HTTP client for Sluice's own services and servers, which ignores proxy settings.

`HTTP_PROXY` and `ALL_PROXY` are for external addresses: a proxy does not know 127.0.0.1 or the name of a service. Uses
only the standard library, because a container's health check starts it every few seconds.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final

_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def bearer(token: str | None) -> dict[str, str]:
    """Return the headers of a request with this token."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def get(
    url: str, *, seconds: float, accept: str = "*/*", headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Send a GET request. Return status and body, whatever the status.

    `seconds` limits the connect and each wait for bytes. Raises OSError if no complete response arrives.
    """
    if not url.startswith(("http://", "https://")):
        raise OSError("not an HTTP URL")
    request = urllib.request.Request(url, headers={"Accept": accept, **(headers or {})})  # noqa: S310  # its scheme is checked
    try:
        with _DIRECT.open(request, timeout=seconds) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except urllib.error.URLError as error:
        raise error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason)) from error
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"no complete HTTP response: {error!r}") from error
