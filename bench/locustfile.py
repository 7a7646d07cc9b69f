"""Senders for locust: single events, batches of 100, and arrays of the publisher's size.

    make up PUBLISHER=0                               in one terminal
    locust -f bench/locustfile.py                     web UI at http://127.0.0.1:8089
    make load                                         without the UI: LOAD_USERS=20 LOAD_SECONDS=30

Select a class:  locust -f bench/locustfile.py SingleEvents    (also BatchesOf100, PublisherSized)

Weakness: a locust user is a Python greenlet, so locust itself is the limit at a few thousand requests per second. For
more, use `python -m bench.single_post`.
"""

from random import Random
from typing import ClassVar

from locust import FastHttpUser, constant_throughput, task

from bench.publisher.bodies import Bodies

HEADERS = {"Content-Type": "application/json"}
rng = Random()
bodies = Bodies(rng.random(), corrupt_share=0.10)


class Sender(FastHttpUser):
    """Posts bodies of one size. Counts every response except 202 as a failure."""

    abstract = True
    host = "http://127.0.0.1:8080"
    sizes: ClassVar[tuple[int, int]]

    @task
    def post(self) -> None:
        """One POST."""
        content = bodies.body(rng.randint(*self.sizes)).content
        name = type(self).__name__
        with self.client.post("/events", content, headers=HEADERS, name=name, catch_response=True) as answer:  # type: ignore[arg-type]  # bytes are fine
            if answer.status_code == 202:  # also for a body with one invalid event
                answer.success()
            else:
                answer.failure(f"status {answer.status_code}")


class SingleEvents(Sender):
    """Many small senders."""

    weight = 16
    sizes = (1, 1)
    wait_time = constant_throughput(20)


class BatchesOf100(Sender):
    """Senders that batch."""

    weight = 4
    sizes = (100, 100)
    wait_time = constant_throughput(5)


class PublisherSized(Sender):
    """The publisher: one array per second."""

    weight = 1
    sizes = (1_000, 50_000)
    wait_time = constant_throughput(1)
