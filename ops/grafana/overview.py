"""The dashboard Overview: alerts, freshness, throughput and the ledger."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Panel

from ops.grafana.boards import board
from ops.grafana.panels import EVENTS, EVENTS_A_SECOND, EXACT, SECONDS, SHARE, bars, curves, names, number

_OF = '{source=~"$source"}'
_FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'


def _ledger(
    title: str,
    metric: str,
    meaning: str,
    *,
    warning: float | None = None,
    critical: float | None = None,
    runbook: str = "",
) -> Builder[Panel]:
    return number(
        title,
        EXACT,
        f"sum({metric})",
        meaning=meaning,
        warning_from=warning,
        critical_from=critical,
        runbook=runbook,
        width=3,
    )


def overview() -> Dashboard:
    """Build the dashboard."""
    now = [
        names(
            "Alerts",
            (f'{_FIRING} or on () label_replace(vector(0), "alertname", "none", "", "")', "{{alertname}}"),
            meaning="Alerts firing now. Each has a runbook of the same name",
            red="/^[A-Z]/",
        ),
        number(
            "Targets down",
            EVENTS,
            "count(up == 0) or vector(0)",
            meaning="Scrape targets that do not answer",
            critical_from=1,
            runbook="TargetDown",
        ),
        number(
            "Freshness",
            SECONDS,
            "max(source:report_freshness_seconds:min)",
            meaning="Age of the newest data in the reports, for the slowest source",
            critical_from=60,
            runbook="ReportsStale",
        ),
        number("Accepted", EVENTS_A_SECOND, "sum(source:gateway_events_accepted:rate1m)", meaning="Events per second"),
        number("Stored", EVENTS_A_SECOND, "sum(source:collector_events_processed:rate1m)", meaning="Events per second"),
        number(
            "Lag",
            SECONDS,
            "max(source:collector_lag_seconds:max)",
            meaning="Age of the oldest message that is not acknowledged",
            critical_from=10,
            runbook="CollectorLag",
        ),
    ]
    accepted = "collector_events_accepted_total" + '{source=~"$source"}'
    stored, repeated, failed = (accepted.replace("accepted", what) for what in ("processed", "repeated", "failed"))
    ledger = [
        _ledger("Gateway: received", "gateway_events_received_total", "Since the services started"),
        _ledger("= accepted", f"gateway_events_accepted_total{_OF}", "Answered 202"),
        _ledger("+ rejected", "gateway_events_failed_total", "Break the contract; kept with the reason", warning=1),
        _ledger(
            "+ unconfirmed",
            f"gateway_events_unconfirmed_total{_OF}",
            "Answered 503",
            critical=1,
            runbook="RequestsTurnedAway",
        ),
        _ledger("Store: stored", stored, "Each once. Less than accepted only by events in flight"),
        _ledger("+ repeated", repeated, "Already stored before", warning=1),
        _ledger("+ dead", failed, "Could not be stored", critical=1, runbook="DeadLetters"),
        number(
            "Missing",
            EXACT,
            "sum(collector_ledger_missing_messages) + sum(abs(collector_ledger_uncounted_events))",
            meaning="Messages without a receipt, and events without a count. Must be 0",
            critical_from=1,
            width=3,
            runbook="LedgerUnbalanced",
        ),
    ]
    flow = [
        curves(
            "Events per second, by step",
            EVENTS_A_SECOND,
            ("sum(rate(gateway_events_received_total[$__rate_interval]))", "received"),
            (f"sum(rate(gateway_events_accepted_total{_OF}[$__rate_interval]))", "accepted"),
            (f"sum(rate({stored}[$__rate_interval]))", "stored"),
            meaning="In normal operation, the lines coincide",
        ),
        curves(
            "Freshness of reports",
            SECONDS,
            ("source:report_freshness_seconds:min", "{{source}}"),
            meaning="Age of the newest data in the reports",
            critical_from=60,
            runbook="ReportsStale",
        ),
        curves(
            "Lag",
            SECONDS,
            ("source:collector_lag_seconds:max", "{{source}}"),
            meaning="Age of the oldest message that is not acknowledged",
            critical_from=10,
            runbook="CollectorLag",
        ),
        curves(
            "Streams: space used",
            SHARE,
            ("stream:used:ratio", "{{stream_name}}"),
            meaning="Share of each stream's limit. When a stream is full, the gateway returns 503",
            critical_from=0.7,
            runbook="StreamNearLimit",
        ),
    ]
    speed = [
        curves(
            "Publish and store latency, p99",
            SECONDS,
            ("sluice:gateway_publish_seconds:p99_5m", "publish"),
            ("source:collector_store_seconds:p99_5m", "store {{source}}"),
            meaning="Over 5 minutes: publish per message, store per batch",
            width=8,
            runbook="PublishSlow",
        ),
        curves(
            "Report latency, p99",
            SECONDS,
            ("report:reporter_report_duration_seconds:p99_5m", "{{report}}"),
            meaning="Over 5 minutes",
            width=8,
            runbook="ReportsFailing",
        ),
        bars(
            "Replicas that answer",
            EVENTS,
            ("sum by (service) (up)", "{{service}}"),
            meaning="By service, now",
            critical_below=1,
            width=8,
            runbook="TargetDown",
        ),
    ]
    return board(
        "Sluice: Overview",
        "sluice-overview",
        "Alerts, freshness, throughput and the ledger",
        [("Now", now), ("Ledger of events", ledger), ("Flow", flow), ("Latency and replicas", speed)],
        'job!=""',
    )
