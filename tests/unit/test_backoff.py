"""The pauses between tries double up to a limit."""

from itertools import islice

from core.backoff import backoff


def test_pauses_double_up_to_their_limit() -> None:
    """The first pause is the one asked for, the longest the limit, which is kept."""
    assert list(islice(backoff(0.05, 1.0), 7)) == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert list(islice(backoff(2.0, 2.0), 2)) == [2.0, 2.0]
