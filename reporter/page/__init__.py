"""The built-in web pages: the dashboard at the root, and the API documentation with a form for each report.

The pages are the files of this folder. They load nothing from other hosts; their content security policy enforces it.
"""

from __future__ import annotations

from hashlib import blake2b
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from litestar import Request, Response, Router, get
from litestar.datastructures import ResponseHeader
from litestar.handlers import HTTPRouteHandler

from reporter.answer import is_cached

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

DOCUMENTATION: Final = {"page.js": "text/javascript", "page.css": "text/css"}
DASHBOARD: Final = {
    "dashboard.css": "text/css",
    **dict.fromkeys(
        (
            *("dashboard.js", "pipeline.js", "report.js", "funnel.js", "ranking.js", "controls.js", "views.js"),
            *("extras.js", "facts.js", "words.js", "chart.js", "table.js", "element.js", "retry.js", "time.js"),
        ),
        "text/javascript",
    ),
}

_FOLDER: Final = Path(__file__).parent


def router() -> Router:
    """Return the routes: the dashboard at the root with its files under /page, the documentation under /docs."""
    handlers = [
        _file("", "text/html", "dashboard.html"),
        *(_file(f"page/{name}", media_type) for name, media_type in DASHBOARD.items()),
        _file("docs", "text/html", "index.html"),
        *(_file(f"docs/{name}", media_type) for name, media_type in DOCUMENTATION.items()),
    ]
    policy = [ResponseHeader(name=name, value=value) for name, value in HEADERS.items()]
    return Router("/", route_handlers=handlers, response_headers=policy)


def file(request: Request[Any, Any, Any], content: bytes, media_type: str) -> Response[Any]:
    """Return a file, or 304 if the client has it. Clients revalidate on each request, because updates change files."""
    tag = f'W/"{blake2b(content, digest_size=12).hexdigest()}"'
    headers = {"Cache-Control": "no-cache", "ETag": tag, "Vary": "Accept-Encoding"}
    if is_cached(tag, request.headers.get("If-None-Match")):
        return Response(None, status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _file(path: str, media_type: str, name: str | None = None) -> HTTPRouteHandler:
    """Return the route of a file. name: the file in this folder, by default the last part of the path."""
    content = (_FOLDER / (name or Path(path).name)).read_bytes()

    @get(f"/{path}")
    async def serve(request: Request[Any, Any, Any]) -> Response[Any]:
        return file(request, content, media_type)

    return serve
