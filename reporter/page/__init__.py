"""The built-in web pages: the dashboard at the root, and the documentation of the API with a form for each report.

They are the files in this folder as they stand, and load nothing from elsewhere; their content security policy says so.
"""

from __future__ import annotations

from hashlib import blake2b
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from litestar import Request, Response, Router, get
from litestar.datastructures import ResponseHeader
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.plugins import OpenAPIRenderPlugin

from reporter.answer import is_known

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

FILES: Final = {"page.js": "text/javascript", "page.css": "text/css"}
DASHBOARD: Final = {
    "dashboard.css": "text/css",
    **dict.fromkeys(
        (
            *("dashboard.js", "pipeline.js", "report.js", "controls.js", "chart.js", "table.js"),
            *("again.js", "element.js", "moment.js"),
        ),
        "text/javascript",
    ),
}

_FOLDER: Final = Path(__file__).parent
_INDEX: Final = (_FOLDER / "index.html").read_bytes()
_TOLD: Final = [ResponseHeader(name=name, value=value) for name, value in HEADERS.items()]


def router() -> Router:
    """The dashboard: its page at the root, its files under /page."""
    handlers = [_file(f"page/{name}", media_type) for name, media_type in DASHBOARD.items()]
    return Router("/", route_handlers=[_file("", "text/html", "dashboard.html"), *handlers], response_headers=_TOLD)


class DocumentationPage(OpenAPIRenderPlugin):
    """Serves the page at the root of the documentation's path, and its files beside it."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def has_path(self, path: str) -> bool:
        """Claims the framework's own address of the document, so that there is none beside /openapi.json."""
        return path == "/openapi.json" or super().has_path(path)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        """The page: it fetches the document by itself."""
        return _INDEX

    def receive_router(self, router: Router) -> None:
        """Add the page's files, and the headers that keep it to them."""
        router.after_request = _told
        router.response_headers = _TOLD
        for name, media_type in FILES.items():
            router.register(_file(name, media_type))


def file(request: Request[Any, Any, Any], content: bytes, media_type: str) -> Response[Any]:
    """A file, or 304 if the client has this one. A newer program has newer files, so clients ask each time."""
    tag = f'W/"{blake2b(content, digest_size=12).hexdigest()}"'
    headers = {"Cache-Control": "no-cache", "ETag": tag, "Vary": "Accept-Encoding"}
    if is_known(tag, request.headers.get("If-None-Match")):
        return Response(None, status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


async def _told(response: Response[Any]) -> Response[Any]:
    """What is not there is told as everywhere else: the framework answers with a page of its own."""
    if response.status_code == HTTPStatus.NOT_FOUND:
        raise NotFoundException
    response.headers.setdefault("Cache-Control", "no-cache")
    return response


def _file(path: str, media_type: str, name: str | None = None) -> HTTPRouteHandler:
    """Serve a file; where none is named, the one at the end of its path."""
    content = (_FOLDER / (name or Path(path).name)).read_bytes()

    @get(f"/{path}", include_in_schema=False)
    async def serve(request: Request[Any, Any, Any]) -> Response[Any]:
        return file(request, content, media_type)

    return serve
