"""A steady load of small POSTs at the edge, which the oracle learns of.

async with load(running, oracle) as sent:
    …                       # break or replace something
assert sent.answers == {202: sent.total}
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final
from uuid import uuid4

import httpx

from tests.engine.project import Project
from tests.support.events import encoded, facebook, tiktok
from tests.support.oracle import Oracle

POSTS_PER_SECOND: Final = 8
EVENTS: Final = 10  # of each source, in a POST
ANSWER_TIMEOUT_SECONDS: Final = 60


@dataclass
class Sent:
    """Answers by their status (None: no answer came), and when accepted POSTs were sent."""

    answers: Counter[int | None] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    accepted_at: list[float] = field(default_factory=list)
    slowest_seconds: float = 0.0

    @property
    def total(self) -> int:
        return self.answers.total()

    def outage_seconds(self) -> float:
        """The longest time between two POSTs that were accepted at once, by when they were sent."""
        moments = sorted(self.accepted_at)
        return max((after - before for before, after in pairwise(moments)), default=0.0)

    def __str__(self) -> str:
        counts = ", ".join(
            f"{count} x {status or 'no answer'}" for status, count in sorted(self.answers.items(), key=str)
        )
        return f"{self.total} POSTs: {counts}; slowest answer {self.slowest_seconds:.1f} s"


def body() -> list[bytes]:
    """New events, valid now."""
    now = datetime.now(UTC)
    made = [make(at=now, event_id=f"e-{uuid4()}") for make in (facebook, tiktok) for _ in range(EVENTS)]
    return [encoded(event) for event in made]


@asynccontextmanager
async def load(project: Project, oracle: Oracle) -> AsyncIterator[Sent]:
    """Post until the block ends; then wait for the answers that are due."""
    sent = Sent()
    stop = asyncio.Event()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=2)
    async with httpx.AsyncClient(verify=False, timeout=ANSWER_TIMEOUT_SECONDS, limits=limits) as http:

        async def post() -> None:
            events = body()
            started = time.monotonic()
            try:
                answer = await http.post(project.events, content=b"[" + b",".join(events) + b"]")
            except httpx.HTTPError as failure:
                sent.answers[None] += 1
                sent.failures.append(f"{type(failure).__name__}: {failure}")
                oracle.answered(events, None)
                return
            sent.slowest_seconds = max(sent.slowest_seconds, time.monotonic() - started)
            sent.answers[answer.status_code] += 1
            if answer.status_code == 202:
                sent.accepted_at.append(started)
            else:
                sent.failures.append(f"{answer.status_code}: {answer.text}")
            oracle.answered(events, answer.status_code, answer.content)

        async def go_on() -> None:
            async with asyncio.TaskGroup() as posts:
                while not stop.is_set():
                    posts.create_task(post())
                    await asyncio.sleep(1 / POSTS_PER_SECOND)  # a rate, not a wait

        running = asyncio.create_task(go_on())
        try:
            yield sent
        finally:
            stop.set()
            await running
