"""Grafana's dashboards as code: `python -m ops.grafana` writes dashboards/*.json. A test keeps both equal."""
