"""Who may post: the four schemes held to digests that another program made, rotation, time, and what is free."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import Misconfigured
from core.events.subjects import Source
from core.settings import GatewaySettings
from gateway.refusal import Refusal, Refused
from gateway.signature import INLINE_BYTES, Signatures

NOW = 1_700_000_000
BODY = b'[{"a":1}]'
SECRET = "0123456789abcdef" * 2
OLD = "fedcba9876543210" * 2
STANDARD = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"
# Made with `openssl dgst -sha256 -hmac`.
META = "sha256=99536b2d990a1629cce94baab9f30cc36336d9b214c5110d091991db47244917"
TIKTOK = f"t={NOW},s=489072320817f2407988fcdebd2257d3f4f266e04c21562e57361f2ecf7d2d5a"
V1 = "v1,qfeBG/X6D/etlDDn5UAHUUJK9GmD+s2riysi3V8/RKA="
STANDARD_HEADERS = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW), "webhook-signature": V1}

HEADERS = {
    "meta": {"x-hub-signature-256": META},
    "tiktok": {"tiktok-signature": TIKTOK},
    "standard": STANDARD_HEADERS,
    "key": {"authorization": f"Bearer {SECRET}"},
}
SECRETS = {"meta": SECRET, "tiktok": SECRET, "standard": STANDARD, "key": SECRET}
REFUSED = (Refusal.BAD_SIGNATURE, Refusal.STALE_SIGNATURE)
BOTH: frozenset[Source] = frozenset({"facebook", "tiktok"})


def demanding(now: float = NOW, **settings: object) -> Signatures:
    """Signatures under these settings, without GATEWAY_ in front."""
    chosen = {f"gateway_{name}": value for name, value in settings.items()}
    return Signatures(GatewaySettings(**chosen), clock=lambda: now)  # type: ignore[arg-type]


def of_both(scheme: str, *, now: float = NOW, secrets: str | None = None) -> Signatures:
    """Both sources demand the same."""
    chosen = secrets or SECRETS[scheme]
    return demanding(now, facebook_scheme=scheme, facebook_secrets=chosen, tiktok_scheme=scheme, tiktok_secrets=chosen)


async def refusal(signatures: Signatures, headers: dict[str, str], body: bytes = BODY) -> Refusal:
    with pytest.raises(Refused) as caught:
        await signatures.check(headers, body)
    return caught.value.refusal


async def test_off_by_default() -> None:
    """The given publisher signs nothing: anything goes, and headers that nobody asked for are not looked at."""
    assert await demanding().check({"x-hub-signature-256": "rubbish"}, BODY) == BOTH


@pytest.mark.parametrize("scheme", HEADERS)
async def test_a_proof_holds(scheme: str) -> None:
    """What another program signed is taken; without it, or with one letter changed, the request is refused."""
    signatures = of_both(scheme)
    assert await signatures.check(HEADERS[scheme], BODY) == BOTH
    assert await refusal(signatures, {}) is Refusal.UNSIGNED
    for name, value in HEADERS[scheme].items():
        middle = len(value) // 2
        other = value[:middle] + ("0" if value[middle] != "0" else "1") + value[middle + 1 :]
        assert await refusal(signatures, HEADERS[scheme] | {name: other}) in REFUSED
    if scheme != "key":
        assert await refusal(signatures, HEADERS[scheme], BODY + b" ") is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("scheme", HEADERS)
async def test_secrets_may_be_replaced(scheme: str) -> None:
    """Several secrets hold at once, wherever they stand in the setting, and one that was taken away does not."""
    other = "whsec_" + "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0" if scheme == "standard" else OLD
    for secrets in (f"{SECRETS[scheme]} {other}", f"{other},{SECRETS[scheme]}", f"\n{other}\n{SECRETS[scheme]}\n"):
        assert await of_both(scheme, secrets=secrets).check(HEADERS[scheme], BODY) == BOTH
    assert await refusal(of_both(scheme, secrets=other), HEADERS[scheme]) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("scheme", ["tiktok", "standard"])
async def test_a_signature_has_its_time(scheme: str) -> None:
    """A signature is good for the tolerance, before and after; past it, it is refused for its age."""
    for now in (NOW - 300, NOW + 300):
        assert await of_both(scheme, now=now).check(HEADERS[scheme], BODY) == BOTH
    for now in (NOW - 301, NOW + 301):
        assert await refusal(of_both(scheme, now=now), HEADERS[scheme]) is Refusal.STALE_SIGNATURE


@pytest.mark.parametrize(
    ("scheme", "headers"),
    [
        ("meta", {"x-hub-signature-256": ""}),
        ("meta", {"x-hub-signature-256": META.removeprefix("sha256=")}),
        ("meta", {"x-hub-signature-256": META.replace("sha256", "sha1")}),
        ("meta", {"x-hub-signature-256": f"{META}, {META}"}),
        ("tiktok", {"tiktok-signature": TIKTOK.partition(",")[2]}),
        ("tiktok", {"tiktok-signature": TIKTOK.replace("t=", "t=+")}),
        ("tiktok", {"tiktok-signature": "t=" + "9" * 5000 + TIKTOK[12:]}),
        ("tiktok", {"tiktok-signature": TIKTOK.replace("t=1", "t=\u0661")}),
        ("standard", STANDARD_HEADERS | {"webhook-id": ""}),
        ("standard", STANDARD_HEADERS | {"webhook-timestamp": "yesterday"}),
        ("standard", STANDARD_HEADERS | {"webhook-timestamp": f"{NOW}.0"}),
        ("standard", STANDARD_HEADERS | {"webhook-signature": V1.replace("v1", "v1a")}),
        ("standard", STANDARD_HEADERS | {"webhook-signature": "v1,???"}),
        ("standard", STANDARD_HEADERS | {"webhook-signature": " ".join([V1] * 11)}),
        ("standard", STANDARD_HEADERS | {"webhook-id": "\ud800"}),
        ("key", {"authorization": "Bearer"}),
        ("key", {"x-api-key": ""}),
        ("key", {"x-api-key": "\ud800"}),
    ],
)
async def test_what_cannot_be_read_is_a_bad_signature(scheme: str, headers: dict[str, str]) -> None:
    """A header that is there and makes no sense is refused as such, not taken for an unsigned request."""
    assert await refusal(of_both(scheme), headers) is Refusal.BAD_SIGNATURE


async def test_a_key_may_come_in_either_header() -> None:
    """X-Api-Key and Authorization: Bearer are the same; another kind of authorization is no key."""
    signatures = of_both("key")
    for headers in ({"x-api-key": SECRET}, {"authorization": f"bearer {SECRET}"}):
        assert await signatures.check(headers, BODY) == BOTH
    assert await refusal(signatures, {"authorization": f"Basic {SECRET}"}) is Refusal.UNSIGNED


async def test_several_signatures_in_one_header() -> None:
    """A sender that replaces its secret signs with both: one that holds is enough, kinds that we do not know pass."""
    other = "v1," + "A" * 43 + "="
    headers = STANDARD_HEADERS | {"webhook-signature": f"v1a,AAAA {other} {V1}"}
    assert await of_both("standard").check(headers, BODY) == BOTH


async def test_large_bodies_hold_like_small_ones() -> None:
    """A body that is hashed in a thread gives the same answer."""
    body = b"[" + b" " * INLINE_BYTES + b"]"
    signatures = of_both("meta")
    assert await refusal(signatures, HEADERS["meta"], body) is Refusal.BAD_SIGNATURE
    signed = {"x-hub-signature-256": "sha256=3b0cee458ecb61cb71d6e894cb7ab58644b182e4082bc977398089491ff8da32"}
    assert await signatures.check(signed, body) == BOTH


async def test_each_source_speaks_for_itself() -> None:
    """A proof is good for the sources that demand it, and for those that demand none; no more."""
    signatures = demanding(
        facebook_scheme="meta", facebook_secrets=SECRET, tiktok_scheme="tiktok", tiktok_secrets=SECRET
    )
    assert await signatures.check(HEADERS["meta"], BODY) == {"facebook"}
    assert await signatures.check(HEADERS["tiktok"], BODY) == {"tiktok"}
    assert await signatures.check(HEADERS["meta"] | HEADERS["tiktok"], BODY) == BOTH
    assert await signatures.check(HEADERS["meta"] | {"tiktok-signature": "t=1,s=2"}, BODY) == {"facebook"}
    free = demanding(facebook_scheme="meta", facebook_secrets=SECRET)
    assert await free.check({}, BODY) == {"tiktok"}
    assert await free.check(HEADERS["meta"], BODY) == BOTH
    assert await refusal(free, {"x-hub-signature-256": META[:-1] + "0"}) is Refusal.BAD_SIGNATURE


async def test_two_senders_with_keys_of_their_own() -> None:
    """One scheme with other secrets for each source: a key opens its own source alone."""
    signatures = demanding(facebook_scheme="key", facebook_secrets=SECRET, tiktok_scheme="key", tiktok_secrets=OLD)
    assert await signatures.check({"x-api-key": SECRET}, BODY) == {"facebook"}
    assert await signatures.check({"x-api-key": OLD}, BODY) == {"tiktok"}


def test_events_of_another_source_refuse_the_whole() -> None:
    """What a request may not hold names the source in the refusal."""
    signatures = of_both("key")
    signatures.only(BOTH, {"facebook"})
    with pytest.raises(Refused, match="events of tiktok") as caught:
        signatures.only(frozenset({"facebook"}), {"facebook", "tiktok"})
    assert caught.value.refusal is Refusal.FOREIGN_SOURCE


def test_metas_question() -> None:
    """The challenge comes back to whoever knows the token; to nobody where none is set."""
    signatures = demanding(meta_verify_token="a token of ours")
    assert signatures.answers_challenges
    assert signatures.challenge("subscribe", "a token of ours", "1158201444") == "1158201444"
    for asked in (
        ("subscribe", "another", "1"),
        ("subscribe", None, "1"),
        ("unsubscribe", "a token of ours", "1"),
        ("subscribe", "a token of ours", None),
        ("subscribe", "a token of ours", "<script>"),
        ("subscribe", "a token of ours", "1" * 257),
    ):
        with pytest.raises(Refused) as caught:
            signatures.challenge(*asked)
        assert caught.value.refusal is Refusal.NOT_VERIFIED
    assert not demanding().answers_challenges
    with pytest.raises(Refused):
        demanding().challenge("subscribe", "", "1")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"facebook_scheme": "meta"}, "GATEWAY_FACEBOOK_SECRETS: .* needs at least one secret"),
        ({"tiktok_scheme": "key", "tiktok_secrets": " , "}, "GATEWAY_TIKTOK_SECRETS: .* needs at least one"),
        ({"tiktok_scheme": "key", "tiktok_secrets": f"{SECRET} short"}, "at least 16 characters"),
        ({"facebook_scheme": "standard", "facebook_secrets": "whsec_c2hvcnQ="}, "at least 24 bytes"),
        ({"facebook_scheme": "standard", "facebook_secrets": "whsec_?"}, "at least 24 bytes"),
        ({"facebook_secrets": SECRET}, "GATEWAY_FACEBOOK_SCHEME is off"),
    ],
)
def test_half_a_setting_is_told_without_the_secret(settings: dict[str, Any], said: str) -> None:
    """A scheme without secrets, secrets without a scheme and weak ones keep the gateway from starting."""
    with pytest.raises(Misconfigured, match=said) as caught:
        demanding(**settings)
    assert "short" not in str(caught.value)
    assert SECRET not in str(caught.value)
