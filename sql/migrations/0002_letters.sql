-- Letters: events that did not become rows, whether they could not be stored (dead) or were refused at the door.
-- An operator replays or discards them; none leaves without a count of what became of it.

-- The number of the message that a letter was replayed in.
ALTER TABLE dead_letters ADD COLUMN replayed_as bigint;
ALTER TABLE refused_events ADD COLUMN replayed_as bigint;

-- Both kinds as one. position is -1 for a message that could not be read as a whole; length is the whole event's, of
-- which a refused one may be kept in part.
CREATE VIEW letters AS
SELECT 'dead' AS kind, id, stored_at, received_at, source, reason, path, detail, NULL AS event_id, correlation_id,
       stream, stream_sequence, position, octet_length(event)::bigint AS length, sha256(event) AS sha256, event,
       outcome, outcome_at, replayed_as
FROM dead_letters
UNION ALL
SELECT 'refused', id, stored_at, received_at, coalesce(source::text, 'unknown'), reason, path, detail, event_id,
       correlation_id, 'REFUSED', stream_sequence, NULL, length, sha256, event, outcome, outcome_at, replayed_as
FROM refused_events;

-- The letters that an operator means. What is NULL lets everything pass; since is inclusive, until is not.
CREATE FUNCTION chosen_letters(kind text, source text, reason text, since timestamptz, until timestamptz,
                               outcome letter_outcome, ids bigint[])
    RETURNS SETOF letters LANGUAGE sql STABLE AS $$
    SELECT * FROM letters letter
    WHERE (chosen_letters.kind IS NULL OR letter.kind = chosen_letters.kind)
      AND (chosen_letters.source IS NULL OR letter.source = chosen_letters.source)
      AND (chosen_letters.reason IS NULL OR letter.reason = chosen_letters.reason)
      AND (since IS NULL OR letter.stored_at >= since)
      AND (until IS NULL OR letter.stored_at < until)
      AND (chosen_letters.outcome IS NULL OR letter.outcome = chosen_letters.outcome)
      AND (ids IS NULL OR letter.id = ANY (ids))
$$;

-- Letters past their retention, by what had become of them: the ledger still balances after they are gone.
CREATE TABLE letter_totals (
    kind    text COLLATE "C" NOT NULL,
    stream  text COLLATE "C" NOT NULL,
    outcome letter_outcome NOT NULL,
    letters bigint NOT NULL,
    PRIMARY KEY (kind, stream, outcome)
);

-- Each life of a stream (it may be deleted and made again), as collectors last saw it: what had been published in a
-- life that is over and has no receipt is lost. accepted_loss counts the messages that an operator knows to be lost.
CREATE TABLE stream_lives (
    stream        text COLLATE "C" NOT NULL,
    created       timestamptz NOT NULL,
    last_sequence bigint NOT NULL,
    observed_at   timestamptz NOT NULL DEFAULT now(),
    accepted_loss bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (stream, created)
) WITH (fillfactor = 50);

GRANT SELECT ON letters, letter_totals, stream_lives TO sluice_reporter, sluice_collector;
GRANT INSERT, UPDATE ON letter_totals TO sluice_collector;
GRANT INSERT, UPDATE (last_sequence, observed_at) ON stream_lives TO sluice_collector;
