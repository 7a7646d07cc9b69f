"""The dashboard Collectors: from the streams into the tables, by source."""

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
    title: str, metric: str, meaning: str, *, odd: float | None = None, bad: float | None = None, runbook: str = ""
) -> Builder[Panel]:
    expression = f"sum(increase({metric}{_OF}[$__range]))"
    return number(title, EXACT, expression, meaning=meaning, odd_from=odd, bad_from=bad, runbook=runbook)


def collectors() -> Dashboard:
    """The dashboard."""
    events = [
        _total("Accepted", "collector_events_accepted_total", "Events of messages fetched for the first time"),
        _total("Processed", "collector_events_processed_total", "Events stored, each once"),
        _total("Failed", "collector_events_failed_total", "Dead letters", bad=1, runbook="DeadLetters"),
        _total("Repeated", "collector_events_repeated_total", "Events stored before, which change nothing", odd=1),
        number(
            "Lag",
            SECONDS,
            f"max(collector_lag_seconds{_OF})",
            bad_from=10,
            runbook="CollectorLag",
            meaning="Age of the oldest message that is not confirmed",
        ),
        number(
            "Stopped",
            EVENTS,
            f"sum(collector_stopped{_OF})",
            bad_from=1,
            runbook="CollectorStopped",
            meaning="Collectors that stopped for a reason that waiting does not mend",
        ),
    ]
    minutes = [
        _a_minute("Accepted a minute", "collector_events_accepted_total", "Fetched for the first time, by source"),
        _a_minute("Processed a minute", "collector_events_processed_total", "Stored, each once, by source"),
        _a_minute("Failed a minute", "collector_events_failed_total", "Dead letters, by source", "DeadLetters"),
    ]
    waiting = [
        curves(
            "Lag in seconds",
            SECONDS,
            (f"max by (source) (collector_lag_seconds{_OF})", "{{source}}"),
            meaning="Age of the oldest message that is not confirmed",
            bad_from=10,
            runbook="CollectorLag",
        ),
        curves(
            "Lag in messages",
            EVENTS,
            (f"max by (source) (collector_pending_messages{_OF})", "{{source}}"),
            meaning="Messages that wait in the stream; each holds up to 512 KiB of events",
            runbook="CollectorLag",
        ),
        curves(
            "Time of a batch's steps, p95",
            SECONDS,
            (
                f"histogram_quantile(0.95, sum by (le, source, stage) (rate(collector_stage_seconds_bucket{_STEPS}"
                "[$__rate_interval])))",
                "{{source}} {{stage}}",
            ),
            meaning="parse makes rows, store is one transaction, ack confirms; fetch, which waits, is left out",
        ),
        curves(
            "Events in a batch",
            EVENTS,
            (
                f"sum by (source) (rate(collector_batch_events_sum{_OF}[$__rate_interval]))"
                f" / (sum by (source) (rate(collector_batch_events_count{_OF}[$__rate_interval])) > 0)",
                "{{source}}",
            ),
            meaning="Mean. Under load batches fill by themselves",
        ),
    ]
    odd = [
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
            meaning="Harmless each: what was stored is left out",
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
            meaning="Must stay 0",
            usually_zero=True,
            bad_from=1,
            runbook="LedgerUnbalanced",
        ),
        curves(
            "Partitions left",
            DAYS,
            ('min by (source) (collector_partitions_ahead_days{source=~"$source"})', "{{source}}"),
            meaning="Days from today that have their partition",
            bad_below=3,
            runbook="PartitionsRunningOut",
        ),
        curves(
            "Steps beside the flow",
            SECONDS,
            (
                "time() - max by (source, step) (collector_step_success_timestamp_seconds"
                '{source=~"$source", step!="ledger"})',
                "{{source}} {{step}}",
            ),
            meaning="Time since the last success of each; without the ledger, which is looked at every 5 minutes",
            bad_from=60,
            runbook="StepFailing",
        ),
        curves(
            "Places for countries",
            EXACT,
            ("min(collector_country_places_free)", "free"),
            meaning="Countries that can still get rollups of their own; later ones are counted as other",
            bad_below=200,
            runbook="CountriesNearlyFull",
        ),
    ]
    machines = [
        names(
            "Parser in use",
            (f"sum by (source, parser) (collector_parser_info{_OF})", "{{source}}: {{parser}}"),
            meaning="The native one costs a tenth of Python's; what is rejected is kept as it came, and needs none",
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
        "From the streams into the tables",
        [
            ("Events", events),
            ("By minute", minutes),
            ("Waiting", waiting),
            ("Out of the ordinary", odd),
            ("Processes", machines),
        ],
        'job="collector"',
    )
