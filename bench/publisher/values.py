"""How the values of made events are distributed.

    publisher       a person, a campaign and a video of its own for each event, as the publisher sends
    zipf            people, campaigns, cities and things that return, a few of them often (Zipf's law)
    one             one person, campaign, city and thing in all events of a type
    zipf-campaigns  the publisher's, except few campaigns by Zipf's law
    one-campaign    the publisher's, except a single campaign
    many            as zipf, with 2,000 campaigns
    plausible       as zipf, and event types that get rarer at each step of the funnel

Types are even within a stage except in `plausible`. Event ids and instants are new in every event.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

Kind = Literal["person", "city", "campaign", "thing", "circumstance"]

# How many of a thousand events of a source are of a type: the funnel gets narrower at each step.
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
    """How many different people, cities and so on there are; None: a new one for each event.

    A `thing` is a video, a profile or what is sold; a `circumstance` is all else of an engagement.
    """

    person: int | None = None
    city: int | None = None
    campaign: int | None = None
    thing: int | None = None
    circumstance: int | None = None
    funnel: bool = False

    def draw(self, kind: Kind, rng: Random) -> Random | None:
        """The generator of one of these, always the same for the same one; None if each event has a new one.

        The n-th has a likelihood in proportion to 1/n.
        """
        count: int | None = getattr(self, kind)
        return None if count is None else Random(f"{kind}/{int((count + 1) ** rng.random())}")


VALUES: Mapping[str, Values] = {
    "publisher": Values(),
    "zipf": Values(person=50_000, city=20_000, campaign=200, thing=2_000),
    "one": Values(person=1, city=1, campaign=1, thing=1, circumstance=1),
    "zipf-campaigns": Values(campaign=200),
    "one-campaign": Values(campaign=1),
    "many": Values(person=50_000, city=20_000, campaign=2_000, thing=2_000),
    "plausible": Values(person=50_000, city=20_000, campaign=200, thing=2_000, funnel=True),
}
