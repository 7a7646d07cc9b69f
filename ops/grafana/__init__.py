"""Grafana's dashboards as code: `python -m ops.grafana` writes dashboards/*.json, and a test holds both equal."""
