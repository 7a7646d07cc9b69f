"""One running system for each file of tests, and its judgement at the end."""

from collections.abc import AsyncIterator

import pytest

from tests.support.system import System, running


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """Settings of the services; a file that needs others has a fixture of this name."""
    return {}


@pytest.fixture(scope="module")
async def system(settings: dict[str, str]) -> AsyncIterator[System]:
    """A running system. At the end everything that the file's tests sent through it is where it belongs."""
    async with running(**settings) as system:
        yield system
        await system.judge()
