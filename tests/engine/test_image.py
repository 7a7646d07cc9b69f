"""The image."""


def test_nothing() -> None:
    pass
