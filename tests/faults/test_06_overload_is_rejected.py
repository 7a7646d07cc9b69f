"""Promise 6: overload is rejected at once, with Retry-After, while what was accepted goes on; and it ends by itself.

How fast a rejection is stands in the benchmarks. Here: that it comes while everything else waits.
"""

import asyncio

from gateway.admission import REQUEST_BYTES
from ops.local.ready import get
from tests.support.events import encoded, facebook
from tests.support.faulty import FaultySystem, rounds
from tests.support.waiting import eventually

EVENTS = 2_000
REJECTED = 50


async def test_past_what_may_be_in_flight(system: FaultySystem) -> None:
    """A gateway holds as much as it may, because JetStream does not answer: whatever else comes is rejected meanwhile,
    and nothing of it is stored. JetStream answers: what was held is answered 202, and so is everything after."""
    events = [facebook() for _ in range(EVENTS)]
    body_bytes = len(b",".join(map(encoded, events))) + len(b"[]")
    room = {"GATEWAY_WORKERS": "1", "GATEWAY_MAX_IN_FLIGHT_BYTES": str(body_bytes + REQUEST_BYTES)}
    port = await system.also("gateway-small", "gateway", **room)
    endpoint = f"http://127.0.0.1:{port}/events"

    async def held() -> bool:
        _, metrics = await get(port, "/metrics")
        return b"\ngateway_requests_in_flight 1.0" in metrics

    for _ in range(rounds(1, 20)):
        system.to_nats.half_open()
        waiting = asyncio.create_task(system.post(events, endpoint=endpoint))
        await eventually(held, what="the large body is held", seconds=30)
        answers = await asyncio.gather(*(system.post([facebook()], endpoint=endpoint) for _ in range(REJECTED)))
        assert not waiting.done()
        assert {(answer.status_code, answer.json()["type"]) for answer in answers} == {
            (503, "urn:sluice:problem:overloaded")
        }
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
        system.to_nats.release()
        assert (await waiting).status_code == 202
        assert (await system.post([facebook()], endpoint=endpoint)).status_code == 202
