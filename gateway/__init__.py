"""The door: takes events over HTTP and answers 202 when every one that is valid is on JetStream's disk."""
