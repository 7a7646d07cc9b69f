"""The collector: one program for any source, from its JetStream stream into PostgreSQL."""
