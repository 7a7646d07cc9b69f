"""The event contract: the rules for events, their subjects, and the wire format of a batch."""
