"""Turn an error into a problem document, and log it if the client did not cause it."""

from __future__ import annotations

import structlog

from reporter import answer
from reporter.correlation import current_correlation_id

log = structlog.get_logger()


def problem_for(error: Exception) -> tuple[answer.Problem, dict[str, str]]:
    """Return the problem document of an error, with the request's correlation ID, and the response headers."""
    problem, headers = answer.problem(error)
    if problem.status == 500:
        log.error("report failed", exc_info=error)
    elif problem.status > 500:
        log.warning("report failed", error=repr(error))
    problem.correlation_id = current_correlation_id() or problem.correlation_id
    return problem, {**headers, **answer.NO_STORE}
