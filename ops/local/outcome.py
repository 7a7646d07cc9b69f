"""The measurements of a demonstration, and the invariants that they must satisfy."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from rich.console import Console

from core.events.subjects import REJECTED, stream_of
from core.settings import MEBIBYTE
from ops.cli.documents import DemoFigures
from ops.ledger import Ledger
from ops.local.tables import ledger_table


@dataclass
class Outcome:
    """One run. `sent` is the publisher's own count; the ledgers are read before and after, with nothing in flight.

    freshness holds samples of the delay of reports in seconds. default_load is True if the publisher ran with its own
    load, for which every POST must get 202.
    """

    before: Ledger
    default_load: bool
    after: Ledger = field(default_factory=lambda: Ledger({}, {}))
    sent: dict[str, Any] = field(default_factory=dict)
    pending: int = 0
    published_seconds: float = 0.0
    drain_seconds: float = 0.0
    freshness: list[float] = field(default_factory=list)
    rss_bytes: dict[str, int] = field(default_factory=dict)

    def since(self, what: str) -> int:
        """`events`, `stored`, `repeated` or `dead` of the accepted events of this run."""
        return self.after.events(what) - self.before.events(what)

    @property
    def kept(self) -> int:
        """Rejected events of this run that are stored with their reason."""
        return self.after.streams[stream_of(REJECTED)].stored - self.before.streams[stream_of(REJECTED)].stored

    @property
    def lost(self) -> int:
        """Events that got 202 and are in no receipt."""
        return max(0, int(self.sent["accepted"]) - self.since("events"))

    def figures(self) -> DemoFigures:
        """Return the figures that are written to demo.json."""
        cuts = quantiles(self.freshness, n=100) if len(self.freshness) > 1 else [0.0] * 99
        seconds = self.published_seconds + self.drain_seconds
        return DemoFigures(
            sent=self.sent["events_sent"],
            accepted=self.sent["accepted"],
            rejected=self.sent["rejected"],
            stored=self.since("stored"),
            repeated=self.since("repeated"),
            dead=self.since("dead"),
            pending=self.pending,
            lost=self.lost,
            seconds=round(seconds, 2),
            drain_seconds=round(self.drain_seconds, 2),
            stored_per_second=round(self.since("stored") / seconds),
            freshness_p50_seconds=round(cuts[49], 3),
            freshness_p99_seconds=round(cuts[98], 3),
            rss_bytes=self.rss_bytes,
        )

    def problems(self) -> list[str]:
        """Return each violated invariant as a sentence. The ledger must balance under every load."""
        problems = self.after.problems()
        if self.lost:
            problems.append(f"{self.lost} events got 202 and are lost")
        if self.pending:
            problems.append(f"{self.pending} messages are not stored yet")
        if not self.since("stored") + self.since("repeated"):
            problems.append("no event was stored")
        if self.sent["posts"] == self.sent["answered"].get("202", 0):
            problems += self._unequal_counts()
        if self.default_load and self.since("dead"):
            problems.append(f"{self.since('dead')} events of the publisher's own load could not be stored")
        if self.default_load and self.sent["posts"] != self.sent["answered"].get("202", 0):
            problems.append(f"not every POST got 202: {self.sent['answered']}, {self.sent['failures']}")
        return problems

    def _unequal_counts(self) -> list[str]:
        """Compare the counts of the publisher with those of Sluice, which are equal if every POST got 202."""
        sent, accepted, rejected = self.sent["events_sent"], self.sent["accepted"], self.sent["rejected"]
        pairs = [
            ("events sent", sent, "accepted and rejected", accepted + rejected),
            ("events accepted", accepted, "in receipts", self.since("events")),
            ("events rejected", rejected, "that break the contract", self.sent["expected_invalid"]),
            ("events rejected", rejected, "kept with their reason", self.kept),
        ]
        return [f"{one:,} {what}, but {other:,} {where}" for what, one, where, other in pairs if one != other]

    def print(self, console: Console) -> None:
        """Print the ledger and the figures."""
        figures = self.figures()
        console.print(ledger_table(self.sent, self.before, self.after))
        memory = ", ".join(f"{name} {size / MEBIBYTE:,.0f} MB" for name, size in self.rss_bytes.items())
        console.print(
            f"stored {figures.stored:,} events in {figures.seconds:.1f} s: "
            f"{figures.stored_per_second:,} a second; "
            f"the last one was stored {self.drain_seconds:.1f} s after the last response\n"
            f"reports were delayed by {figures.freshness_p50_seconds:.2f} s (median), "
            f"{figures.freshness_p99_seconds:.2f} s (p99)\n"
            f"peak memory: {memory}",
            highlight=False,
        )
