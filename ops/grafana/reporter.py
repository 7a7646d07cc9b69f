"""The dashboard Reporter: rate, latency, errors and freshness of reports."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from ops.grafana.boards import board
from ops.grafana.panels import BYTES, EVENTS, EXACT, REQUESTS_A_SECOND, SECONDS, SHARE, curves, number

_OF = '{instance=~"$instance"}'
_STORED_UNTIL = 'reporter_stored_until_timestamp_seconds{source=~"$source"}'
_FRESHNESS = f"min by (source) (timestamp({_STORED_UNTIL}) - {_STORED_UNTIL})"


def _quantile(share: float) -> str:
    metric = "reporter_report_duration_seconds_bucket"
    return f"histogram_quantile({share}, sum by (le, report) (rate({metric}{_OF}[$__rate_interval])))"


def reporter() -> Dashboard:
    """Build the dashboard."""
    now = [
        number(
            "Reports",
            EXACT,
            f"sum(increase(reporter_reports_total{_OF}[$__range]))",
            meaning="In the time range shown",
            width=6,
        ),
        number(
            "Errors",
            SHARE,
            f'sum(rate(reporter_reports_total{{status=~"5..", instance=~"$instance"}}[$__range]))'
            f" / (sum(rate(reporter_reports_total{_OF}[$__range])) > 0)",
            meaning="Share of reports answered 5xx",
            critical_from=0.01,
            width=6,
            runbook="ReportsFailing",
        ),
        number(
            "Freshness",
            SECONDS,
            f"max({_FRESHNESS})",
            meaning="Age of the newest data in the reports, for the slowest source",
            critical_from=60,
            width=6,
            runbook="ReportsStale",
        ),
        number(
            "Busy connections",
            SHARE,
            f'sum(reporter_pool_connections{{state="busy", instance=~"$instance"}})'
            f" / sum(reporter_pool_connections_max{_OF})",
            meaning="Share of the maximum. At 100 %, reports wait for a connection",
            critical_from=0.9,
            width=6,
        ),
    ]
    answers = [
        *(
            curves(
                f"Latency by report, p{share * 100:g}",
                SECONDS,
                (_quantile(share), "{{report}}"),
                meaning="From the request to the response",
            )
            for share in (0.5, 0.99)
        ),
        curves(
            "Rate by report",
            REQUESTS_A_SECOND,
            (f"sum by (report) (rate(reporter_reports_total{_OF}[$__rate_interval]))", "{{report}}"),
            meaning="Reports per second",
            stacked=True,
        ),
        curves(
            "Responses by status",
            REQUESTS_A_SECOND,
            (f"sum by (status) (rate(reporter_reports_total{_OF}[$__rate_interval])) > 0", "{{status}}"),
            meaning="400: an invalid query. 503: overload or no database. 504: a time limit",
            stacked=True,
            runbook="ReportsFailing",
        ),
        curves(
            "Freshness by source",
            SECONDS,
            (_FRESHNESS, "{{source}}"),
            critical_from=60,
            runbook="ReportsStale",
            meaning="Age of the watermark: all events accepted before it are in the reports",
        ),
        curves(
            "Connections to PostgreSQL",
            EVENTS,
            (f"sum by (state) (reporter_pool_connections{_OF})", "{{state}}"),
            (f"sum(reporter_pool_connections_max{_OF})", "limit"),
            meaning="Connections of the pool, by state",
        ),
    ]
    process = '{job="reporter", instance=~"$instance"}'
    machines = [
        curves(
            "CPU: cores in use",
            "none",
            (f"sum by (instance) (rate(process_cpu_seconds_total{process}[$__rate_interval]))", "{{instance}}"),
            meaning="By instance",
        ),
        curves(
            "Memory",
            BYTES,
            (f"sum by (instance) (process_resident_memory_bytes{process})", "{{instance}}"),
            meaning="By instance",
        ),
    ]
    return board(
        "Sluice: Reporter",
        "sluice-reporter",
        "Rate, latency, errors and freshness of reports",
        [("Now", now), ("Reports", answers), ("Processes", machines)],
        'job="reporter"',
    )
