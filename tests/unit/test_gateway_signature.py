"""Who may post: the four schemes held to digests that another program made, rotation, time, and what is free."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest

from core.errors import Misconfigured
from core.sources import SourceName
from gateway.rejection import Rejected, Rejection
from gateway.settings import GatewaySettings
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
REJECTED = (Rejection.BAD_SIGNATURE, Rejection.STALE_SIGNATURE)
BOTH: frozenset[SourceName] = frozenset({"facebook", "tiktok"})


def demanding(now: float = NOW, **settings: object) -> Signatures:
    """Signatures under these settings, without GATEWAY_ in front."""
    values = {f"gateway_{name}": value for name, value in settings.items()}
    return Signatures(GatewaySettings(**values), clock=lambda: now)


def of_both(scheme: str, *, now: float = NOW, secrets: str | None = None) -> Signatures:
    """Both sources demand the same."""
    accepted = secrets or SECRETS[scheme]
    return demanding(
        now, facebook_scheme=scheme, facebook_secrets=accepted, tiktok_scheme=scheme, tiktok_secrets=accepted
    )


async def rejection(signatures: Signatures, headers: dict[str, str], body: bytes = BODY) -> Rejection:
    with pytest.raises(Rejected) as caught:
        await signatures.check(headers, body)
    return caught.value.rejection


async def test_off_by_default() -> None:
    """The given publisher signs nothing: anything goes, and headers that no one asked for are not looked at."""
    assert await demanding().check({"x-hub-signature-256": "rubbish"}, BODY) == BOTH


@pytest.mark.parametrize("scheme", HEADERS)
async def test_a_proof_holds(scheme: str) -> None:
    """What another program signed is taken; without it, or with one dead letter changed, the request is rejected."""
    signatures = of_both(scheme)
    assert await signatures.check(HEADERS[scheme], BODY) == BOTH
    assert await rejection(signatures, {}) is Rejection.UNSIGNED
    for name, value in HEADERS[scheme].items():
        middle = len(value) // 2
        other = value[:middle] + ("0" if value[middle] != "0" else "1") + value[middle + 1 :]
        assert await rejection(signatures, HEADERS[scheme] | {name: other}) in REJECTED
    if scheme != "key":
        assert await rejection(signatures, HEADERS[scheme], BODY + b" ") is Rejection.BAD_SIGNATURE


@pytest.mark.parametrize("scheme", HEADERS)
async def test_secrets_may_be_replaced(scheme: str) -> None:
    """Several secrets hold at once, wherever they stand in the setting, and one that was taken away does not."""
    other = "whsec_" + "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0" if scheme == "standard" else OLD
    for secrets in (f"{SECRETS[scheme]} {other}", f"{other},{SECRETS[scheme]}", f"\n{other}\n{SECRETS[scheme]}\n"):
        assert await of_both(scheme, secrets=secrets).check(HEADERS[scheme], BODY) == BOTH
    assert await rejection(of_both(scheme, secrets=other), HEADERS[scheme]) is Rejection.BAD_SIGNATURE


@pytest.mark.parametrize("scheme", ["tiktok", "standard"])
async def test_a_signature_has_its_time(scheme: str) -> None:
    """A signature is good for the tolerance, before and after; past it, it is rejected for its age."""
    for now in (NOW - 300, NOW + 300):
        assert await of_both(scheme, now=now).check(HEADERS[scheme], BODY) == BOTH
    for now in (NOW - 301, NOW + 301):
        assert await rejection(of_both(scheme, now=now), HEADERS[scheme]) is Rejection.STALE_SIGNATURE


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
    """A header that is there and makes no sense is rejected as such, not taken for an unsigned request."""
    assert await rejection(of_both(scheme), headers) is Rejection.BAD_SIGNATURE


async def test_a_key_may_come_in_either_header() -> None:
    """X-Api-Key and Authorization: Bearer are the same; another kind of authorization is no key."""
    signatures = of_both("key")
    for headers in (
        {"x-api-key": SECRET},
        {"authorization": f"bearer {SECRET}"},
        {"authorization": f"BEARER \t {SECRET} "},
        {"x-api-key": "a proxy's own", "authorization": f"Bearer {SECRET}"},
        {"x-api-key": SECRET, "authorization": "Bearer of something else"},
    ):
        assert await signatures.check(headers, BODY) == BOTH
    assert await rejection(signatures, {"authorization": f"Basic {SECRET}"}) is Rejection.UNSIGNED


async def test_several_signatures_in_one_header() -> None:
    """A sender that replaces its secret signs with both: one that holds is enough, kinds that we do not know pass."""
    other = "v1," + "A" * 43 + "="
    headers = STANDARD_HEADERS | {"webhook-signature": f"v1a,AAAA {other} {V1}"}
    assert await of_both("standard").check(headers, BODY) == BOTH


# Published by the providers: the secret, the id, the time, the body and the signature.
PUBLISHED = [
    # Of Standard Webhooks' and Svix's libraries and documentation.
    (
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
    # Of Svix's Rust library.
    (
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1649367553,
        b'{"email":"test@example.com","username":"test_user"}',
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ),
]


def webhook(sender: str, name: str, at: int, signature: str) -> dict[str, str]:
    return {f"{sender}-id": name, f"{sender}-timestamp": str(at), f"{sender}-signature": signature}


@pytest.mark.parametrize("sender", ["webhook", "svix"])
@pytest.mark.parametrize(("secret", "name", "at", "body", "signature"), PUBLISHED)
async def test_published_signatures_hold_under_both_names(
    sender: str, secret: str, name: str, at: int, body: bytes, signature: str
) -> None:
    """The examples of Standard Webhooks and Svix, with the secret's prefix and without it."""
    headers = webhook(sender, name, at, signature)
    for written in (secret, secret.removeprefix("whsec_")):
        signatures = of_both("standard", now=at, secrets=written)
        assert await signatures.check(headers, body) == BOTH
        assert await rejection(signatures, headers, body + b" ") is Rejection.BAD_SIGNATURE
    assert (
        await rejection(of_both("standard", now=at + 301, secrets=secret), headers, body) is Rejection.STALE_SIGNATURE
    )
    for part in ("id", "timestamp"):
        left = {key: value for key, value in headers.items() if key != f"{sender}-{part}"}
        assert await rejection(of_both("standard", now=at, secrets=secret), left, body) is Rejection.BAD_SIGNATURE


