-- Rename to the terms of the glossary: rejected events (before: refused), dead letters (before: letters).
-- Views under the old names let collectors of the previous version store during the upgrade.

ALTER TABLE refused_events RENAME TO rejected_events;
ALTER INDEX refused_events_stored_at RENAME TO rejected_events_stored_at;
ALTER INDEX refused_events_pkey RENAME TO rejected_events_pkey;
ALTER TYPE letter_outcome RENAME TO dead_letter_outcome;
ALTER TABLE letter_totals RENAME TO dead_letter_totals;
ALTER TABLE dead_letter_totals RENAME COLUMN letters TO dead_letters;
ALTER INDEX letter_totals_pkey RENAME TO dead_letter_totals_pkey;
DROP FUNCTION chosen_letters;
DROP VIEW letters;

-- The stream of rejected events has a new name. Its ledger includes what was stored under the old name.
UPDATE receipts SET stream = 'REJECTED' WHERE stream = 'REFUSED';
UPDATE receipt_totals SET stream = 'REJECTED' WHERE stream = 'REFUSED';
UPDATE stream_lives SET stream = 'REJECTED' WHERE stream = 'REFUSED';
UPDATE dead_letter_totals SET stream = 'REJECTED' WHERE stream = 'REFUSED';
UPDATE dead_letter_totals SET kind = 'rejected' WHERE kind = 'refused';
UPDATE dead_letters SET stream = 'REJECTED' WHERE stream = 'REFUSED';
DELETE FROM source_states WHERE name = 'refused';

-- Dead letters of both kinds. dead: an accepted event that could not be stored. rejected: an event that failed the
-- gateway's validation. position is -1 for a message that could not be decoded. length is that of the whole event; of a
-- large rejected event only a part is kept.
CREATE VIEW all_dead_letters AS
SELECT 'dead' AS kind, id, stored_at, received_at, source, reason, path, detail, NULL AS event_id, correlation_id,
       stream, stream_sequence, position, octet_length(event)::bigint AS length, sha256(event) AS sha256, event,
       outcome, outcome_at, replayed_as
FROM dead_letters
UNION ALL
SELECT 'rejected', id, stored_at, received_at, coalesce(source::text, 'unknown'), reason, path, detail, event_id,
       correlation_id, 'REJECTED', stream_sequence, NULL, length, sha256, event, outcome, outcome_at, replayed_as
FROM rejected_events;

-- Dead letters that match a filter. A parameter that is NULL matches everything; since is inclusive, until is
-- exclusive.
CREATE FUNCTION filter_dead_letters(kind text, source text, reason text, since timestamptz, until timestamptz,
                                    outcome dead_letter_outcome, ids bigint[])
    RETURNS SETOF all_dead_letters LANGUAGE sql STABLE AS $$
    SELECT * FROM all_dead_letters d
    WHERE (filter_dead_letters.kind IS NULL OR d.kind = filter_dead_letters.kind)
      AND (filter_dead_letters.source IS NULL OR d.source = filter_dead_letters.source)
      AND (filter_dead_letters.reason IS NULL OR d.reason = filter_dead_letters.reason)
      AND (since IS NULL OR d.stored_at >= since)
      AND (until IS NULL OR d.stored_at < until)
      AND (filter_dead_letters.outcome IS NULL OR d.outcome = filter_dead_letters.outcome)
      AND (ids IS NULL OR d.id = ANY (ids))
$$;

-- For services of the previous version, until all are replaced.
CREATE VIEW refused_events AS SELECT * FROM rejected_events;
CREATE VIEW letter_totals AS SELECT kind, stream, outcome, dead_letters AS letters FROM dead_letter_totals;

GRANT SELECT ON all_dead_letters, refused_events, letter_totals TO sluice_reporter, sluice_collector;
GRANT INSERT, DELETE ON refused_events TO sluice_collector;
GRANT INSERT, UPDATE ON letter_totals TO sluice_collector;
