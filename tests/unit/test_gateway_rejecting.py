"""What rejecting a request leaves behind: nothing, whatever it held."""

from __future__ import annotations

import gzip
from collections.abc import Mapping

import pytest

from gateway.admission import Admission
from gateway.publish import Publisher
from gateway.receive import IngestHandler
from gateway.settings import GatewaySettings
from gateway.signature import Signatures
from tests.support.garbage import errors_left_behind

SECRET = "0123456789abcdef" * 2
SHARE = 1 << 20
GZIP = {"content-encoding": "gzip"}
BOMB = gzip.compress(b"[" + b" " * (4 * SHARE))
REJECTED: dict[str, tuple[int, Mapping[str, str], bytes]] = {
    "no room": (503, {}, b"[" * SHARE),
    "no room for what it inflates to": (503, GZIP, BOMB),
    "too large": (413, {"content-length": f"{1 << 40}"}, b"["),
    "not what was announced": (400, {"content-length": "9"}, b"["),
    "not gzip": (400, GZIP, b"[" * 100_000),
    "an encoding that is not known": (415, {"content-encoding": "br"}, b"["),
    "a type that cannot hold events": (415, {"content-type": "image/png"}, b"["),
    "empty": (400, {}, b" " * 100_000),
    "not JSON": (400, {}, b"nonsense" * 10_000),
    "a wrong signature": (401, {"authorization": f"Bearer {SECRET[::-1]}"}, b"[" * 100_000),
    "no signature": (401, {}, b"[" * 100_000),
}


@pytest.mark.parametrize("what", REJECTED)
async def test_a_rejection_leaves_nothing_behind(what: str) -> None:
    """No rejected request stays, with the body that it held, until the cyclic collector comes: that is rare here."""
    status, headers, body = REJECTED[what]
    signed = (
        {"gateway_facebook_scheme": "key", "gateway_facebook_secrets": SECRET,
         "gateway_tiktok_scheme": "key", "gateway_tiktok_secrets": SECRET} if "signature" in what else {}
    )  # fmt: skip
    settings = GatewaySettings(gateway_workers=1, gateway_max_in_flight_bytes=SHARE, **signed)
    admission = Admission(SHARE)
    gateway = IngestHandler(settings, admission, Signatures(settings), Publisher())
    await gateway.receive({}, b"warm")  # what is made once
    with errors_left_behind() as left, admission.reserve(SHARE // 2):
        assert (await gateway.receive(headers, body)).status == status
    assert left == []
