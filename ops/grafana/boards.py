"""Build a dashboard around its panels: variables, annotations of deploys and migrations, links."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from ops.grafana.panels import RUNBOOKS, SOURCE


def board(
    title: str, uid: str, meaning: str, rows: Sequence[tuple[str, Sequence[Any]]], instances: str
) -> dashboard.Dashboard:
    """Return a dashboard of metrics. `instances` selects the targets listed by the variable `$instance`."""
    built = dashboard_of(title, uid, meaning, rows, _variables(instances), since="now-1h", refresh="10s")
    for annotation in _annotations():
        built.annotation(annotation)
    built.link(dashboard.DashboardLink("Runbooks").type(model.DashboardLinkType.LINK).url(RUNBOOKS).target_blank(True))
    return built


def dashboard_of(
    title: str,
    uid: str,
    meaning: str,
    rows: Sequence[tuple[str, Sequence[Any]]],
    variables: Sequence[Any],
    *,
    since: str,
    refresh: str,
) -> dashboard.Dashboard:
    """Return a dashboard of rows of panels, with a link to the other dashboards."""
    built = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(meaning)
        .tags(["sluice"])
        .readonly()
        .timezone("browser")
        .time(since, "now")
        .refresh(refresh)
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
    )
    for variable in variables:
        built.with_variable(variable)
    built.link(
        dashboard.DashboardLink("Sluice")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags(["sluice"])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )
    for name, panels in rows:
        built.with_row(dashboard.Row(name))
        for panel in panels:
            built.with_panel(panel)
    return built


def _variables(instances: str) -> list[Any]:
    def query_variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
        return (
            dashboard.QueryVariable(name)
            .label(label)
            .query(query)
            .datasource(SOURCE)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(model.VariableOption(selected=True, text="All", value="$__all"))
            .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(model.VariableSort.ALPHABETICAL_ASC)
        )

    return [
        dashboard.DatasourceVariable("environment").label("Environment").type("prometheus"),
        query_variable("source", "Source", "label_values(collector_events_accepted_total, source)"),
        query_variable("instance", "Instance", f"label_values(up{{{instances}}}, instance)"),
        # URL of ops/runbooks: SLUICE_RUNBOOKS_URL=… python -m ops.grafana writes it into the dashboards.
        dashboard.ConstantVariable("runbooks").value(os.environ.get("SLUICE_RUNBOOKS_URL") or "ops/runbooks"),
    ]


def _annotations() -> list[dashboard.AnnotationQuery]:
    def annotation(name: str, colour: str, expression: str) -> dashboard.AnnotationQuery:
        return (
            dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour).expr(expression)
        )

    build, version = "count by (service, version) (sluice_build_info)", "max(reporter_schema_version)"
    return [
        annotation("Deploys", "blue", f"{build} unless {build[:-1]} offset 1m)"),
        annotation("Migrations", "purple", f"{version} > {version[:-1]} offset 1m)"),
    ]
