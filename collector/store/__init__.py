"""Store batches: one transaction each, and what becomes of a batch that PostgreSQL does not take."""
