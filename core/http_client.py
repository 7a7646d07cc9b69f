"""Ask our own services and servers over HTTP, never through a proxy.

`HTTP_PROXY` and `ALL_PROXY` are for addresses outside: a proxy does not know our 127.0.0.1, or the name of a service.
Standard library alone, because a container's health check starts it every few seconds.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import Final

_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str, *, seconds: float, accept: str = "*/*") -> tuple[int, bytes]:
    """GET a URL; its status and body, whatever the status. Raises OSError if no whole answer arrives.

    `seconds` bounds the connect and each wait for bytes.
    """
    if not url.startswith(("http://", "https://")):
        raise OSError("no http URL")
    request = urllib.request.Request(url, headers={"Accept": accept})  # noqa: S310  # its scheme is checked
    try:
        with _DIRECT.open(request, timeout=seconds) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except urllib.error.URLError as error:
        raise error.reason if isinstance(error.reason, OSError) else OSError(str(error.reason)) from error
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"no whole HTTP answer: {error!r}") from error
