"""The whole system as its users have it, on free ports and in one folder: real servers, real services, HTTP.

    async with running(GATEWAY_WORKERS="1") as system:
        await system.post([facebook()])               answered, and remembered by the oracle
        await system.until_stored()
        await system.report("events", since, until)
        await system.judge()                          everything that was ever sent is where it belongs

Stop it and start it again as often as a test likes: the folder stays, ports are new ones.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from bench.publisher.bodies import Body
from bench.publisher.post import Answer
from core import jetstream, postgres
from ops.ledger import Ledger, read_ledger, until_stored
from ops.local import Death, Servers, Supervisor
from ops.local.services import start_services
from tests.support.events import Event, encoded, facebook, rfc3339, tiktok
from tests.support.oracle import Judgement, Oracle
from tests.support.stack import reachable_folder

STORED_WITHIN_SECONDS = 120.0
REPORTS = ("events", "revenue", "demographics")
ARRAY = {"Content-Type": "application/json"}


class System:
    """Sluice in `folder`, its services under these settings.

    `oracle` knows everything that went through `post`, `send` or `remember`; `deaths` holds every end unasked.
    """

    servers_made_by = Servers

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.oracle = Oracle()
        self.folder = folder
        self.deaths: list[Death] = []
        self._settings = settings
        self._opened = AsyncExitStack()
        self._judged = True
        self.judgement: Judgement | None = None  # the last one

    async def start(self) -> None:
        """Start servers and services; return when all are ready."""
        async with AsyncExitStack() as opened:
            self.servers = await opened.enter_async_context(
                self.servers_made_by(self.folder, environ={}, on_death=self.deaths.append)
            )
            self.services = await start_services(self.servers, self._settings)
            self.client = await jetstream.connect(self.servers.nats.url, name="tests")
            opened.push_async_callback(self.client.close)
            self.connection = await postgres.connect(self.servers.reporter_dsn, name="tests")
            opened.push_async_callback(self.connection.close)
            self.http = await opened.enter_async_context(httpx.AsyncClient(timeout=60))
            self._opened = opened.pop_all()

    async def stop(self) -> None:
        """Drain and stop everything. Twice is fine."""
        await self._opened.aclose()

    @property
    def supervisor(self) -> Supervisor:
        """For stopping and killing services by their names."""
        return self.servers.supervisor

    @property
    def gateway(self) -> str:
        """The gateway's root."""
        return self.services.endpoint.removesuffix("/events")

    # --- the gateway

    async def post(
        self, events: Sequence[Event | bytes], headers: Mapping[str, str] = ARRAY, *, endpoint: str | None = None
    ) -> httpx.Response:
        """POST these events as one array, to another gateway than the usual where `endpoint` says so."""
        raws = [encoded(event) for event in events]
        return await self.send(b"[" + b",".join(raws) + b"]", raws, headers, endpoint=endpoint)

    async def send(
        self,
        body: bytes,
        events: Sequence[bytes] = (),
        headers: Mapping[str, str] = ARRAY,
        *,
        endpoint: str | None = None,
    ) -> httpx.Response:
        """POST a body as it is; `events` are those that stand in it."""
        self._judged = False
        try:
            answer = await self.http.post(endpoint or self.services.endpoint, content=body, headers=dict(headers))
        except BaseException:  # given up by the test itself, too
            self.oracle.answered(events, None)
            raise
        self.oracle.answered(events, answer.status_code, answer.content)
        return answer

    def remember(self, body: Body, answer: Answer) -> None:
        """For a Sender's `on_answer`: the oracle gets to know what the stand-in publisher sent."""
        self._judged = False
        self.oracle.answered(body.content, answer.status, answer.payload)

    # --- the reports

    async def get(self, path: str, **query: str) -> httpx.Response:
        """GET a path of the reporter."""
        return await self.http.get(self.services.reports + path, params=query or None)

    async def report(self, name: str, since: datetime, until: datetime, **query: str) -> dict[str, Any]:
        """One report, which has to be answered 200."""
        answer = await self.get(f"/reports/{name}", **{"from": rfc3339(since), "to": rfc3339(until)}, **query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def figures(self, since: datetime, until: datetime) -> dict[str, Any]:
        """What all three reports say of a range, except how fresh they are."""
        groups = {"events": {"groupBy": "source,funnelStage,eventType"}, "revenue": {"groupBy": "source"}}
        found = {name: await self.report(name, since, until, **groups.get(name, {})) for name in REPORTS}
        for report in found.values():
            del report["freshness"]
        return found

    # --- behind the scenes

    async def select(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """What the database holds, as the reporter's role sees it."""
        return await self.connection.fetch(query, *arguments)

    async def until_stored(self, seconds: float = STORED_WITHIN_SECONDS) -> None:
        """Wait until no stream holds a message. Fails where that takes longer."""
        waiting = await until_stored(self.client, seconds)
        assert not waiting, f"{waiting} messages are not stored after {seconds:g} s"

    async def ledger(self) -> Ledger:
        """The ledger, with nothing in flight; it has to balance."""
        ledger = await read_ledger(self.client, self.connection)
        assert not ledger.problems(), ledger.problems()
        return ledger

    async def judge(self) -> None:
        """Everything that was sent is stored, the ledger balances, the oracle finds nothing wrong; and it goes on:
        a fresh event of each source goes through. Costs nothing where nothing was sent since."""
        if self._judged:
            return
        await self.until_stored()
        await self.ledger()
        judgement = self.judgement = await self.oracle.judge(self.connection)
        assert not judgement.wrong(), "\n".join(judgement.wrong())
        now = datetime.now(UTC)
        fresh = [facebook(at=now), tiktok(at=now)]
        answer = await self.post(fresh)
        assert answer.status_code == 202, answer.text
        await self.until_stored()
        for event in fresh:
            (row,) = await self.select(
                f"SELECT count(*) FROM {event['source']}_events WHERE event_id = $1", event["eventId"]
            )
            assert row["count"] == 1, f"the fresh event {event['eventId']} did not go through"
        self._judged = True

    def log_lines(self, program: str) -> list[dict[str, Any]]:
        """What a program has logged so far."""
        lines = (self.folder / "logs" / f"{program}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@asynccontextmanager
async def running(**settings: str) -> AsyncIterator[System]:
    """A system in a folder of its own, its services under these settings; stopped at the end."""
    with reachable_folder() as folder:
        system = System(folder / "stack", settings)
        await system.start()
        try:
            yield system
        finally:
            await system.stop()
