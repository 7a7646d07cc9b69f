"""Authenticate requests by a signature or a key, before the body is parsed.

A source may require authentication (GATEWAY_FACEBOOK_SCHEME, GATEWAY_TIKTOK_SCHEME; off by default). A request may
contain events of several sources. Its credentials decide which:

    no credentials --------> events of the sources that require none; if every source requires some: 401
    a valid credential ----> those, and events of the sources whose scheme and secret it matches
    only invalid ones -----> 401, even if some source requires none

Invariant: without a valid credential, no event of a source that requires one is published, and no rejected one is kept.
The sources of a request are known after decoding: one event of a source that is not allowed rejects the request (403).

Each secret is compared in constant time, and a match does not end the loop. A signature does not prevent a replay: each
event is stored once, however often it is sent.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from core.errors import Misconfigured
from core.sources import SOURCES, SourceName
from gateway.rejection import Rejected, Rejection
from gateway.settings import GatewaySettings

INLINE_BYTES: Final = 64 * 1024  # hashed on the event loop: 0.1 ms; a thread costs more
MIN_SECRET_CHARACTERS: Final = 16
MIN_KEY_BYTES: Final = 24  # required by Standard Webhooks
MAX_SIGNATURES: Final = 10

_ALL_SOURCES: Final = frozenset(SOURCES)
_META: Final = re.compile(r"sha256=([0-9a-f]{64})")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}")

Headers = Mapping[str, str]


class Credential(NamedTuple):
    """The credentials of a request.

    A signature: HMAC-SHA256 over `prefix` and the body; `signed_at` is in seconds since 1970, if the scheme has a time.
    A key: its SHA-256, without prefix.
    """

    claims: list[bytes]
    prefix: bytes | None = None
    signed_at: int | None = None


def _meta(headers: Headers) -> Credential | None:
    """Read Meta's header: `X-Hub-Signature-256: sha256=<hex>` over the body."""
    if (header := headers.get("x-hub-signature-256")) is None:
        return None
    if not (match := _META.fullmatch(header.strip())):
        raise _bad_signature("X-Hub-Signature-256 is not sha256=<64 hexadecimal digits>")
    return Credential([bytes.fromhex(match[1])], b"")


def _tiktok(headers: Headers) -> Credential | None:
    """Read TikTok's header: `TikTok-Signature: t=<seconds>,s=<hex>` over time, point and body.

    As TikTok's documentation says, pairs may be in any order, and pairs with other names are ignored.
    """
    if (header := headers.get("tiktok-signature")) is None:
        return None
    pairs = [pair.partition("=") for pair in header.replace(" ", "").split(",")]
    times = [value for name, _, value in pairs if name == "t" and _SECONDS.fullmatch(value)]
    claims = [bytes.fromhex(value) for name, _, value in pairs if name == "s" and _SHA256.fullmatch(value)]
    if len(times) != 1 or not 1 <= len(claims) <= MAX_SIGNATURES:
        raise _bad_signature("TikTok-Signature is not t=<seconds>,s=<64 hexadecimal digits>")
    return Credential(claims, f"{times[0]}.".encode(), int(times[0]))


def _standard(headers: Headers) -> Credential | None:
    """Read Standard Webhooks headers: `webhook-signature: v1,<base64> …` over id, point, time, point and body.

    Svix sends the same as `svix-id`, `svix-timestamp` and `svix-signature`. As in the libraries of both, signatures of
    other versions (such as v1a) and those that are not base64 are skipped.
    """
    for sender in ("webhook", "svix"):
        name, at, header = (headers.get(f"{sender}-{part}", "") for part in ("id", "timestamp", "signature"))
        if name and at and header:
            break
    else:
        if headers.keys().isdisjoint(("webhook-signature", "svix-signature")):
            return None
        raise _bad_signature("webhook-signature needs webhook-id and webhook-timestamp; the same for svix-signature")
    if not _SECONDS.fullmatch(at):
        raise _bad_signature("the timestamp of a signature must be in seconds since 1970")
    claims = []
    for version, _, text in (claim.partition(",") for claim in header.split()):
        with contextlib.suppress(
            ValueError
        ):  # binascii.Error is a ValueError, and so is the error for text beyond ASCII
            claims += [base64.b64decode(text, validate=True)] if version == "v1" else []
    if not 1 <= len(claims) <= MAX_SIGNATURES:
        raise _bad_signature(
            f"there must be 1 to {MAX_SIGNATURES} signatures of version v1 in base64, not {len(claims)}"
        )
    return Credential(claims, f"{name}.{at}.".encode(errors="replace"), int(at))


def _key(headers: Headers) -> Credential | None:
    """Read an API key: `X-Api-Key: <key>` or `Authorization: Bearer <key>`. If both exist, either may be valid."""
    keys = []
    if (key := headers.get("x-api-key")) is not None:
        keys.append(key)
    scheme, _, key = headers.get("authorization", "").replace("\t", " ").partition(" ")
    if scheme.lower() == "bearer":
        keys.append(key)
    return Credential([_digest(key.strip()) for key in keys]) if keys else None


_CREDENTIALS: Final[dict[str, Callable[[Headers], Credential | None]]] = {
    "meta": _meta,
    "tiktok": _tiktok,
    "standard": _standard,
    "key": _key,
}


class Requirement(NamedTuple):
    """What a source requires: a scheme, and secrets of which one must match."""

    scheme: str
    secrets: tuple[bytes, ...]


