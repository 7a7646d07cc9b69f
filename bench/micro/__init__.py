"""Microbenchmarks of single steps, with pytest-benchmark."""
