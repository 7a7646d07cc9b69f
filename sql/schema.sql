-- A table's columns and an enum's labels, to compare them with the source's declaration.

-- name: columns
SELECT attname AS column, atttypid::regtype::text AS type, attnotnull AS required, atthasdef AS defaulted,
       CASE WHEN typtype = 'e'
            THEN ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = atttypid ORDER BY enumsortorder) END AS labels
FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
ORDER BY attnum

-- name: labels
SELECT enumlabel::text FROM pg_enum WHERE enumtypid = to_regtype($1)

-- name: reported_source
-- What the views of reports know of the source $1.
SELECT title, purchase_type, funnel FROM reports.sources WHERE source = $1

-- name: reported_ranked
-- The ranked columns that the views of reports know of the source $1.
SELECT breakdown, column_name FROM reports.ranked_columns WHERE source = $1
