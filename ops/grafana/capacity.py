"""The dashboard Capacity: utilization of each part, and the time until the disk is full."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from ops.grafana.boards import board
from ops.grafana.panels import BYTES, DAYS, EVENTS, EVENTS_A_SECOND, SHARE, bars, curves, number

_STORED = "sum(source:collector_events_processed:rate1m)"
_LIMIT = "scalar(sluice:measured_limit:events_per_second)"
_GROWTH = "clamp_min(sum(deriv(pg_database_size_bytes[6h])), 1)"


def capacity() -> Dashboard:
    """Build the dashboard."""
    now = [
        number("Stored", EVENTS_A_SECOND, _STORED, meaning="Events stored per second", width=6),
        number(
            "Of the measured limit",
            SHARE,
            "sluice:saturation:ratio",
            width=6,
            critical_from=0.8,
            meaning="The limit is a result of `make bench`. Set your own in rules/recording.yml",
        ),
        number(
            "Headroom",
            EVENTS_A_SECOND,
            f"{_LIMIT} - {_STORED}",
            width=6,
            critical_below=10_000,
            meaning="Events per second below the measured limit",
        ),
        number(
            "Days of disk left",
            DAYS,
            f"min(node_filesystem_avail_bytes) / {_GROWTH} / 86400",
            width=6,
            critical_below=7,
            meaning="At the database's growth of the last six hours, without the space that retention will free",
            runbook="DiskFilling",
        ),
    ]
    load = [
        curves(
            "Events per second and the limit",
            EVENTS_A_SECOND,
            ("sum(source:gateway_events_processed:rate1m)", "published"),
            (_STORED, "stored"),
            ("sluice:measured_limit:events_per_second", "measured limit"),
            meaning="If published is above stored, the streams fill",
        ),
        curves(
            "CPU µs an event, by stage",
            "µs",
            ("stage:cpu_microseconds_per_event:rate1m", "{{stage}}"),
            stacked=True,
            meaning="CPU time per event in each stage, without PostgreSQL: its machine reports that",
        ),
        bars(
            "Saturation of each part",
            SHARE,
            ("sum(gateway_bytes_in_flight) / sum(gateway_bytes_in_flight_max)", "gateway: bytes in flight"),
            ("max(stream:used:ratio)", "NATS: fullest stream"),
            ("max(jetstream_server_total_message_bytes / (jetstream_server_max_storage > 0))", "NATS: store"),
            (
                "max(sum by (instance) (pg_stat_activity_count) / on (instance) pg_settings_max_connections)",
                "PostgreSQL: sessions",
            ),
            (
                'sum(reporter_pool_connections{state="busy"}) / sum(reporter_pool_connections_max)',
                "reporter: connections",
            ),
            ("1 - min(mountpoint:free:ratio)", "fullest disk"),
            ("max(sluice:saturation:ratio)", "pipeline: events"),
            maximum=1,
            meaning="The part closest to 100 % is the next one to scale",
        ),
        curves(
            "CPU by service: cores in use",
            "none",
            ("sum(rate(gateway_cpu_seconds_total[$__rate_interval]))", "gateway"),
            (
                'sum by (service) (rate(process_cpu_seconds_total{job=~"collector|reporter"}[$__rate_interval]))',
                "{{service}}",
            ),
            ("sum(max by (server_id) (gnatsd_varz_cpu)) / 100", "nats"),
            stacked=True,
            meaning="Without PostgreSQL: its machine reports that",
        ),
    ]
    streams = [
        curves(
            "Streams: space used",
            SHARE,
            ("stream:used:ratio", "{{stream_name}}"),
            critical_from=0.7,
            runbook="StreamNearLimit",
            meaning="Share of each stream's limit. When a stream is full, the gateway returns 503",
        ),
        curves(
            "Streams: bytes",
            BYTES,
            ("max by (stream_name) (jetstream_stream_total_bytes)", "{{stream_name}}"),
            meaning="On disk, not yet acknowledged",
            stacked=True,
        ),
        curves(
            "Consumers: waiting and unacknowledged",
            EVENTS,
            ("max by (consumer_name) (jetstream_consumer_num_pending)", "{{consumer_name}} waiting"),
            ("max by (consumer_name) (jetstream_consumer_num_ack_pending)", "{{consumer_name}} unacknowledged"),
            meaning="Messages",
        ),
        curves(
            "NATS: traffic",
            "Bps",
            ("sum(rate(gnatsd_varz_in_bytes[$__rate_interval]))", "in"),
            ("sum(rate(gnatsd_varz_out_bytes[$__rate_interval]))", "out"),
            meaning="Bytes per second",
        ),
    ]
    database = [
        curves(
            "PostgreSQL: size",
            BYTES,
            ("sum by (datname) (pg_database_size_bytes)", "{{datname}}"),
            meaning="Rows, indexes and rollups",
        ),
        curves(
            "PostgreSQL: rows inserted",
            "rowsps",
            ("sum by (datname) (rate(pg_stat_database_tup_inserted[$__rate_interval]))", "{{datname}}"),
            meaning="Includes staging and rollups: with staged batches about twice the events",
        ),
        curves(
            "PostgreSQL: transactions",
            "ops",
            ("sum(rate(pg_stat_database_xact_commit[$__rate_interval]))", "committed"),
            ("sum(rate(pg_stat_database_xact_rollback[$__rate_interval]))", "rolled back"),
            meaning="Per second",
        ),
        curves(
            "PostgreSQL: buffer cache hit ratio",
            SHARE,
            (
                "sum(rate(pg_stat_database_blks_hit[$__rate_interval]))"
                " / (sum(rate(pg_stat_database_blks_hit[$__rate_interval]))"
                " + sum(rate(pg_stat_database_blks_read[$__rate_interval])) > 0)",
                "buffers",
            ),
            meaning="All other reads are from the disk or the operating system's cache",
        ),
    ]
    return board(
        "Sluice: Capacity",
        "sluice-capacity",
        "Utilization of each part, and the time until the disk is full",
        [("Now", now), ("Load", load), ("JetStream", streams), ("PostgreSQL", database)],
        'job!=""',
    )
