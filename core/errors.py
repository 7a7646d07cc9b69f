"""What can go wrong, and who has to act.

SluiceError
  x Misconfigured      the operator's: a setting is missing or wrong; the service does not start
  x RetryableError           ours: answered 503 with Retry-After, or retried by a collector
      StreamFull         the stream has no room: rejected at once
      StreamUnreachable  no PubAck came in time: part may be stored
  x FatalError           a defect or a wrong schema: nothing is acknowledged, an alert fires; retried every minute
"""


class SluiceError(Exception):
    """Base of every error that Sluice raises on purpose."""


class Misconfigured(SluiceError):
    """A setting is missing or wrong. The message names the variable and what is allowed."""


class RetryableError(SluiceError):
    """The same request may succeed later. Carries how long a sender should wait."""

    retry_after_seconds: int = 1


class StreamFull(RetryableError):
    """JetStream rejected the message because the stream is at its size limit (err_code 10077)."""

    retry_after_seconds = 5


class StreamUnreachable(RetryableError):
    """No PubAck came within the time allowed: the message may or may not be stored."""

    retry_after_seconds = 2


class FatalError(SluiceError):
    """Storing failed for a reason that waiting does not mend."""
