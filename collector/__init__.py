"""The collector: store the events of one source, from its JetStream stream into PostgreSQL."""
