"""The gateway: accept events over HTTP and answer 202 when every valid event is on JetStream's disk."""
