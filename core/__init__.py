"""Code that all services share: event contract, settings, lifecycle, and the clients of NATS and PostgreSQL."""
