"""The dashboard Overview: is all well, and does the ledger balance?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Panel

from ops.grafana.boards import board
from ops.grafana.panels import EVENTS, EVENTS_A_SECOND, EXACT, SECONDS, SHARE, bars, curves, names, number

_OF = '{source=~"$source"}'
_FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'


def _ledger(
    title: str, metric: str, meaning: str, *, odd: float | None = None, bad: float | None = None, runbook: str = ""
) -> Builder[Panel]:
    return number(title, EXACT, f"sum({metric})", meaning=meaning, odd_from=odd, bad_from=bad, runbook=runbook, width=3)


def overview() -> Dashboard:
    """The dashboard."""
    now = [
        names(
            "Alerts",
            (f'{_FIRING} or on () label_replace(vector(0), "alertname", "none", "", "")', "{{alertname}}"),
            meaning="Firing now; each has its runbook under its name",
            red="/^[A-Z]/",
        ),
        number(
            "Targets down",
            EVENTS,
            "count(up == 0) or vector(0)",
            meaning="What does not answer",
            bad_from=1,
            runbook="TargetDown",
        ),
        number(
            "Freshness",
            SECONDS,
            "max(source:report_freshness_seconds:min)",
            meaning="Reports are behind by",
            bad_from=60,
            runbook="ReportsStale",
        ),
        number("Accepted", EVENTS_A_SECOND, "sum(source:gateway_events_accepted:rate1m)", meaning="Events a second"),
        number("Stored", EVENTS_A_SECOND, "sum(source:collector_events_processed:rate1m)", meaning="Events a second"),
        number(
            "Lag",
            SECONDS,
            "max(source:collector_lag_seconds:max)",
            meaning="The oldest message",
            bad_from=10,
            runbook="CollectorLag",
        ),
    ]
    accepted = "collector_events_accepted_total" + '{source=~"$source"}'
    stored, repeated, failed = (accepted.replace("accepted", what) for what in ("processed", "repeated", "failed"))
    ledger = [
        _ledger("IngestHandler: received", "gateway_events_received_total", "At the door, since the services started"),
        _ledger("= accepted", f"gateway_events_accepted_total{_OF}", "Answered 202"),
        _ledger("+ rejected", "gateway_events_failed_total", "Break the contract; kept with their reason", odd=1),
        _ledger(
            "+ unconfirmed",
            f"gateway_events_unconfirmed_total{_OF}",
            "Answered 503",
            bad=1,
            runbook="RequestsTurnedAway",
        ),
        _ledger("Store: stored", stored, "Each once; of what was accepted, all but what is on its way"),
        _ledger("+ repeated", repeated, "Stored before", odd=1),
        _ledger("+ dead", failed, "Could not be stored", bad=1, runbook="DeadLetters"),
        number(
            "Missing",
            EXACT,
            "sum(collector_ledger_missing_messages) + sum(abs(collector_ledger_uncounted_events))",
            meaning="Messages without a receipt, events without a count: from durable facts, must be 0",
            bad_from=1,
            width=3,
            runbook="LedgerUnbalanced",
        ),
    ]
    flow = [
        curves(
            "Events a second, step by step",
            EVENTS_A_SECOND,
            ("sum(rate(gateway_events_received_total[$__rate_interval]))", "received"),
            (f"sum(rate(gateway_events_accepted_total{_OF}[$__rate_interval]))", "accepted"),
            (f"sum(rate({stored}[$__rate_interval]))", "stored"),
            meaning="The lines lie on each other where all is well",
        ),
        curves(
            "Freshness of reports",
            SECONDS,
            ("source:report_freshness_seconds:min", "{{source}}"),
            meaning="How far behind",
            bad_from=60,
            runbook="ReportsStale",
        ),
        curves(
            "Lag",
            SECONDS,
            ("source:collector_lag_seconds:max", "{{source}}"),
            meaning="Age of the oldest message that is not confirmed",
            bad_from=10,
            runbook="CollectorLag",
        ),
        curves(
            "Streams: filled",
            SHARE,
            ("stream:used:ratio", "{{stream_name}}"),
            meaning="Of each stream's limit. When it is full, the door answers 503",
            bad_from=0.7,
            runbook="StreamNearLimit",
        ),
    ]
    speed = [
        curves(
            "Time to be on disk and to be stored, p99",
            SECONDS,
            ("sluice:gateway_publish_seconds:p99_5m", "publish"),
            ("source:collector_store_seconds:p99_5m", "store {{source}}"),
            meaning="Of the last 5 minutes: of a message, and of a batch",
            width=8,
            runbook="PublishSlow",
        ),
        curves(
            "Time of reports, p99",
            SECONDS,
            ("report:reporter_report_duration_seconds:p99_5m", "{{report}}"),
            meaning="Of the last 5 minutes",
            width=8,
            runbook="ReportsFailing",
        ),
        bars(
            "Replicas that answer",
            EVENTS,
            ("sum by (service) (up)", "{{service}}"),
            meaning="By service, now",
            bad_below=1,
            width=8,
            runbook="TargetDown",
        ),
    ]
    return board(
        "Sluice: Overview",
        "sluice-overview",
        "Is all well, and does the ledger balance?",
        [("Now", now), ("Ledger of events", ledger), ("Flow", flow), ("Speed and replicas", speed)],
        'job!=""',
    )
