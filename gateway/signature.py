"""Who may post: proof of the sender, on the raw body, before anything of it is read.

A source may demand a proof (GATEWAY_FACEBOOK_SCHEME, GATEWAY_TIKTOK_SCHEME; off by default). A request is for all or
some sources, and what it may hold follows from what it proves:

    no proof ------------------> events of the sources that demand none; where each demands one: rejected (401)
    a proof that holds --------> those, and events of the sources whose scheme and secret it was made with
    proofs, none of which holds: rejected (401), even where a source demands none

Invariant: no event of a source that demands a proof is published, and no rejected one kept, from a request without it.
What a request holds is known after decoding: one event of a source that it may not hold rejects it whole (403).

Each secret is tried in constant time and none ends the search. A proof is no guard against sending the same again:
each event is stored once, however often it comes.
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
SHORTEST_SECRET: Final = 16
SHORTEST_KEY_BYTES: Final = 24  # of Standard Webhooks, by its specification
MOST_CLAIMS: Final = 10

_EVERY: Final = frozenset(SOURCES)
_META: Final = re.compile(r"sha256=([0-9a-f]{64})")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_SECONDS: Final = re.compile(r"[0-9]{1,12}")
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}")

Headers = Mapping[str, str]


class Proof(NamedTuple):
    """What a request says for itself.

    Of a signature: HMAC-SHA256 over `prefix` and the body, and `signed_at`, in seconds since 1970 where it tells so.
    Of a key: its SHA-256, and no signature.
    """

    claims: list[bytes]
    prefix: bytes | None = None
    signed_at: int | None = None


def _meta(headers: Headers) -> Proof | None:
    """Meta: `X-Hub-Signature-256: sha256=<hex>` over the body."""
    if (given := headers.get("x-hub-signature-256")) is None:
        return None
    if not (found := _META.fullmatch(given.strip())):
        raise _bad("X-Hub-Signature-256 is not sha256= and 64 hexadecimal digits")
    return Proof([bytes.fromhex(found[1])], b"")


def _tiktok(headers: Headers) -> Proof | None:
    """TikTok: `TikTok-Signature: t=<seconds>,s=<hex>` over time, point and body.

    As TikTok's documentation splits it: pairs in any order, and pairs of other names are ignored.
    """
    if (given := headers.get("tiktok-signature")) is None:
        return None
    pairs = [pair.partition("=") for pair in given.replace(" ", "").split(",")]
    times = [value for name, _, value in pairs if name == "t" and _SECONDS.fullmatch(value)]
    claims = [bytes.fromhex(value) for name, _, value in pairs if name == "s" and _SHA256.fullmatch(value)]
    if len(times) != 1 or not 1 <= len(claims) <= MOST_CLAIMS:
        raise _bad("TikTok-Signature is not t=<seconds>,s=<64 hexadecimal digits>")
    return Proof(claims, f"{times[0]}.".encode(), int(times[0]))


def _standard(headers: Headers) -> Proof | None:
    """Standard Webhooks: `webhook-signature: v1,<base64> …` over id, point, time, point and body.

    Svix sends the same as `svix-id`, `svix-timestamp` and `svix-signature`. As in the libraries of both, signatures of
    other versions (such as v1a, of a key pair) and those that are not base64 are skipped.
    """
    for sender in ("webhook", "svix"):
        name, at, given = (headers.get(f"{sender}-{part}", "") for part in ("id", "timestamp", "signature"))
        if name and at and given:
            break
    else:
        if headers.keys().isdisjoint(("webhook-signature", "svix-signature")):
            return None
        raise _bad("webhook-signature needs webhook-id and webhook-timestamp beside it; likewise for svix-signature")
    if not _SECONDS.fullmatch(at):
        raise _bad("the timestamp of a signature is in seconds since 1970")
    claims = []
    for version, _, text in (claim.partition(",") for claim in given.split()):
        with contextlib.suppress(ValueError):  # binascii.Error is one; text beyond ASCII raises another
            claims += [base64.b64decode(text, validate=True)] if version == "v1" else []
    if not 1 <= len(claims) <= MOST_CLAIMS:
        raise _bad(f"there are {len(claims)} signatures of version v1 in base64, not 1 to {MOST_CLAIMS}")
    return Proof(claims, f"{name}.{at}.".encode(errors="replace"), int(at))


def _key(headers: Headers) -> Proof | None:
    """A plain sender's key: `X-Api-Key: <key>` or `Authorization: Bearer <key>`; of both, either may be the key."""
    keys = []
    if (key := headers.get("x-api-key")) is not None:
        keys.append(key)
    kind, _, key = headers.get("authorization", "").replace("\t", " ").partition(" ")
    if kind.lower() == "bearer":
        keys.append(key)
    return Proof([_digest(key.strip()) for key in keys]) if keys else None


_PROOFS: Final[dict[str, Callable[[Headers], Proof | None]]] = {
    "meta": _meta,
    "tiktok": _tiktok,
    "standard": _standard,
    "key": _key,
}


class Demand(NamedTuple):
    """What a source demands: a scheme, and the secrets of which any will do."""

    scheme: str
    secrets: tuple[bytes, ...]


