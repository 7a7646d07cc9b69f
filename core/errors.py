"""Exceptions that all services share.

SluiceError
  x Misconfigured        a setting is missing or wrong; the service does not start
  x RetryableError       temporary: the gateway answers 503 with Retry-After, a collector retries
      StreamFull         the stream is full: rejected at once
      StreamUnreachable  no PubAck arrived in time: part of the request may be stored
  x FatalError           needs an operator: nothing is acknowledged and an alert fires; retried every minute
"""


class SluiceError(Exception):
    """Base of every error that Sluice raises on purpose."""


class Misconfigured(SluiceError):
    """A setting is missing or wrong. The message names the variable and what is allowed."""


class RetryableError(SluiceError):
    """The same request may succeed after `retry_after_seconds`."""

    retry_after_seconds: int = 1


class StreamFull(RetryableError):
    """JetStream rejected the message because the stream is at its size limit (err_code 10077)."""

    retry_after_seconds = 5


class StreamUnreachable(RetryableError):
    """No PubAck arrived within the time-out: the message may or may not be stored."""

    retry_after_seconds = 2


class FatalError(SluiceError):
    """Storing failed for a reason that does not disappear by waiting."""
