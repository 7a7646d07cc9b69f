"""Load generation and measurement: the stand-in publisher, benchmarks and their results."""
