"""The dashboards' JSON is what the code says, and Grafana can read it."""

import json
from typing import Any

import pytest
from grafana_foundation_sdk.models.dashboard import Dashboard

from ops.grafana.__main__ import FOLDER, rendered
from tests.support.processes import ROOT
from tests.support.prometheus import alert_rules

FILES = sorted(FOLDER.glob("*.json"))


REPORTS = "reports"  # of PostgreSQL; all others are of Prometheus


def dashboards() -> list[Any]:
    return [pytest.param(json.loads(path.read_text()), id=path.stem) for path in FILES]


def of_metrics() -> list[Any]:
    return [dashboard for dashboard in dashboards() if dashboard.id != REPORTS]


def test_the_files_are_what_the_code_says() -> None:
    """`python -m ops.grafana` would change nothing."""
    assert {path.name: path.read_text() for path in FILES} == rendered()


@pytest.mark.parametrize("dashboard", dashboards())
def test_grafana_s_own_types_take_it(dashboard: dict[str, Any]) -> None:
    """The types that are generated from Grafana's schema read it and lose nothing."""
    assert json.loads(json.dumps(Dashboard.from_json(dashboard), default=lambda model: model.to_json())) == dashboard


@pytest.mark.parametrize("dashboard", dashboards())
def test_every_panel_is_whole(dashboard: dict[str, Any]) -> None:
    """A panel has a title, a meaning, a unit and queries; it lies on the grid and on no other panel."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["title"]
            assert panel["description"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["targets"]


def test_reports_query_postgresql() -> None:
    """Every panel and variable of the dashboard Reports uses the selected database, and has its four variables."""
    (dashboard,) = (one.values[0] for one in dashboards() if one.id == REPORTS)
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert {"database", "source", "interval", "campaign"} <= variables.keys()
    database = {"type": variables["database"]["query"], "uid": "${database}"}
    provisioned = (FOLDER.parent / "provisioning" / "datasources" / "sluice.yml").read_text()
    assert f"type: {database['type']}\n" in provisioned
    queried = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    for part in (*queried, *(target for panel in queried for target in panel["targets"]), variables["source"]):
        assert part["datasource"] == database


@pytest.mark.parametrize("dashboard", of_metrics())
def test_it_has_its_variables_marks_and_links(dashboard: dict[str, Any]) -> None:
    """Environment, source and instance can be chosen; deploys and migrations are marked; linked runbooks exist."""
    assert {"environment", "source", "instance"} <= {variable["name"] for variable in dashboard["templating"]["list"]}
    assert {"Deploys", "Migrations"} <= {mark["name"] for mark in dashboard["annotations"]["list"]}
    assert "Runbooks" in {link["title"] for link in dashboard["links"]}
    links = [link["url"] for panel in dashboard["panels"] for link in panel.get("links", ())]
    for url in links:
        assert (ROOT / url.replace("${runbooks}", "ops/runbooks")).is_file(), url


def test_every_alert_is_seen_on_a_panel() -> None:
    """What can wake somebody has a panel that links to the same runbook."""
    linked = {link for path in FILES for link in path.read_text().split('"') if link.startswith("${runbooks}/")}
    for rule in alert_rules().values():
        runbook = rule["annotations"]["runbook_url"].rpartition("/")[2]
        assert f"${{runbooks}}/{runbook}" in linked, runbook
