-- Daily partitions: created ahead and on demand, dropped after their retention.

-- name: ensure
-- Returns made, attached or existed.
SELECT ensure_day($1, $2)

-- name: drop_before
-- Returns each day below the new floor, with the error if it could not be dropped.
SELECT day, error FROM drop_days($1, $2)

-- name: days
-- Days that have an attached partition, in order. A table that is detached, or is being detached, does not count.
SELECT leaf_day($1, inhrelid) AS day
FROM pg_inherits
WHERE inhparent = to_regclass($1) AND NOT inhdetachpending AND leaf_day($1, inhrelid) IS NOT NULL
ORDER BY day

-- name: tables
-- The tables of days: the planner's estimate of rows (-1: none yet), bytes including indexes, and whether the table is
-- attached. A detached table is included unless its day is below the floor.
SELECT leaf_day($1, leaf.oid) AS day, leaf.reltuples::bigint AS rows, pg_total_relation_size(leaf.oid) AS bytes,
       coalesce(NOT inhdetachpending, false) AS attached
FROM pg_class leaf LEFT JOIN pg_inherits ON inhrelid = leaf.oid AND inhparent = to_regclass($1)
WHERE leaf.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass($1))
  AND leaf.relkind = 'r' AND starts_with(leaf.relname, $1 || '_') AND leaf_day($1, leaf.oid) IS NOT NULL
  AND (inhparent IS NOT NULL
       OR leaf_day($1, leaf.oid) >= (SELECT floor FROM partition_floors WHERE parent = $1))
ORDER BY day

-- name: without_index
-- Partitions that lack an index of their table, newest first, with the name and the definition of the missing index.
SELECT leaf.relname AS partition, parent.relname AS parent,
       leaf.relname || substr(parent.relname, length(source.relname) + 1) AS index,
       substring(pg_get_indexdef(parent.oid) FROM ' USING .*') AS definition
FROM pg_index
JOIN pg_class AS parent ON parent.oid = indexrelid AND parent.relkind = 'I'
JOIN pg_class AS source ON source.oid = indrelid AND source.relname = ANY ($1)
JOIN pg_inherits AS day ON day.inhparent = indrelid
JOIN pg_class AS leaf ON leaf.oid = day.inhrelid
WHERE NOT EXISTS (
    SELECT FROM pg_inherits AS attached JOIN pg_index AS of_leaf ON of_leaf.indexrelid = attached.inhrelid
    WHERE attached.inhparent = parent.oid AND of_leaf.indrelid = leaf.oid)
ORDER BY leaf.relname DESC, parent.relname

-- name: drop_index
-- An interrupted CREATE INDEX CONCURRENTLY leaves an invalid index.
DROP INDEX CONCURRENTLY IF EXISTS {index}

-- name: create_index
-- Same definition as the table's index: only an equal index can be attached.
CREATE INDEX CONCURRENTLY {index} ON {partition}{definition}

-- name: attach_index
ALTER INDEX {parent} ATTACH PARTITION {index}
