"""Store batches, one transaction each, and isolate the events that PostgreSQL rejects."""
