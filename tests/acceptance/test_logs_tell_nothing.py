"""No payload, no secret and no personal data in any log, at the most talkative level, whatever goes wrong.

Everything that a sender, a reader or an operator could wish to keep for himself holds one word, which is then looked
for in all logs: those of our services, of NATS and of PostgreSQL.
"""

from __future__ import annotations

import gzip
import signal
from urllib.parse import urlsplit

import httpx
import pytest

from core import postgres
from core.events.subjects import events_subject
from tests.support.events import changed, encoded, facebook, message, tiktok
from tests.support.system import ARRAY, System
from tests.support.waiting import eventually

WORD = "Zyzzogeton"
KEY = f"{WORD}-a-key-of-many-characters"
SIGNED = {**ARRAY, "X-Api-Key": KEY}
FIELDS = {
    "facebook": (
        "eventId",
        "data.user.userId",
        "data.user.name",
        "data.user.location.city",
        "data.user.location.country",
    ),
    "tiktok": ("eventId", "data.user.userId", "data.user.username", "data.engagement.country"),
}
CLOSED = ("timestamp", "source", "funnelStage", "eventType", "data", "data.user", "data.engagement")


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """The most talkative services, which demand a key for every source."""
    return {
        "LOG_LEVEL": "debug",
        "GATEWAY_FACEBOOK_SCHEME": "key",
        "GATEWAY_FACEBOOK_SECRETS": KEY,
        "GATEWAY_TIKTOK_SCHEME": "key",
        "GATEWAY_TIKTOK_SECRETS": KEY,
        "GATEWAY_META_VERIFY_TOKEN": f"{WORD}-token",
        "GATEWAY_PUBLISH_TIMEOUT_SECONDS": "2",
        "REPORTER_STATEMENT_TIMEOUT_SECONDS": "1",
    }


def marked(make: object = facebook) -> bytes:
    """A valid event with the word in every free text."""
    event = make()  # type: ignore[operator]
    for path in FIELDS[event["source"]]:
        event = changed(event, path, f"{WORD}-{event['eventId']}" if path == "eventId" else WORD)
    return encoded(event)


def bad_bodies() -> list[tuple[bytes, dict[str, str]]]:
    """Bodies that are rejected, in whole or in part, each for a reason of its own."""
    good = marked()
    bad = [encoded(changed(make(), path, WORD)) for make in (facebook, tiktok) for path in CLOSED]
    bad.append(encoded(changed(facebook(), "data.user.age", WORD)))
    bad.append(encoded(changed(facebook(), "data.user.name", f"{WORD}\0")))
    bad.append(encoded(changed(facebook(), "eventId", WORD * 100)))
    bad.append(good.replace(WORD.encode(), WORD.encode() + b"\\ud800"))
    bad.append(b'"' + WORD.encode() + b'"')
    array = b"[" + b",".join((good, *bad)) + b"]"
    named = WORD.encode()
    return [
        (array, SIGNED),
        (gzip.compress(array), SIGNED | {"Content-Encoding": "gzip"}),
        (array[:-1], SIGNED),
        (named, SIGNED),
        (named, SIGNED | {"Content-Encoding": "gzip"}),
        (named, SIGNED | {"Content-Encoding": WORD}),
        (named, SIGNED | {"Content-Type": f"image/{WORD}"}),
        (array, ARRAY),
        (array, ARRAY | {"X-Api-Key": WORD}),
        (array, ARRAY | {"Authorization": f"Bearer {WORD}"}),
        (array, SIGNED | {"X-Correlation-Id": f"{WORD} {WORD}", "traceparent": WORD}),
    ]


async def test_nothing_of_anybody_is_logged(system: System) -> None:
    """Rejections of every kind, poison in the stream, both servers killed, wrong questions to the reporter: no log
    holds the word, nor any password."""
    url = system.services.endpoint
    for body, headers in bad_bodies():
        await system.http.post(url, content=body, headers=headers)
    for path in (f"?hub.mode=subscribe&hub.verify_token={WORD}&hub.challenge=1", f"/{WORD}", f"?a={WORD}"):
        await system.http.get(url + path)
    for query in (f"campaignId={WORD}&from=2026-11-22&to=2026-11-23", f"from={WORD}", f"{WORD}=1"):
        await system.get(f"/reports/revenue?{query}")

    # Past the gateway: what cannot be read, what cannot be stored, and what breaks a rule of the table.
    js = system.client.jetstream()
    owner = await postgres.connect(system.servers.owner_dsn, name="tests")
    await owner.execute(f"ALTER TABLE facebook_events ADD CONSTRAINT not_here CHECK (city <> '{WORD}2')")
    await js.publish(events_subject("facebook"), f"rubbish of {WORD}".encode(), headers={"Sluice-Events": "1"})
    poison = [changed(facebook(), "data.user.location.city", f"{WORD}2"), changed(facebook(), "data.user.age", WORD)]
    body = message(*poison)
    await js.publish(events_subject("facebook"), body, headers={"Sluice-Events": "2"})

    async def dead() -> bool:
        return len(await system.select("SELECT FROM dead_letters")) == 3

    await eventually(dead, what="three dead letters", seconds=60)
    await owner.close()

    pid = system.supervisor.kill("postgres", signal.SIGKILL)
    await system.http.post(url, content=b"[" + marked() + b"]", headers=SIGNED)
    await system.get(f"/reports/revenue?campaignId={WORD}&from=2026-11-22&to=2026-11-23")
    await system.supervisor.wait_ready("postgres", after=pid, seconds=60)
    pid = system.supervisor.kill("nats", signal.SIGKILL)
    await system.http.post(url, content=b"[" + marked(tiktok) + b"]", headers=SIGNED)
    await system.supervisor.wait_ready("nats", after=pid, seconds=60)
    await system.until_stored()

    roles = (
        system.servers.owner_dsn,
        system.servers.collector_dsn,
        system.servers.reporter_dsn,
        system.servers.nats_url,
    )
    secrets = [WORD, *(str(urlsplit(one).password) for one in roles)]
    logs = {path.name: path.read_text(errors="replace") for path in (system.folder / "logs").iterdir()}
    assert {"gateway.log", "fb-collector.log", "reporter.log", "postgres.log", "nats.log"} <= logs.keys()
    found = {
        f"{name}: {line[:300]}"
        for name, log in logs.items()
        for line in log.splitlines()
        if any(secret in line for secret in secrets)
    }
    assert not found, "\n".join(sorted(found))


async def test_the_word_would_be_found(system: System) -> None:
    """What may stand in a log does stand there: the test looks into the right files, and at every level."""
    answer = await system.http.post(
        system.services.endpoint, content=marked(), headers=SIGNED | {"X-Correlation-Id": "c-seen"}
    )
    assert answer.status_code == 202
    assert isinstance(answer, httpx.Response)
    lines = [line for line in system.log_lines("gateway") if line.get("correlation_id") == "c-seen"]
    assert {line["level"] for line in lines} == {"info"}
