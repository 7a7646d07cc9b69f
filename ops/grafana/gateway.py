"""The dashboard Gateway: what came in at the door, what was made of it, how long it took and what it holds."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from ops.grafana.boards import board
from ops.grafana.panels import (
    BYTES,
    EVENTS,
    EVENTS_A_SECOND,
    EXACT,
    REQUESTS_A_SECOND,
    SECONDS,
    curves,
    number,
)

_OF = '{instance=~"$instance"}'
_BY_SOURCE = '{instance=~"$instance", source=~"$source"}'


def _quantile(share: float, metric: str, by: str = "") -> str:
    return f"histogram_quantile({share}, sum by (le{by}) (rate({metric}_bucket{_OF}[$__rate_interval])))"


def gateway() -> Dashboard:
    """The dashboard."""
    events = [
        number(
            "Accepted",
            EXACT,
            f"sum(increase(gateway_events_accepted_total{_BY_SOURCE}[$__range]))",
            meaning="Events in requests answered 202, in the range shown",
        ),
        number(
            "Processed",
            EXACT,
            f"sum(increase(gateway_events_processed_total{_BY_SOURCE}[$__range]))",
            meaning="Events that JetStream confirmed: on disk. Never fewer than accepted, but for those on the way",
        ),
        number(
            "Failed",
            EXACT,
            f"sum(increase(gateway_events_failed_total{_OF}[$__range]))",
            meaning="Events that break the contract: rejected, and kept with their reason",
            odd_from=1,
            runbook="EventsFailing",
        ),
        number(
            "Unanswered",
            EXACT,
            f"sum(increase(gateway_events_unconfirmed_total{_BY_SOURCE}[$__range]))",
            meaning="Valid events in requests answered 503: the sender has to send them again",
            bad_from=1,
            runbook="RequestsTurnedAway",
        ),
        number(
            "Rejected and not kept",
            EXACT,
            f"sum(increase(gateway_rejected_events_not_kept_total{_OF}[$__range]))",
            meaning="Rejected events of which no copy reached the stream REJECTED",
            bad_from=1,
            runbook="RejectedNotKept",
        ),
        number(
            "Worker restarts",
            EXACT,
            f"sum(increase(gateway_worker_restarts_total{_OF}[$__range]))",
            meaning="Workers that ended unasked",
            bad_from=1,
            runbook="RestartLoop",
        ),
    ]
    rates = [
        curves(
            "Accepted events",
            EVENTS_A_SECOND,
            (f"sum by (source) (rate(gateway_events_accepted_total{_BY_SOURCE}[$__rate_interval]))", "{{source}}"),
            meaning="By source",
            stacked=True,
        ),
        curves(
            "Rejected events",
            EVENTS_A_SECOND,
            (f"sum by (reason) (rate(gateway_events_failed_total{_OF}[$__rate_interval])) > 0", "{{reason}}"),
            meaning="By reason, those that occur",
            stacked=True,
            runbook="EventsFailing",
        ),
        curves(
            "Requests",
            REQUESTS_A_SECOND,
            (f"sum by (status) (rate(gateway_requests_total{_OF}[$__rate_interval])) > 0", "{{status}}"),
            meaning="By status of the answer",
            stacked=True,
            runbook="RequestsTurnedAway",
        ),
        curves(
            "Requests rejected as a whole",
            REQUESTS_A_SECOND,
            (f"sum by (rejection) (rate(gateway_requests_rejected_total{_OF}[$__rate_interval]))", "{{rejection}}"),
            meaning="Whatever their events: not JSON, too large, no signature",
            runbook="SignatureFailures",
        ),
    ]
    latency = [
        curves(
            "Time of a request's steps, p99",
            SECONDS,
            (_quantile(0.99, "gateway_stage_seconds", ", stage"), "{{stage}}"),
            meaning="receive reads the body, decode validates its events, publish waits for PubAcks",
        ),
        curves(
            "Publish: a message's first attempt to its PubAck",
            SECONDS,
            *((_quantile(share, "gateway_publish_seconds"), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)),
            meaning="JetStream's fsync is in it",
            bad_from=1,
            runbook="PublishSlow",
        ),
        curves(
            "Events in a published message",
            EVENTS,
            *((_quantile(share, "gateway_batch_events"), f"p{share * 100:g}") for share in (0.5, 0.95)),
            meaning="A message is what an fsync costs: the more events share one, the cheaper each",
        ),
        curves(
            "Trouble with publishing",
            EVENTS_A_SECOND,
            *(
                (f"sum(rate(gateway_publish_{what}_total{_OF}[$__rate_interval]))", what)
                for what in ("retries", "full", "unexpected_duplicates")
            ),
            meaning="Messages a second: published again, rejected by a full stream, called a duplicate (must stay 0)",
            usually_zero=True,
        ),
    ]
    held = [
        curves(
            "Bytes in flight",
            BYTES,
            (f"sum(gateway_bytes_in_flight{_OF})", "held"),
            (f"sum(gateway_bytes_in_flight_max{_OF})", "limit"),
            meaning="Bodies held, each until its answer; past the limit the answer is 503 at once",
        ),
        curves(
            "Requests in flight",
            EVENTS,
            (f"sum by (instance) (gateway_requests_in_flight{_OF})", "{{instance}}"),
            meaning="Requests held now",
        ),
        curves(
            "CPU: cores in use",
            "none",
            (f"sum by (instance) (rate(gateway_cpu_seconds_total{_OF}[$__rate_interval]))", "{{instance}}"),
            meaning="All workers of an instance",
        ),
        curves(
            "Memory",
            BYTES,
            (f"sum by (instance) (gateway_resident_bytes{_OF})", "{{instance}}"),
            meaning="All workers of an instance",
        ),
    ]
    return board(
        "Sluice: Gateway",
        "sluice-gateway",
        "The door",
        [("Events", events), ("Rates", rates), ("Latency", latency), ("Held", held)],
        'job="gateway"',
    )
