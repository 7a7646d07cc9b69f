"""The dashboard Collectors: storing of events, lag and errors, by source."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Panel

from core.sources import SOURCES
from ops.grafana.boards import board
from ops.grafana.panels import (
    BYTES,
    DAYS,
    EVENTS,
    EVENTS_A_MINUTE,
    EVENTS_A_SECOND,
    EXACT,
    SECONDS,
    curves,
    names,
    number,
)

_OF = '{instance=~"$instance", source=~"$source"}'
_STEPS = '{instance=~"$instance", source=~"$source", stage!="fetch"}'
_PROCESS = '{job="collector", instance=~"$instance"}'


def _a_minute(title: str, metric: str, meaning: str, runbook: str = "") -> Builder[Panel]:
    query = (f"60 * sum by (source) (rate({metric}{_OF}[$__rate_interval]))", "{{source}}")
    rare = bool(runbook)
    return curves(
        title, EVENTS_A_MINUTE, query, meaning=meaning, stacked=True, usually_zero=rare, width=8, runbook=runbook
    )


def _total(
    title: str,
    metric: str,
    meaning: str,
    *,
    warning: float | None = None,
    critical: float | None = None,
    runbook: str = "",
) -> Builder[Panel]:
    expression = f"sum(increase({metric}{_OF}[$__range]))"
    return number(
        title, EXACT, expression, meaning=meaning, warning_from=warning, critical_from=critical, runbook=runbook
    )


def collectors() -> Dashboard:
    """Build the dashboard."""
    events = [
        _total("Accepted", "collector_events_accepted_total", "Events of messages fetched for the first time"),
        _total("Processed", "collector_events_processed_total", "Events stored, each once"),
        _total("Failed", "collector_events_failed_total", "Dead letters", critical=1, runbook="DeadLetters"),
        _total(
            "Repeated", "collector_events_repeated_total", "Events that were already stored, and skipped", warning=1
        ),
        number(
            "Lag",
            SECONDS,
            f"max(collector_lag_seconds{_OF})",
            critical_from=10,
            runbook="CollectorLag",
            meaning="Age of the oldest message that is not acknowledged",
        ),
        number(
            "Stopped",
            EVENTS,
            f"sum(collector_stopped{_OF})",
            critical_from=1,
            runbook="CollectorStopped",
            meaning="Collectors that cannot store, for a cause that only an operator can remove",
        ),
    ]
    minutes = [
        _a_minute("Accepted per minute", "collector_events_accepted_total", "Fetched for the first time, by source"),
        _a_minute("Processed per minute", "collector_events_processed_total", "Stored, each once, by source"),
        _a_minute("Failed per minute", "collector_events_failed_total", "Dead letters, by source", "DeadLetters"),
    ]
    waiting = [
        curves(
            "Lag in seconds",
            SECONDS,
            (f"max by (source) (collector_lag_seconds{_OF})", "{{source}}"),
            meaning="Age of the oldest message that is not acknowledged",
            critical_from=10,
            runbook="CollectorLag",
        ),
        curves(
            "Lag in messages",
            EVENTS,
            (f"max by (source) (collector_pending_messages{_OF})", "{{source}}"),
            meaning="Messages in the stream. Each holds up to 512 KiB of events",
            runbook="CollectorLag",
        ),
        curves(
            "Batch stages, p95",
            SECONDS,
            (
                f"histogram_quantile(0.95, sum by (le, source, stage) (rate(collector_stage_seconds_bucket{_STEPS}"
                "[$__rate_interval])))",
                "{{source}} {{stage}}",
            ),
            meaning="Duration of parse (encodes rows), store (one transaction) and ack. Without fetch, which waits",
        ),
        curves(
            "Events per batch",
            EVENTS,
            (
                f"sum by (source) (rate(collector_batch_events_sum{_OF}[$__rate_interval]))"
                f" / (sum by (source) (rate(collector_batch_events_count{_OF}[$__rate_interval])) > 0)",
                "{{source}}",
            ),
            meaning="Mean. Batches are larger under load",
        ),
    ]
    anomalies = [
        curves(
            "Duplicates",
            EVENTS_A_SECOND,
            (
                f"sum by (source) (rate(collector_events_repeated_total{_OF}[$__rate_interval]))",
                "{{source}} repeated events",
            ),
            (
                f"sum by (source) (rate(collector_messages_redelivered_total{_OF}[$__rate_interval]))",
                "{{source}} redelivered messages",
            ),
            meaning="Harmless: events that were already stored are skipped",
            usually_zero=True,
        ),
        curves(
            "Dead letters",
            EVENTS_A_SECOND,
            (
                f"sum by (reason) (rate(collector_events_failed_total{_OF}[$__rate_interval]))",
                "{{reason}}",
            ),
            meaning="Accepted events that could not be stored, by reason",
            usually_zero=True,
            runbook="DeadLetters",
        ),
        curves(
            "Ledger",
            EVENTS,
            (f"max by (source) (collector_ledger_missing_messages{_OF})", "{{source}} missing messages"),
            (f"max by (source) (collector_ledger_uncounted_events{_OF})", "{{source}} uncounted events"),
            meaning="Must be 0",
            usually_zero=True,
            critical_from=1,
            runbook="LedgerUnbalanced",
        ),
        curves(
            "Partitions left",
            DAYS,
            ('min by (source) (collector_partitions_ahead_days{source=~"$source"})', "{{source}}"),
            meaning="Days after today that have a partition",
            critical_below=3,
            runbook="PartitionsRunningOut",
        ),
        curves(
            "Background steps",
            SECONDS,
            (
                "time() - max by (source, step) (collector_step_success_timestamp_seconds"
                '{source=~"$source", step!="ledger"})',
                "{{source}} {{step}}",
            ),
            meaning="Time since the last success of each step, without ledger, which runs every 5 minutes",
            critical_from=60,
            runbook="StepFailing",
        ),
        curves(
            "Breakdowns not counted",
            EXACT,
            (f"max by (source) (collector_breakdown_uncounted_quarters{_OF})", "{{source}}"),
            meaning="Quarter-hours that have ended and that reports by campaign, city and audience read from rows",
            usually_zero=True,
            critical_from=96,
            runbook="BreakdownsBehind",
        ),
        curves(
            "Time to count a quarter-hour",
            SECONDS,
            (
                f"sum by (source) (rate(collector_breakdown_seconds_sum{_OF}[$__rate_interval]))"
                f" / (sum by (source) (rate(collector_breakdown_seconds_count{_OF}[$__rate_interval])) > 0)",
                "{{source}}",
            ),
            meaning="Mean, by all breakdowns. The collectors of a source count one at a time",
            usually_zero=True,
        ),
        curves(
            "Places for countries",
            EXACT,
            ("min(collector_country_places_free)", "free"),
            meaning="Free places in the registry of countries. Without a place, a country counts as other",
            critical_below=200,
            runbook="CountriesNearlyFull",
        ),
    ]
    machines = [
        names(
            "Parser in use",
            (f"sum by (source, parser) (collector_parser_info{_OF})", "{{source}}: {{parser}}"),
            meaning="The native parser uses a tenth of the Python parser's CPU. Rejected events need no native parser",
            orange=f"/^({'|'.join(SOURCES)}): python/",
            width=8,
            height=9,
        ),
        curves(
            "CPU: cores in use",
            "none",
            (f"sum by (service) (rate(process_cpu_seconds_total{_PROCESS}[$__rate_interval]))", "{{service}}"),
            meaning="All collectors of a source",
            width=8,
        ),
        curves(
            "Memory",
            BYTES,
            (f"sum by (service) (process_resident_memory_bytes{_PROCESS})", "{{service}}"),
            meaning="All collectors of a source",
            width=8,
        ),
    ]
    return board(
        "Sluice: Collectors",
        "sluice-collectors",
        "Storing of events, lag and errors, by source",
        [
            ("Events", events),
            ("Per minute", minutes),
            ("Lag and batches", waiting),
            ("Anomalies and maintenance", anomalies),
            ("Processes", machines),
        ],
        'job="collector"',
    )
