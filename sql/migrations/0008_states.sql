-- What the tables of events cannot show: whether a stream is full, a source paused or stopped, and whether gateways turn
-- requests away. Collectors write it once a second; the reporter reads it for the page.

-- name is facebook, tiktok or refused. A row that is not written any more says that no collector of it runs, or that
-- none reaches both servers. stopped_why is written by a collector that stopped, beside others that may still run.
CREATE TABLE source_states (
    name             text COLLATE "C" PRIMARY KEY,
    stream_bytes     bigint NOT NULL,
    stream_max_bytes bigint NOT NULL,
    paused           boolean NOT NULL,
    observed_at      timestamptz NOT NULL DEFAULT now(),
    stopped_why      text,
    stopped_at       timestamptz
) WITH (fillfactor = 50);

-- One row: what gateways report over NATS. turned_away counts requests answered 500 or 503 in the last minute.
CREATE TABLE gateway_state (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    turned_away bigint NOT NULL,
    heard_at    timestamptz,
    observed_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

GRANT SELECT ON source_states, gateway_state TO sluice_reporter, sluice_collector;
GRANT INSERT, UPDATE ON source_states, gateway_state TO sluice_collector;
