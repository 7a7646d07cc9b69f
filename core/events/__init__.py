"""The event contract: what an event is, where it goes and how a batch of events looks on the wire."""
