"""The stand-in publisher: makes and posts events as the publisher does."""
