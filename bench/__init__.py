"""What loads Sluice and measures it: the stand-in publisher, benchmarks and their results."""
