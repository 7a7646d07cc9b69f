"""The dashboard Overview: is all well, and does the ledger balance?"""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Panel

from ops.grafana.panels import EVENTS, EVENTS_A_SECOND, SECONDS, board, curves, number

_OF = '{source=~"$source"}'


def _ledger(
    title: str, metric: str, meaning: str, *, bad_from: float | None = None, runbook: str = ""
) -> Builder[Panel]:
    return number(title, EVENTS, f"sum({metric})", meaning=meaning, bad_from=bad_from, runbook=runbook, width=3)


def overview() -> Dashboard:
    """The dashboard."""
    now = [
        number("Alerts", EVENTS, 'count(ALERTS{alertstate="firing"}) or vector(0)', meaning="Firing now", bad_from=1),
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
            "max(source:report_freshness_seconds:max)",
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
        _ledger("Received", "gateway_events_received_total", "At the door, since the services started"),
        _ledger("= accepted", f"gateway_events_accepted_total{_OF}", "Answered 202"),
        _ledger("+ refused", "gateway_events_failed_total", "Break the contract; kept with their reason"),
        _ledger(
            "+ unanswered",
            f"gateway_events_unanswered_total{_OF}",
            "Answered 503",
            bad_from=1,
            runbook="RequestsTurnedAway",
        ),
        _ledger("Stored", stored, "Each once"),
        _ledger("+ repeated", repeated, "Stored before"),
        _ledger("+ dead", failed, "Could not be stored", bad_from=1, runbook="DeadLetters"),
        number(
            "Missing",
            EVENTS,
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
            ("source:report_freshness_seconds:max", "{{source}}"),
            meaning="How far behind",
            runbook="ReportsStale",
        ),
        curves(
            "Latency, p99",
            SECONDS,
            ("sluice:gateway_publish_seconds:p99_5m", "publish"),
            ("source:collector_store_seconds:p99_5m", "store {{source}}"),
            ("report:reporter_report_duration_seconds:p99_5m", "report {{report}}"),
            meaning="Of the last 5 minutes",
        ),
        curves(
            "Replicas that answer",
            EVENTS,
            ("sum by (service) (up)", "{{service}}"),
            meaning="By service",
            stacked=True,
            runbook="TargetDown",
        ),
    ]
    return board(
        "Sluice: Overview",
        "sluice-overview",
        "Is all well, and does the ledger balance?",
        [("Now", now), ("Ledger of events", ledger), ("Flow", flow)],
        'job!=""',
    )
