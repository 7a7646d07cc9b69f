"""The stand-in publisher: generates and posts events as the real publisher does."""
