"""The gateway's documentation pages: /docs, /openapi.json and /events.schema.json.

Invariant: all of it is static, public text derived from the contract, without data of requests, events or settings. The
page loads nothing from other servers; its content security policy allows only its own script and style. Instants in
examples are the current time, because the contract rejects old events.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final, NamedTuple

import msgspec

from core.events.examples import AT, EXAMPLES
from core.events.reference import MEANINGS, rows, schema
from gateway import openapi
from gateway.batch import MAX_LISTED_ERRORS

_FOLDER: Final = Path(__file__).parent


class Document(NamedTuple):
    """The document served at one path."""

    headers: Mapping[str, str]
    content: bytes

    @property
    def body(self) -> bytes:
        """The content, with the current time in its examples."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        return self.content.replace(AT.encode(), now.encode())


def documents() -> dict[str, Document]:
    """Return all documents by path."""
    described, json = openapi.document(), msgspec.json.encode
    return {
        "/docs": _page(described["paths"]["/events"]["post"]["responses"]),
        "/openapi.json": Document(_headers("application/vnd.oai.openapi+json"), json(described)),
        "/events.schema.json": Document(_headers("application/schema+json"), json(schema())),
    }


def _page(answers: dict[str, Any]) -> Document:
    style, script = ((_FOLDER / name).read_text() for name in ("page.css", "page.js"))
    text = Template((_FOLDER / "page.html").read_text()).substitute(
        style=style,
        script=script,
        buttons=" ".join(f'<button data-example="{name}">{name}</button>' for name in EXAMPLES),
        body=escape(msgspec.json.format(msgspec.json.encode(next(iter(EXAMPLES.values())))).decode()),
        examples=msgspec.json.encode({"now": AT, **EXAMPLES}).decode(),
        fields=_table((f"`{row.path}`", row.events, row.field_type, row.allowed) for row in rows()),
        answers=_table((status, answer["description"]) for status, answer in sorted(answers.items())),
        listed=MAX_LISTED_ERRORS,
        reasons=_table((f"`{reason}`", meaning) for reason, meaning in MEANINGS.items()),
    )
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
    return Document(_headers("text/html; charset=utf-8") | headers, text.encode())


def _table(lines: Iterable[Iterable[str]]) -> str:
    return "".join("<tr>" + "".join(f"<td>{_marked(cell)}" for cell in cells) + "\n" for cells in lines)


def _marked(text: str) -> str:
    """Return text as HTML, with `code` marked up."""
    plain, *rest = escape(text).split("`")
    return plain + "".join(f"<code>{part}" if number % 2 == 0 else f"</code>{part}" for number, part in enumerate(rest))


def _hash(inline: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"


def _headers(media_type: str) -> dict[str, str]:
    return {"Content-Type": media_type, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