class Signatures:
    """Check requests against the schemes in the settings. Raises Misconfigured."""

    def __init__(self, settings: GatewaySettings, clock: Callable[[], float] = time.time) -> None:
        self._tolerance_seconds = settings.gateway_signature_tolerance_seconds
        self._clock = clock
        self._verify_token = settings.gateway_meta_verify_token
        self._requirements: dict[Requirement, set[SourceName]] = defaultdict(set)
        for source in SOURCES:
            if requirement := _requirement(settings, source):
                self._requirements[requirement].add(source)
        self._unauthenticated = _ALL_SOURCES.difference(*self._requirements.values())

    async def check(self, headers: Headers, body: bytes) -> frozenset[SourceName]:
        """Return the sources whose events this request may contain. `headers` has lower-case names. Raises Rejected."""
        if not self._requirements:
            return _ALL_SOURCES
        proved: set[SourceName] = set()
        first_error: Rejected | None = None
        for requirement, sources in self._requirements.items():
            try:
                if credential := _CREDENTIALS[requirement.scheme](headers):
                    await self._verify(credential, requirement, body)
                    proved |= sources
            except Rejected as error:
                first_error = first_error or error
        if proved:
            return self._unauthenticated | proved
        if first_error:
            try:
                raise first_error
            finally:
                del first_error  # its traceback holds this frame, with the body
        if not self._unauthenticated:
            schemes = ", ".join(sorted({requirement.scheme for requirement in self._requirements}))
            raise Rejected(Rejection.UNSIGNED, f"this gateway requires authenticated requests; schemes: {schemes}")
        return self._unauthenticated

    async def _verify(self, credential: Credential, requirement: Requirement, body: bytes) -> None:
        """Check a credential. Raises Rejected if it is invalid."""
        if credential.signed_at is not None and abs(self._clock() - credential.signed_at) > self._tolerance_seconds:
            raise Rejected(
                Rejection.STALE_SIGNATURE,
                f"the time of the signature is more than {self._tolerance_seconds:g} s from this gateway's clock",
            )
        if credential.prefix is None:
            expected = list(requirement.secrets)
        elif len(body) <= INLINE_BYTES:
            expected = _signed(requirement.secrets, credential.prefix, body)
        else:  # hashing releases the interpreter lock
            expected = await asyncio.to_thread(_signed, requirement.secrets, credential.prefix, body)
        holds = False
        for secret in expected:
            for claim in credential.claims:
                holds |= hmac.compare_digest(secret, claim)
        if not holds:
            raise _bad_signature(
                "the key is not valid" if credential.prefix is None else "the signature does not match the body"
            )

    def check_sources(self, allowed: frozenset[SourceName], held: set[SourceName]) -> None:
        """Raise Rejected if a request has events of a source that is not allowed."""
        if foreign := held - allowed:
            names = ", ".join(sorted(foreign))
            raise Rejected(Rejection.FOREIGN_SOURCE, f"the credentials of this request do not allow events of {names}")

    @property
    def answers_challenges(self) -> bool:
        """Whether GET /events answers Meta's verification request."""
        return self._verify_token is not None

    def challenge(self, mode: str | None, token: str | None, challenge: str | None) -> str:
        """Return the challenge of Meta's verification request (`hub.mode` and so on). Raises Rejected."""
        known = hmac.compare_digest(_digest(self._verify_token or ""), _digest(token or ""))
        if not (self._verify_token and known and mode == "subscribe" and challenge and _CHALLENGE.fullmatch(challenge)):
            raise Rejected(
                Rejection.NOT_VERIFIED, "hub.mode, hub.verify_token or hub.challenge is missing or not valid"
            )
        return challenge


def _requirement(settings: GatewaySettings, source: SourceName) -> Requirement | None:
    """Return what the settings require of one source. Raises Misconfigured, without the secret."""
    scheme = getattr(settings, f"gateway_{source}_scheme")
    variable = f"GATEWAY_{source.upper()}_SECRETS"
    secrets_text = re.split(r"[\s,]+", (getattr(settings, variable.lower()) or "").strip(" \t\r\n,"))
    secrets = [secret for secret in secrets_text if secret]
    if scheme == "off":
        if secrets:
            raise Misconfigured(f"{variable} is set and GATEWAY_{source.upper()}_SCHEME is off: set a scheme")
        return None
    if not secrets:
        raise Misconfigured(f"{variable}: GATEWAY_{source.upper()}_SCHEME={scheme} needs at least one secret")
    if scheme == "standard":
        return Requirement(scheme, tuple(_standard_key(secret, variable) for secret in secrets))
    if min(map(len, secrets)) < MIN_SECRET_CHARACTERS:
        raise Misconfigured(f"{variable}: a secret needs at least {MIN_SECRET_CHARACTERS} characters")
    return Requirement(scheme, tuple(_digest(secret) if scheme == "key" else secret.encode() for secret in secrets))


def _standard_key(secret: str, variable: str) -> bytes:
    text = secret.removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        key = b""
    if len(key) < MIN_KEY_BYTES:
        raise Misconfigured(f"{variable}: a secret must be whsec_ and the base64 of at least {MIN_KEY_BYTES} bytes")
    return key


def _signed(secrets: tuple[bytes, ...], prefix: bytes, body: bytes) -> list[bytes]:
    """Return the HMAC-SHA256 of prefix and body with each secret."""
    signed = []
    for secret in secrets:
        code = hmac.new(secret, prefix, hashlib.sha256)
        code.update(body)
        signed.append(code.digest())
    return signed


def _digest(text: str) -> bytes:
    """Return a digest of fixed length, so that a comparison does not leak the length of the secret."""
    return hashlib.sha256(text.encode(errors="replace")).digest()


def _bad_signature(detail: str) -> Rejected:
    return Rejected(Rejection.BAD_SIGNATURE, detail)
