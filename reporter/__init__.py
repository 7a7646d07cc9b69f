"""The reporter: aggregated reports from PostgreSQL, read-only. Parse the query -> read -> answer."""
