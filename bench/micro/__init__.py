"""Benchmarks of single steps, with pytest-benchmark."""
