"""Answers: every rejection has its status, and every answer says enough to act on."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from core.errors import RetryableError, StreamFull, StreamUnreachable
from core.events.catalog import shapes
from core.events.contract import Invalid, Reason
from core.events.violations import violations
from gateway import answer
from gateway.answer import Answer
from gateway.batch import MAX_LISTED_ERRORS, MAX_LISTED_VIOLATIONS, Batch, Block
from gateway.rejection import NotServing, Overloaded, Rejected, Rejection, UnexpectedDuplicate
from tests.support.batch_reader import ALONE, CONTRACT
from tests.support.events import microseconds

STATUS = {
    Rejection.EMPTY_BODY: 400,
    Rejection.NO_EVENTS: 400,
    Rejection.NOT_JSON: 400,
    Rejection.NOT_EVENTS: 400,
    Rejection.NOT_GZIP: 400,
    Rejection.TRUNCATED: 400,
    Rejection.UNSIGNED: 401,
    Rejection.BAD_SIGNATURE: 401,
    Rejection.STALE_SIGNATURE: 401,
    Rejection.FOREIGN_SOURCE: 403,
    Rejection.NOT_VERIFIED: 403,
    Rejection.UNKNOWN_PATH: 404,
    Rejection.WRONG_METHOD: 405,
    Rejection.TOO_LARGE: 413,
    Rejection.TOO_MANY_EVENTS: 413,
    Rejection.UNSUPPORTED_TYPE: 415,
    Rejection.UNSUPPORTED_ENCODING: 415,
}
TYPES = dict.fromkeys(
    label for shape in shapes() for rule in shape.rules if rule.path == "eventType" for label in rule.labels
)
OTHERS = {
    "timestamp": "an RFC 3339 instant with a zone, such as 2026-11-22T07:25:58.541Z, in the years 2000 to 2100",
    "funnelStage": '"top" or "bottom"',
    "eventType": " or ".join(f'"{kind}"' for kind in TYPES),
    "data": "an object with `user`, `engagement`",
}
STORED_BEFORE = {
    Overloaded: False,
    NotServing: False,
    StreamFull: True,
    StreamUnreachable: True,
    UnexpectedDuplicate: True,
}


def problem(given: Answer, status: int, name: str) -> dict[str, Any]:
    """The document of an answer, which has to be a problem of this kind, complete and under correlation ID c-1."""
    document: dict[str, Any] = json.loads(given.body)
    assert given.status == document["status"] == status
    assert given.headers["Content-Type"] == "application/problem+json"
    assert given.headers["X-Correlation-Id"] == document["correlationId"] == "c-1"
    assert document["type"] == f"urn:sluice:problem:{name}"
    assert document["title"]
    assert document["detail"]
    return document


@pytest.mark.parametrize("rejection", Rejection)
def test_every_rejection_is_a_problem_of_its_status(rejection: Rejection) -> None:
    """Each whole-request rejection is answered with its status and a problem document that says what was wrong."""
    document = problem(answer.rejected(Rejected(rejection, "the detail"), "c-1"), STATUS[rejection], rejection.value)
    assert document["detail"] == "the detail"


def test_an_unknown_encoding_is_reported_which_one_is_known() -> None:
    """415 for an encoding names the encodings that are taken, as RFC 9110 asks."""
    given = answer.rejected(Rejected(Rejection.UNSUPPORTED_ENCODING, "?"), "c-1")
    assert given.headers["Accept-Encoding"] == "gzip"


def test_401_says_what_would_do() -> None:
    """A missing or broken proof is answered with the kinds of proof that there are, as RFC 9110 asks."""
    assert "Bearer" in answer.rejected(Rejected(Rejection.UNSIGNED, "?"), "c-1").headers["WWW-Authenticate"]


@pytest.mark.parametrize("kind", STORED_BEFORE)
def test_our_own_trouble_is_503_with_retry_after(kind: type[RetryableError]) -> None:
    """503 says when to come again, and truthfully whether part of the request may be stored already."""
    given = answer.retryable(Overloaded("why", 7) if kind is Overloaded else kind("why"), "c-1")
    document = json.loads(given.body)
    problem(given, 503, document["type"].rpartition(":")[2])
    assert int(given.headers["Retry-After"]) >= 1
    assert ("may be stored" in document["detail"]) is STORED_BEFORE[kind]
    assert ("Nothing is stored" in document["detail"]) is not STORED_BEFORE[kind]


def test_every_error_of_ours_has_an_answer() -> None:
    """No RetryableError that the gateway may raise is without a row in the table."""
    raised = {
        error for error in RetryableError.__subclasses__() if error.__module__ in ("core.errors", "gateway.rejection")
    }
    assert raised == set(STORED_BEFORE)


def test_a_defect_is_500_and_hides_nothing_but_its_cause() -> None:
    """500 admits that part may be stored, and names the correlation ID under which it was logged."""
    assert "may be stored" in problem(answer.failed("c-1"), 500, "unexpected")["detail"]


def batch(accepted: int, rejected: int) -> Batch:
    made = Batch(ALONE)
    explain = partial(violations, received_at=microseconds(), contract=CONTRACT)
    if accepted:
        made.accept("tiktok", Block.of([b"{}"] * accepted))
    for index in range(rejected):
        made.reject(index, b'{"eventId":"e-1"}', Invalid(Reason.MISSING_FIELD, "$.source", "missing"), explain)
    return made


def test_accepted_events_are_202_with_the_counts() -> None:
    """202 counts what was accepted and rejected, and lists what was rejected with index, id, reason and path."""
    given = answer.batch(batch(accepted=3, rejected=1), "c-1")
    assert given.status == 202
    assert given.headers == {"Content-Type": "application/json", "X-Correlation-Id": "c-1"}
    assert json.loads(given.body) == {
        "correlationId": "c-1",
        "accepted": 3,
        "rejected": 1,
        "errors": [
            {
                "index": 0,
                "eventId": "e-1",
                "reason": "missing_field",
                "path": "$.source",
                "detail": "missing",
                "allowed": '"facebook" or "tiktok"',
                "violations": 5,
                "others": [
                    {
                        "reason": "missing_field",
                        "path": f"$.{name}",
                        "detail": f"Object missing required field `{name}`",
                        "allowed": allowed,
                    }
                    for name, allowed in OTHERS.items()
                ],
            },
        ],
    }


def test_the_answer_is_bounded() -> None:
    """Of 100 rejected events the answer lists 100 other violations at most, and counts all violations of each."""
    errors = json.loads(answer.batch(batch(accepted=1, rejected=150), "c-1").body)["errors"]
    assert [error["violations"] for error in errors] == [5] * MAX_LISTED_ERRORS
    assert [len(error["others"]) for error in errors] == [4] * (MAX_LISTED_VIOLATIONS // 4) + [0] * (
        MAX_LISTED_ERRORS - MAX_LISTED_VIOLATIONS // 4
    )


def test_nothing_accepted_is_a_422_with_the_same_counts() -> None:
    """422 is a problem document that carries the counts and errors of a 202; the first 100 errors, all counted."""
    document = problem(answer.batch(batch(accepted=0, rejected=101), "c-1"), 422, "nothing_accepted")
    assert (document["accepted"], document["rejected"], len(document["errors"])) == (0, 101, 100)
