"""Whether reports say truthfully how fresh they are, while events come in."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from core.sources import SOURCES, SourceName
from tests.support.waiting import eventually

Work = Callable[["Watched", SourceName], Coroutine[Any, Any, None]]
"""What goes on for one source until it is cancelled."""


@dataclass
class Watched:
    """The instants at which POSTs were answered 202, and what reports said of a span that holds all those events."""

    answered: dict[SourceName, list[datetime]] = field(default_factory=lambda: {source: [] for source in SOURCES})
    behind: dict[SourceName, float] = field(default_factory=dict)
    until: dict[SourceName, datetime] = field(default_factory=dict)
    reports: int = 0
    too_much: list[str] = field(default_factory=list)

    def check(self, source: SourceName, report: dict[str, Any]) -> None:
        """The report holds every event that was answered 202 before its `storedUntil`."""
        fresh = report["freshness"][source]
        if fresh["storedUntil"] is None:
            return
        self.reports += 1
        self.until[source] = until = datetime.fromisoformat(fresh["storedUntil"])
        self.behind[source] = fresh["behindSeconds"]
        due = sum(answered < until for answered in self.answered[source])
        if report["totals"]["events"] < due:
            self.too_much.append(f"{source} until {until}: {report['totals']['events']} events of {due}")

    async def until_past(self, instants: Mapping[SourceName, datetime], *, seconds: float = 30.0) -> None:
        """Wait until each source's freshness lies past its instant."""

        async def past() -> bool:
            return all(source in self.until and self.until[source] > instant for source, instant in instants.items())

        await eventually(past, what=f"reports are complete past {instants}", seconds=seconds)


@asynccontextmanager
async def watching(post: Work, ask: Work, *, more_reports_than: int) -> AsyncIterator[Watched]:
    """Post events and ask for reports until the end, when none may have claimed too much."""
    watched = Watched()
    tasks = [asyncio.create_task(work(watched, source)) for work in (post, ask) for source in SOURCES]
    try:
        yield watched
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert not watched.too_much, "\n".join(watched.too_much[:5])
    assert watched.reports > more_reports_than
