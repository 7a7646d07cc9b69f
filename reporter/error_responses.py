"""Explain an error to the client, and log what is not the client's doing."""

from __future__ import annotations

import structlog

from reporter import answer
from reporter.correlation import current_correlation_id

log = structlog.get_logger()


def problem_for(error: Exception) -> tuple[answer.Problem, dict[str, str]]:
    """The problem document of an error under the request's correlation ID, and the headers that go with it."""
    problem, headers = answer.problem(error)
    if problem.status == 500:
        log.error("report failed", exc_info=error)
    elif problem.status > 500:
        log.warning("report failed", error=repr(error))
    problem.correlation_id = current_correlation_id() or problem.correlation_id
    return problem, {**headers, **answer.NO_STORE}
