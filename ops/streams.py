"""The streams as they are beside the streams as they are declared, and what mends the difference.

Services make a stream that is missing and never change one that stands: that is for a person to decide, here.
"""

from __future__ import annotations

from typing import NamedTuple

import nats.js.errors
from nats.aio.client import Client
from nats.js.api import StreamConfig

from core.errors import SluiceError
from core.jetstream import StreamInfo, declared, differences, stream_config, stream_info
from core.settings import Settings


class Stream(NamedTuple):
    """One declared stream; info is None where it is missing. drift says what differs."""

    name: str
    wanted: StreamConfig
    info: StreamInfo | None
    drift: list[str]


async def read(client: Client, settings: Settings) -> list[Stream]:
    """All declared streams."""
    found = []
    for wanted in declared(settings):
        name = str(wanted.name)
        try:
            config = await stream_config(client, name)
        except nats.js.errors.NotFoundError:
            found.append(Stream(name, wanted, None, ["is missing"]))
            continue
        found.append(Stream(name, wanted, await stream_info(client, name), differences(wanted, config)))
    return found


async def apply(client: Client, stream: Stream) -> None:
    """Make a stream as it is declared. Raises SluiceError for what JetStream does not change in one that stands."""
    js = client.jetstream()
    try:
        await (js.add_stream(stream.wanted) if stream.info is None else js.update_stream(stream.wanted))
    except nats.js.errors.APIError as error:
        raise SluiceError(
            f"{stream.name} cannot be changed while it stands: {error.description}. Stop the gateways, drain it "
            f"(python -m ops drain), delete it (nats stream rm {stream.name}), and run this again: it is made anew"
        ) from error