class Signatures:
    """Holds requests to what the settings demand. Raises Misconfigured."""

    def __init__(self, settings: GatewaySettings, clock: Callable[[], float] = time.time) -> None:
        self._tolerance_seconds = settings.gateway_signature_tolerance_seconds
        self._clock = clock
        self._token = settings.gateway_meta_verify_token
        self._demands: dict[Demand, set[SourceName]] = defaultdict(set)
        for source in SOURCES:
            if demand := _demand(settings, source):
                self._demands[demand].add(source)
        self._free = _EVERY.difference(*self._demands.values())

    async def check(self, headers: Headers, body: bytes) -> frozenset[SourceName]:
        """The sources of which this request may hold events. `headers` has lower-case names. Raises Rejected."""
        if not self._demands:
            return _EVERY
        proved: set[SourceName] = set()
        why: Rejected | None = None
        for demand, sources in self._demands.items():
            try:
                if proof := _PROOFS[demand.scheme](headers):
                    await self._hold(proof, demand, body)
                    proved |= sources
            except Rejected as error:
                why = why or error
        if proved:
            return self._free | proved
        if why:
            try:
                raise why
            finally:
                del why  # its traceback holds this frame, with the body
        if not self._free:
            schemes = ", ".join(sorted({demand.scheme for demand in self._demands}))
            raise Rejected(Rejection.UNSIGNED, f"this gateway takes signed requests alone; schemes: {schemes}")
        return self._free

    async def _hold(self, proof: Proof, demand: Demand, body: bytes) -> None:
        """Raises Rejected where the proof does not hold."""
        if proof.signed_at is not None and abs(self._clock() - proof.signed_at) > self._tolerance_seconds:
            raise Rejected(
                Rejection.STALE_SIGNATURE,
                f"the signature's time lies more than {self._tolerance_seconds:g} s from this gateway's clock",
            )
        if proof.prefix is None:
            expected = list(demand.secrets)
        elif len(body) <= INLINE_BYTES:
            expected = _signed(demand.secrets, proof.prefix, body)
        else:  # hashing lets go of the interpreter
            expected = await asyncio.to_thread(_signed, demand.secrets, proof.prefix, body)
        holds = False
        for secret in expected:
            for claim in proof.claims:
                holds |= hmac.compare_digest(secret, claim)
        if not holds:
            raise _bad("the key is not known" if proof.prefix is None else "the signature is not one of this body")

    def only(self, allowed: frozenset[SourceName], held: set[SourceName]) -> None:
        """Raises Rejected where a request holds events of a source that it may not hold."""
        if foreign := held - allowed:
            names = ", ".join(sorted(foreign))
            raise Rejected(Rejection.FOREIGN_SOURCE, f"this request does not prove that it may hold events of {names}")

    @property
    def answers_challenges(self) -> bool:
        """Whether Meta may ask if we know its verify token."""
        return self._token is not None

    def challenge(self, mode: str | None, token: str | None, challenge: str | None) -> str:
        """The answer to Meta's question before it sends anything (`hub.mode` and so on). Raises Rejected."""
        known = hmac.compare_digest(_digest(self._token or ""), _digest(token or ""))
        if not (self._token and known and mode == "subscribe" and challenge and _CHALLENGE.fullmatch(challenge)):
            raise Rejected(Rejection.NOT_VERIFIED, "hub.mode, hub.verify_token or hub.challenge is not as it should be")
        return challenge


def _demand(settings: GatewaySettings, source: SourceName) -> Demand | None:
    """What one source demands by the settings. Raises Misconfigured, without the secret."""
    scheme = getattr(settings, f"gateway_{source}_scheme")
    variable = f"GATEWAY_{source.upper()}_SECRETS"
    given = re.split(r"[\s,]+", (getattr(settings, variable.lower()) or "").strip(" \t\r\n,"))
    secrets = [secret for secret in given if secret]
    if scheme == "off":
        if secrets:
            raise Misconfigured(f"{variable} is set and GATEWAY_{source.upper()}_SCHEME is off: choose a scheme")
        return None
    if not secrets:
        raise Misconfigured(f"{variable}: GATEWAY_{source.upper()}_SCHEME={scheme} needs at least one secret")
    if scheme == "standard":
        return Demand(scheme, tuple(_standard_key(secret, variable) for secret in secrets))
    if min(map(len, secrets)) < SHORTEST_SECRET:
        raise Misconfigured(f"{variable}: a secret has at least {SHORTEST_SECRET} characters")
    return Demand(scheme, tuple(_digest(secret) if scheme == "key" else secret.encode() for secret in secrets))


def _standard_key(secret: str, variable: str) -> bytes:
    text = secret.removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        key = b""
    if len(key) < SHORTEST_KEY_BYTES:
        raise Misconfigured(f"{variable}: a secret is whsec_ and the base64 of at least {SHORTEST_KEY_BYTES} bytes")
    return key


def _signed(secrets: tuple[bytes, ...], prefix: bytes, body: bytes) -> list[bytes]:
    """The HMAC-SHA256 of prefix and body under each secret."""
    signed = []
    for secret in secrets:
        code = hmac.new(secret, prefix, hashlib.sha256)
        code.update(body)
        signed.append(code.digest())
    return signed


def _digest(text: str) -> bytes:
    """Of one length whatever the text: comparing it does not tell how long a secret is."""
    return hashlib.sha256(text.encode(errors="replace")).digest()


def _bad(detail: str) -> Rejected:
    return Rejected(Rejection.BAD_SIGNATURE, detail)
