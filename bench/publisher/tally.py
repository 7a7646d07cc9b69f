"""Count POSTs and responses of a publisher, and format them as progress and as a final report.

Invariant: posts = answered + unanswered + in flight. Events without a response are neither accepted nor rejected.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bench.publisher.bodies import Body
from bench.publisher.post import Answer


@dataclass
class Tally:
    """The counts of one run; all start at 0."""

    posts: int = 0
    resent_posts: int = 0
    events_sent: int = 0
    bytes_sent: int = 0
    repeated_events: int = 0
    late_events: int = 0
    corrupted_posts: int = 0
    expected_invalid: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    accepted: int = 0
    rejected: int = 0
    unexpected_answers: int = 0  # 2xx with counts that differ from the body's
    max_behind_seconds: float = 0.0  # largest delay of a POST behind schedule
    seconds: float = 0.0
    built_events: int = 0
    build_cpu_seconds: float = 0.0
    send_cpu_seconds: float = 0.0  # CPU of the run without building bodies
    answered: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)  # seconds, in the order of the responses

    @property
    def unanswered(self) -> int:
        return self.failures.total()

    def built(self, events: int, cpu_seconds: float) -> None:
        """Count the CPU of building bodies."""
        self.built_events += events
        self.build_cpu_seconds += cpu_seconds

    def sent(self, body: Body, *, resent: bool, behind_seconds: float) -> None:
        """Count one POST when it is sent."""
        self.posts += 1
        self.resent_posts += resent
        self.events_sent += body.events
        self.bytes_sent += len(body.content)
        self.repeated_events += body.events if resent else body.repeated
        self.late_events += body.late
        self.corrupted_posts += body.corruption is not None
        self.expected_invalid += body.invalid
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.max_behind_seconds = max(self.max_behind_seconds, behind_seconds)

    def returned(self, body: Body, answer: Answer) -> None:
        """Count the response to one POST."""
        self.in_flight -= 1
        if answer.status is None:
            self.failures[answer.failure or "no response"] += 1
            return
        self.answered[answer.status] += 1
        self.latencies.append(answer.seconds)
        counts = answer.counts()
        if counts:
            self.accepted += counts[0]
            self.rejected += counts[1]
        if answer.status // 100 == 2 and counts != (body.events - body.invalid, body.invalid):
            self.unexpected_answers += 1

    def line(self, seconds: float, events_before: int, answers_before: int) -> str:
        """Return one line of progress: totals, and the rate and latency since the given counts."""
        recent = sorted(self.latencies[answers_before:])
        other = self.answered.total() - self.answered[202] - self.answered[503]
        latency = f"p50 {_percentile(recent, 50):.0f} ms, max {_percentile(recent, 100):.0f} ms" if recent else "-"
        return (
            f"{seconds:6.0f} s  POSTs {self.posts:,}  events {self.events_sent:,} "
            f"(+{self.events_sent - events_before:,})  202 {self.answered[202]:,}  503 {self.answered[503]:,}  "
            f"other {other:,}  unanswered {self.unanswered:,}  in flight {self.in_flight}  latency {latency}"
        )

    def report(self) -> dict[str, Any]:
        """Return the final counts as JSON types. Latencies are in milliseconds."""
        ordered = sorted(self.latencies)
        return {
            "posts": self.posts,
            "events_sent": self.events_sent,
            "bytes": self.bytes_sent,
            "answered": {str(status): number for status, number in sorted(self.answered.items())},
            "accepted": self.accepted,
            "rejected": self.rejected,
            "unanswered": self.unanswered,
            "failures": dict(self.failures),
            "expected_invalid": self.expected_invalid,
            "corrupted_posts": self.corrupted_posts,
            "unexpected_answers": self.unexpected_answers,
            "repeated_events": self.repeated_events,
            "late_events": self.late_events,
            "resent_posts": self.resent_posts,
            "seconds": round(self.seconds, 2),
            "events_per_second": round(self.events_sent / self.seconds) if self.seconds else 0,
            "max_in_flight": self.max_in_flight,
            "max_behind_ms": round(self.max_behind_seconds * 1000, 1),
            "latency_ms": {f"p{share}": round(_percentile(ordered, share), 1) for share in (50, 90, 99, 100)},
            "cpu_us_per_event": {
                "build": round(1e6 * self.build_cpu_seconds / max(self.built_events, 1), 2),
                "send": round(1e6 * self.send_cpu_seconds / max(self.events_sent, 1), 2),
            },
        }


def _percentile(ordered: list[float], share: int) -> float:
    """Return the milliseconds below which `share` percent of the ordered seconds are; 0 without any."""
    return 1000 * ordered[min(len(ordered) - 1, len(ordered) * share // 100)] if ordered else 0.0
