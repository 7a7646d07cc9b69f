"""Tokens: who may read reports, and of which sources.

    REPORTER_TOKENS --parse_tokens--> Tokens --authenticate(Authorization header)--> Token
      | empty --> None: every client may read

Invariant: a token's text is never logged or shown. Only its SHA-256 is kept, and every comparison is in constant time.
"""

from __future__ import annotations

import binascii
import hmac
import re
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, cast
from urllib.parse import quote

from litestar.types import Scope

from core.errors import Misconfigured, SluiceError
from core.sources import SOURCES, SourceName
from reporter.parameters import SOURCE
from reporter.query_params import decode_pairs

MIN_TOKEN_CHARACTERS: Final = 16
CHALLENGE: Final = 'Basic realm="Sluice reports", charset="UTF-8", Bearer realm="Sluice reports"'
"""WWW-Authenticate of 401. Basic is first, because some browsers read the first challenge only."""

_SCOPE_KEY: Final = "sluice.token"
# The characters of a bearer token (RFC 6750), so that no client has to encode one.
_ENTRY: Final = re.compile(
    rf"(?P<name>[A-Za-z0-9._@-]{{1,64}}):(?P<token>[A-Za-z0-9._~+/-]{{{MIN_TOKEN_CHARACTERS},}}=*)(:(?P<sources>\S+))?"
)
_FORM: Final = f"name:token or name:token:source,source, with a token of {MIN_TOKEN_CHARACTERS} or more characters"


class Unauthenticated(SluiceError):
    """The request has no valid token."""


class SourceForbidden(SluiceError):
    """The token may not read the source that the request names."""

    def __init__(self, detail: str, allowed: Sequence[SourceName]) -> None:
        super().__init__(detail)
        self.parameter = SOURCE.name
        self.detail = detail
        self.allowed = tuple(allowed)


@dataclass(frozen=True)
class Token:
    """A token without its text. sources: those that it may read; None is all of them."""

    name: str
    digest: bytes
    sources: tuple[SourceName, ...] | None

    def restrict(self, query_string: bytes) -> bytes:
        """Return a report's query string that reads only the sources of this token. Raises SourceForbidden.

        A query without `source` reads the token's sources. A malformed query is returned unchanged; the report
        rejects it.
        """
        if self.sources is None:
            return query_string
        try:
            pairs = decode_pairs(query_string.decode("ascii"))
        except ValueError:
            return query_string
        wanted = [source for name, value in pairs if name == SOURCE.name for source in value.split(",")]
        if forbidden := [source for source in wanted if source not in self.sources]:
            raise SourceForbidden(f"the token {self.name} may not read {forbidden[0][:100]!r}", self.sources)
        if wanted:
            return query_string
        added = f"{SOURCE.name}={quote(','.join(self.sources), safe=',')}".encode()
        return query_string + b"&" + added if query_string else added


class Tokens:
    """All tokens of a reporter."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tuple(tokens)
        self.names = tuple(dict.fromkeys(token.name for token in tokens))

    def authenticate(self, authorization: str | None) -> Token:
        """Return the token of an Authorization header (Bearer or Basic). Raises Unauthenticated.

        The time does not depend on which token is right, or on how much of a wrong one is right.
        """
        if not authorization:
            raise Unauthenticated("reports need a token: as a Bearer token, or by Basic as the password of its name")
        name, text = _presented(authorization)
        digest, found = sha256(text).digest(), None
        for token in self._tokens:
            same_name = name is None or hmac.compare_digest(token.name.encode(), name)
            if hmac.compare_digest(token.digest, digest) & same_name:
                found = token
        if found is None:
            raise Unauthenticated("the token is unknown" if name is None else "the name or its token is unknown")
        return found


def parse_tokens(text: str | None) -> Tokens | None:
    """Return the tokens of REPORTER_TOKENS, None if there are none. Raises Misconfigured without any token's text.

    Entries are separated by spaces or line ends; lines that begin with # are comments.
    """
    lines = (line for line in (text or "").splitlines() if not line.lstrip().startswith("#"))
    tokens = [_token(number, entry) for number, entry in enumerate(" ".join(lines).split(), start=1)]
    if len({token.digest for token in tokens}) < len(tokens):
        raise Misconfigured("REPORTER_TOKENS: a token occurs more than once")
    return Tokens(tokens) if tokens else None


def _token(number: int, entry: str) -> Token:
    match = _ENTRY.fullmatch(entry)
    if match is None:
        raise Misconfigured(f"REPORTER_TOKENS: entry {number} has to be {_FORM}")
    sources: tuple[SourceName, ...] | None = None
    if match["sources"] is not None:
        wanted = match["sources"].split(",")
        if not set(wanted) <= set(SOURCES):
            raise Misconfigured(f"REPORTER_TOKENS: entry {number} has an unknown source; known: {', '.join(SOURCES)}")
        sources = tuple(source for source in SOURCES if source in wanted)
    return Token(match["name"], sha256(match["token"].encode()).digest(), sources)


def _presented(authorization: str) -> tuple[bytes | None, bytes]:
    """Return name and token of an Authorization header; a Bearer token has no name. Raises Unauthenticated."""
    scheme, _, credentials = authorization.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return None, credentials.strip().encode()
        case "basic":
            try:
                name, colon, text = b64decode(credentials.strip(), validate=True).partition(b":")
            except (binascii.Error, ValueError):
                raise Unauthenticated("the credentials of Basic are not base64") from None
            if colon:
                return name, text
    raise Unauthenticated("the Authorization header has to be Bearer TOKEN, or Basic with NAME:TOKEN")


def keep_token(scope: Scope, token: Token) -> None:
    """Keep the token of a request in its scope."""
    cast(dict[str, Any], scope)[_SCOPE_KEY] = token


def token_of(scope: Scope) -> Token | None:
    """Return the token of a request, None if it has none or needs none."""
    token: Token | None = cast(dict[str, Any], scope).get(_SCOPE_KEY)
    return token
