"""What a demonstration measured, and whether it is as it has to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from rich.console import Console

from core.events.subjects import REJECTED, stream_of
from core.settings import MEBIBYTE
from ops.ledger import Ledger
from ops.local.tables import ledger_table


@dataclass
class Outcome:
    """One run. `sent` is the publisher's own count; the ledgers are read before and after, with nothing in flight.

    freshness holds samples, in seconds, of how far reports were behind; default_load tells that the publisher ran
    with its own load, under which every POST has to be answered 202.
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
        """Events that were answered 202 and stand nowhere."""
        return max(0, int(self.sent["accepted"]) - self.since("events"))

    def figures(self) -> dict[str, Any]:
        """The figures for a program, as they are written to demo.json."""
        cuts = quantiles(self.freshness, n=100) if len(self.freshness) > 1 else [0.0] * 99
        seconds = self.published_seconds + self.drain_seconds
        return {
            "sent": self.sent["events_sent"],
            "accepted": self.sent["accepted"],
            "rejected": self.sent["rejected"],
            "stored": self.since("stored"),
            "repeated": self.since("repeated"),
            "dead": self.since("dead"),
            "pending": self.pending,
            "lost": self.lost,
            "seconds": round(seconds, 2),
            "drain_seconds": round(self.drain_seconds, 2),
            "stored_per_second": round(self.since("stored") / seconds),
            "freshness_p50_seconds": round(cuts[49], 3),
            "freshness_p99_seconds": round(cuts[98], 3),
            "rss_bytes": self.rss_bytes,
        }

    def wrong(self) -> list[str]:
        """What must not be, a sentence each. The ledger has to balance whatever the load was."""
        found = self.after.wrong()
        if self.lost:
            found.append(f"{self.lost} events were answered 202 and are nowhere")
        if self.pending:
            found.append(f"{self.pending} messages are still not stored")
        if not self.since("stored") + self.since("repeated"):
            found.append("nothing was stored")
        if self.sent["posts"] == self.sent["answered"].get("202", 0):
            found += self._unequal_counts()
        if self.default_load and self.since("dead"):
            found.append(f"{self.since('dead')} events of the publisher's own load could not be stored")
        if self.default_load and self.sent["posts"] != self.sent["answered"].get("202", 0):
            found.append(f"not every POST was answered 202: {self.sent['answered']}, {self.sent['failures']}")
        return found

    def _unequal_counts(self) -> list[str]:
        """Where every POST was answered 202, both sides of the door must count the same."""
        sent, accepted, rejected = self.sent["events_sent"], self.sent["accepted"], self.sent["rejected"]
        pairs = [
            ("events sent", sent, "accepted and rejected", accepted + rejected),
            ("events accepted", accepted, "in receipts", self.since("events")),
            ("events rejected", rejected, "that broke the contract", self.sent["expected_invalid"]),
            ("events rejected", rejected, "kept with their reason", self.kept),
        ]
        return [f"{one:,} {what}, but {other:,} {where}" for what, one, where, other in pairs if one != other]

    def print(self, console: Console) -> None:
        """Show the ledger and the figures."""
        figures = self.figures()
        console.print(ledger_table(self.sent, self.before, self.after))
        memory = ", ".join(f"{name} {size / MEBIBYTE:,.0f} MB" for name, size in self.rss_bytes.items())
        console.print(
            f"stored {figures['stored']:,} events in {figures['seconds']:.1f} s: "
            f"{figures['stored_per_second']:,} a second; "
            f"all was stored {self.drain_seconds:.1f} s after the last answer\n"
            f"reports were behind by {figures['freshness_p50_seconds']:.2f} s (median), "
            f"{figures['freshness_p99_seconds']:.2f} s (p99)\n"
            f"most memory: {memory}",
            highlight=False,
        )
