"""The built-in web page: the documentation of the API, drawn from its OpenAPI document, and a form for each report.

It is made of the files in this folder alone and loads nothing from elsewhere; its content security policy says so.
"""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from litestar import Request, Response, Router, get
from litestar.datastructures import ResponseHeader
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.plugins import OpenAPIRenderPlugin

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

FILES: Final = {"page.js": "text/javascript", "page.css": "text/css"}

_FOLDER: Final = Path(__file__).parent
_INDEX: Final = (_FOLDER / "index.html").read_bytes()


class DocumentationPage(OpenAPIRenderPlugin):
    """Serves the page at the root of the documentation's path, and its files beside it."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        """The page: it fetches the document by itself."""
        return _INDEX

    def receive_router(self, router: Router) -> None:
        """Add the page's files, and the headers that keep it to them."""
        router.after_request = _told
        router.response_headers = [ResponseHeader(name=name, value=value) for name, value in HEADERS.items()]
        for name, media_type in FILES.items():
            router.register(_file(name, media_type))


async def _told(response: Response[Any]) -> Response[Any]:
    """What is not there is told as everywhere else: the framework answers with a page of its own."""
    if response.status_code == HTTPStatus.NOT_FOUND:
        raise NotFoundException
    return response


def _file(name: str, media_type: str) -> HTTPRouteHandler:
    content = (_FOLDER / name).read_bytes()

    @get(f"/{name}", media_type=media_type, include_in_schema=False)
    async def serve() -> bytes:
        return content

    return serve
