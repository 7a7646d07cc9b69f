"""The reporter: answers aggregated reports from PostgreSQL, read-only. query -> read -> answer."""