async def test_of_both_names_the_whole_set_counts() -> None:
    """Headers of one name that lack one of three do not hide those of the other."""
    signatures = of_both("standard")
    svix = webhook("svix", "msg_1", NOW, V1)
    assert await signatures.check(svix | {"webhook-signature": V1}, BODY) == BOTH
    assert await signatures.check(STANDARD_HEADERS | {"svix-id": "another"}, BODY) == BOTH
    assert await rejection(signatures, {"svix-signature": V1, "webhook-id": "msg_1"}) is Rejection.BAD_SIGNATURE


@pytest.mark.parametrize("other", ["v1,???", "v1,AAA", "v1,é", "v1", "v1a,AAAA", "v2," + V1[3:], "rubbish"])
async def test_a_signature_that_cannot_be_read_hides_no_other(other: str) -> None:
    """As in the providers' libraries it is skipped, before and after one that holds; alone it is a bad signature."""
    signatures = of_both("standard")
    for given in (f"{other} {V1}", f"{V1} {other}"):
        assert await signatures.check(STANDARD_HEADERS | {"webhook-signature": given}, BODY) == BOTH
    alone = STANDARD_HEADERS | {"webhook-signature": other}
    assert await rejection(signatures, alone) is Rejection.BAD_SIGNATURE


async def test_a_secret_of_standard_webhooks_may_lack_its_padding() -> None:
    """25 bytes in base64 end in ==, which some senders leave out."""
    key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3OA"
    signed = "v1,372AEPfqwl6ay+3IgJMaybBYgo2+CXobVC3cByuLLnU="
    for secret in (f"whsec_{key}", f"whsec_{key}==", key):
        headers = STANDARD_HEADERS | {"webhook-signature": signed}
        assert await of_both("standard", secrets=secret).check(headers, BODY) == BOTH


@pytest.mark.parametrize("template", ["{s},{t}", "{t}, {s}", "{t},{s},v=2", "{t},s=0,{s}", "{t},{s},{s}", "{t},,{s},"])
async def test_tiktoks_pairs_may_come_in_any_order(template: str) -> None:
    """TikTok's documentation splits the header at its commas, then each part at its equals sign."""
    t, _, s = TIKTOK.partition(",")
    assert await of_both("tiktok").check({"tiktok-signature": template.format(t=t, s=s)}, BODY) == BOTH


