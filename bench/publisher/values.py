"""Distributions of the values in generated events.

    publisher       a new person, campaign and video for each event, like the real publisher
    zipf            people, campaigns, cities and items repeat, a few of them often (Zipf's law)
    many            like zipf, with 2,000 campaigns
    one             one person, campaign, city and item in all events of a type
    zipf-campaigns  like publisher, but few campaigns by Zipf's law
    one-campaign    like publisher, but a single campaign
    plausible       like zipf, and event types are rarer at each step of the funnel

Except in `plausible`, all types of a stage are equally likely. Event ids and instants are new in every event.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

Entity = Literal["person", "city", "campaign", "thing", "circumstance"]

# Events of each type per thousand events of a source.
FUNNEL: Mapping[str, Mapping[tuple[str, str], int]] = {
    "facebook": {
        ("top", "ad.view"): 600,
        ("top", "video.view"): 230,
        ("top", "page.like"): 45,
        ("top", "comment"): 25,
        ("bottom", "ad.click"): 75,
        ("bottom", "form.submission"): 18,
        ("bottom", "checkout.complete"): 7,
    },
    "tiktok": {
        ("top", "video.view"): 690,
        ("top", "like"): 170,
        ("top", "share"): 40,
        ("top", "comment"): 30,
        ("bottom", "profile.visit"): 50,
        ("bottom", "follow"): 14,
        ("bottom", "purchase"): 6,
    },
}


@dataclass(frozen=True)
class Values:
    """Number of different people, cities and so on; None: a new one for each event.

    A thing is a video, a profile or a sold item. A circumstance is all other values of an engagement.
    """

    person: int | None = None
    city: int | None = None
    campaign: int | None = None
    thing: int | None = None
    circumstance: int | None = None
    funnel: bool = False

    def draw(self, entity: Entity, rng: Random) -> Random | None:
        """Draw one entity, and return its random generator; None if each event has a new entity.

        The probability of the n-th entity is proportional to 1/n.
        """
        count: int | None = getattr(self, entity)
        return None if count is None else Random(f"{entity}/{int((count + 1) ** rng.random())}")


VALUES: Mapping[str, Values] = {
    "publisher": Values(),
    "zipf": Values(person=50_000, city=20_000, campaign=200, thing=2_000),
    "one": Values(person=1, city=1, campaign=1, thing=1, circumstance=1),
    "zipf-campaigns": Values(campaign=200),
    "one-campaign": Values(campaign=1),
    "many": Values(person=50_000, city=20_000, campaign=2_000, thing=2_000),
    "plausible": Values(person=50_000, city=20_000, campaign=200, thing=2_000, funnel=True),
}
