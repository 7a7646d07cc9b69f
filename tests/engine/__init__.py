"""Sluice under a real container engine: `make compose-check` runs this package, `make test` does not.

The runner (`python -m tests.engine`) finds an engine or brings one (`own.py`), builds the images, and runs the tests of
this folder with `DOCKER_HOST` and `DOCKER_CONFIG` set. `compose.py` runs a project of the real compose files.
"""