@pytest.mark.parametrize("template", ["{t},{t},{s}", "{t};{s}", "{t}", "{s}", "t=,{s}", "{t},S={s}", "{t},s={S}", ""])
async def test_no_other_form_of_tiktoks_is_taken(template: str) -> None:
    """Two times, other separators, other cases: hexadecimal digits are compared as they are."""
    t, _, s = TIKTOK.partition(",")
    given = template.format(t=t, s=s, S=s[2:].upper())
    assert await rejection(of_both("tiktok"), {"tiktok-signature": given}) is Rejection.BAD_SIGNATURE


async def test_metas_signature_is_of_the_bytes_that_it_sends() -> None:
    """Meta escapes what is beyond ASCII before it signs and sends: the bytes count as they came, not the text that they
    stand for. Hexadecimal digits are small, as in Meta's own samples."""
    sent, meant = rb'{"name":"\u00e4\u00f6\u00e5"}', '{"name":"äöå"}'.encode()
    header = f"sha256={hmac.new(SECRET.encode(), sent, hashlib.sha256).hexdigest()}"
    signatures = of_both("meta")
    assert await signatures.check({"x-hub-signature-256": f" {header} "}, sent) == BOTH
    assert await rejection(signatures, {"x-hub-signature-256": header}, meant) is Rejection.BAD_SIGNATURE
    for other in (header.upper(), "sha256=" + header[7:].upper()):
        assert await rejection(signatures, {"x-hub-signature-256": other}, sent) is Rejection.BAD_SIGNATURE


async def test_large_bodies_hold_like_small_ones() -> None:
    """A body that is hashed in a thread gives the same answer."""
    body = b"[" + b" " * INLINE_BYTES + b"]"
    signatures = of_both("meta")
    assert await rejection(signatures, HEADERS["meta"], body) is Rejection.BAD_SIGNATURE
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
    assert await rejection(free, {"x-hub-signature-256": META[:-1] + "0"}) is Rejection.BAD_SIGNATURE


async def test_two_senders_with_keys_of_their_own() -> None:
    """One scheme with other secrets for each source: a key opens its own source alone."""
    signatures = demanding(facebook_scheme="key", facebook_secrets=SECRET, tiktok_scheme="key", tiktok_secrets=OLD)
    assert await signatures.check({"x-api-key": SECRET}, BODY) == {"facebook"}
    assert await signatures.check({"x-api-key": OLD}, BODY) == {"tiktok"}


def test_events_of_another_source_reject_the_whole() -> None:
    """What a request may not hold names the source in the rejection."""
    signatures = of_both("key")
    signatures.check_sources(BOTH, {"facebook"})
    with pytest.raises(Rejected, match="events of tiktok") as caught:
        signatures.check_sources(frozenset({"facebook"}), {"facebook", "tiktok"})
    assert caught.value.rejection is Rejection.FOREIGN_SOURCE


def test_metas_question() -> None:
    """The challenge comes back to anyone who knows the token; to no one where none is set."""
    signatures = demanding(meta_verify_token="a token of ours")
    assert signatures.answers_challenges
    assert signatures.challenge("subscribe", "a token of ours", "1158201444") == "1158201444"
    for requested in (
        ("subscribe", "another", "1"),
        ("subscribe", None, "1"),
        ("unsubscribe", "a token of ours", "1"),
        ("subscribe", "a token of ours", None),
        ("subscribe", "a token of ours", "<script>"),
        ("subscribe", "a token of ours", "1" * 257),
    ):
        with pytest.raises(Rejected) as caught:
            signatures.challenge(*requested)
        assert caught.value.rejection is Rejection.NOT_VERIFIED
    assert not demanding().answers_challenges
    with pytest.raises(Rejected):
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
def test_half_a_setting_is_reported_without_the_secret(settings: dict[str, Any], said: str) -> None:
    """A scheme without secrets, secrets without a scheme and weak ones keep the gateway from starting."""
    with pytest.raises(Misconfigured, match=said) as caught:
        demanding(**settings)
    assert "short" not in str(caught.value)
    assert SECRET not in str(caught.value)
