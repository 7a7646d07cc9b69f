"""Signatures over HTTP: proved on the bytes that came, before they are read; what is rejected leaves nothing behind."""

from __future__ import annotations

import gzip
import hashlib
import hmac

import httpx
import pytest

from tests.support.events import changed, encoded, facebook, tiktok
from tests.support.gateway import Gateway, gateway_process

APP_SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
KEY = "a-key-of-a-plain-sender"
TOKEN = "a-verify-token"


@pytest.fixture(scope="module")
def gateway_settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """It takes facebook's events signed by Meta's scheme and tiktok's from who knows a key."""
    secrets = tmp_path_factory.mktemp("secrets") / "meta"
    secrets.write_text(f"{'e' * 32}\n{APP_SECRET}\n")
    return {
        "GATEWAY_FACEBOOK_SCHEME": "meta",
        "GATEWAY_FACEBOOK_SECRETS_FILE": str(secrets),
        "GATEWAY_TIKTOK_SCHEME": "key",
        "GATEWAY_TIKTOK_SECRETS": KEY,
        "GATEWAY_META_VERIFY_TOKEN": TOKEN,
        "LOG_LEVEL": "debug",
    }


def signature(body: bytes) -> str:
    return "sha256=" + hmac.new(APP_SECRET.encode(), body, hashlib.sha256).hexdigest()


async def rejected(gateway: Gateway, answer: httpx.Response, status: int, name: str) -> None:
    """The answer is this problem, and nothing of the request stands in any stream."""
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == f"urn:sluice:problem:{name}"
    assert ("www-authenticate" in answer.headers) is (status == 401)
    for collected in ("facebook", "tiktok", "rejected"):
        assert await gateway.lines(collected) == []


@pytest.mark.parametrize("name", ["plain", "gzip", "beyond ASCII", "not UTF-8", "large"])
async def test_the_signature_is_of_the_bytes_that_came(gateway: Gateway, name: str) -> None:
    """Packed bodies are signed packed; dead letters of any script, and bytes that are no text, count as they are."""
    event = encoded(changed(facebook(), "data.user.name", "Łukasz 田中" if name == "beyond ASCII" else "Ann"))
    body = b"[" + event + b"]"
    headers = {}
    if name == "gzip":
        body, headers = gzip.compress(body), {"content_encoding": "gzip"}
    if name == "not UTF-8":
        body = b"[" + event + b',"\xff"]'
    if name == "large":
        body += b" " * 300_000
    answer = await gateway.send(body, x_hub_signature_256=signature(body), **headers)
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
    assert await gateway.lines("facebook") == [event]


async def test_who_proves_nothing_is_rejected(gateway: Gateway) -> None:
    """Without proof, with another body's, and with a proof that cannot be read: 401, and it is counted for an alert."""
    body = encoded(facebook())
    before = await gateway.metric("gateway_requests_rejected_total", rejection="bad_signature")
    await rejected(gateway, await gateway.send(body), 401, "unsigned")
    wrong = signature(body + b" ")
    await rejected(gateway, await gateway.send(body, x_hub_signature_256=wrong), 401, "bad_signature")
    await rejected(gateway, await gateway.send(body, x_hub_signature_256="rubbish"), 401, "bad_signature")
    await rejected(gateway, await gateway.send(body, x_api_key="another key"), 401, "bad_signature")
    assert await gateway.metric("gateway_requests_rejected_total", rejection="bad_signature") == before + 3
    assert await gateway.metric("gateway_requests_total", status="401") >= 4


async def test_a_signature_comes_before_everything_that_costs(gateway: Gateway) -> None:
    """An unsigned bomb is not inflated, and unsigned rubbish is not read."""
    bomb = gzip.compress(b" " * 30_000_000)
    await rejected(gateway, await gateway.send(bomb, content_encoding="gzip"), 401, "unsigned")
    await rejected(gateway, await gateway.send(b"[" * 100_000), 401, "unsigned")


async def test_a_proof_is_good_for_its_own_source(gateway: Gateway) -> None:
    """One event of the other source, valid or not, rejects the request whole: nothing of it is stored or kept."""
    mixed = b"[" + encoded(facebook()) + b"," + encoded(tiktok()) + b"]"
    broken = b"[" + encoded(facebook()) + b"," + encoded(changed(tiktok(), "data.user.followers", -1)) + b"]"
    for body in (mixed, broken):
        answer = await gateway.send(body, x_hub_signature_256=signature(body))
        await rejected(gateway, answer, 403, "foreign_source")
        assert "tiktok" in answer.json()["detail"]
    await rejected(gateway, await gateway.send(mixed, x_api_key=KEY), 403, "foreign_source")
    answer = await gateway.send(mixed, x_api_key=KEY, x_hub_signature_256=signature(mixed))
    assert answer.json()["accepted"] == 2


async def test_a_key_opens_the_gateway(gateway: Gateway) -> None:
    """A plain sender's key does in either header, and is no part of the event."""
    events = [tiktok(), tiktok("bottom")]
    assert (await gateway.post(events[:1], x_api_key=KEY)).status_code == 202
    assert (await gateway.post(events[1:], authorization=f"Bearer {KEY}")).status_code == 202
    assert await gateway.lines("tiktok") == list(map(encoded, events))


async def test_meta_asks_before_it_sends(gateway: Gateway) -> None:
    """GET /events answers the challenge to who knows the token, as plain text, and 403 to anybody else."""
    requested = {"hub.mode": "subscribe", "hub.verify_token": TOKEN, "hub.challenge": "1158201444"}
    answer = await gateway.http.get(f"{gateway.url}/events", params=requested)
    assert (answer.status_code, answer.text) == (200, "1158201444")
    assert answer.headers["content-type"] == "text/plain"
    for wrong in ({"hub.verify_token": "guessed"}, {"hub.mode": "x"}, {"hub.challenge": "<b>"}):
        answer = await gateway.http.get(f"{gateway.url}/events", params=requested | wrong)
        await rejected(gateway, answer, 403, "not_verified")
    await rejected(gateway, await gateway.http.get(f"{gateway.url}/events"), 403, "not_verified")
    assert (await gateway.http.put(f"{gateway.url}/events")).headers["allow"] == "POST, GET"


async def test_no_secret_is_logged(gateway: Gateway) -> None:
    """Whatever is rejected, neither the secrets nor what was given for them stand in the log, at any level."""
    body = encoded(facebook())
    given = "x" * 40
    await gateway.send(body, x_api_key=given)
    await gateway.send(body, authorization=f"Bearer {given}")
    await gateway.send(body, x_hub_signature_256=f"sha256={'f' * 64}")
    await gateway.http.get(f"{gateway.url}/events", params={"hub.mode": "subscribe", "hub.verify_token": given})
    log = gateway.log()
    assert '"bad_signature"' in log
    for secret in (APP_SECRET, KEY, TOKEN, given, "f" * 64):
        assert secret not in log


async def test_half_a_setting_ends_the_start() -> None:
    """A scheme without a secret is reported by name, and the gateway does not start: exit code 2."""
    process = await gateway_process(GATEWAY_FACEBOOK_SCHEME="meta", GATEWAY_PORT="0")
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert b"GATEWAY_FACEBOOK_SECRETS" in errors
