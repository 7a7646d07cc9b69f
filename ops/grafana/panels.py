"""What all dashboards share: panels in a few shapes, variables, annotations, links.

`$environment` is a data source: each environment has a Prometheus of its own. Every panel says in its description what
it means; colours mean the same everywhere: red is lost or late, orange is refused or repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as model

SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${environment}")
RUNBOOKS: Final = "${runbooks}"

# Units, as Grafana spells them.
EVENTS: Final = "short"
EVENTS_A_SECOND: Final = "eps"
EVENTS_A_MINUTE: Final = "epm"
REQUESTS_A_SECOND: Final = "reqps"
SECONDS: Final = "s"
BYTES: Final = "bytes"
SHARE: Final = "percentunit"

Query = tuple[str, str]
"""An expression, and the legend of its series."""


def curves(
    title: str, unit: str, *queries: Query, meaning: str, stacked: bool = False, width: int = 12, runbook: str = ""
) -> timeseries.Panel:
    """A graph over time; stacked where the series add up to something."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .line_width(1)
        .fill_opacity(60 if stacked else 10)
        .show_points(shapes.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(shapes.LegendDisplayMode.TABLE)
            .placement(shapes.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))
    _ask(panel, queries, runbook)
    return panel


def number(
    title: str,
    unit: str,
    expression: str,
    *,
    meaning: str,
    bad_from: float | None = None,
    bad_below: float | None = None,
    width: int = 4,
    runbook: str = "",
) -> stat.Panel:
    """One number as it is now; red from `bad_from` on, or below `bad_below`."""
    panel = (
        stat.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(4)
        .graph_mode(shapes.BigValueGraphMode.AREA)
        .color_mode(shapes.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(bad_from, bad_below))
    )
    _ask(panel, [(expression, "")], runbook)
    return panel


def bars(
    title: str, unit: str, *queries: Query, meaning: str, most: float | None = None, width: int = 12
) -> bargauge.Panel:
    """One bar for each series, as it is now."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .orientation(shapes.VizOrientation.HORIZONTAL)
        .display_mode(shapes.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if most is not None:
        panel.max(most).thresholds(_thresholds(most * 0.8, None))
    _ask(panel, queries)
    return panel


def board(
    title: str, uid: str, meaning: str, rows: Sequence[tuple[str, Sequence[Any]]], instances: str
) -> dashboard.Dashboard:
    """A dashboard of rows of panels. `instances` selects the targets that `$instance` offers."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(meaning)
        .tags(["sluice"])
        .readonly()
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("10s")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
    )
    for variable in _variables(instances):
        made.with_variable(variable)
    for annotation in _annotations():
        made.annotation(annotation)
    made.link(
        dashboard.DashboardLink("Sluice")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags(["sluice"])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )
    made.link(dashboard.DashboardLink("Runbooks").type(model.DashboardLinkType.LINK).url(RUNBOOKS).target_blank(True))
    for name, panels in rows:
        made.with_row(dashboard.Row(name))
        for panel in panels:
            made.with_panel(panel)
    return made


def _ask(panel: Any, queries: Sequence[Query], runbook: str = "") -> None:
    """Give a panel its queries, and the link to its runbook."""
    for ref, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        query = prometheus.Dataquery().expr(expression).ref_id(ref).datasource(SOURCE).range()
        panel.with_target(query.legend_format(legend) if legend else query)
    if runbook:
        link = dashboard.DashboardLink(f"Runbook: {runbook}").type(model.DashboardLinkType.LINK)
        panel.links([link.url(f"{RUNBOOKS}/{runbook}.md").target_blank(True)])


def _thresholds(bad_from: float | None, bad_below: float | None) -> dashboard.ThresholdsConfig:
    steps = [model.Threshold(value=None, color="red" if bad_below is not None else "green")]
    if bad_below is not None:
        steps.append(model.Threshold(value=bad_below, color="green"))
    if bad_from is not None:
        steps.append(model.Threshold(value=bad_from, color="red"))
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _variables(instances: str) -> list[Any]:
    def asked(name: str, label: str, query: str) -> dashboard.QueryVariable:
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
        asked("source", "Source", "label_values(collector_events_accepted_total, source)"),
        asked("instance", "Instance", f"label_values(up{{{instances}}}, instance)"),
        # Where this project's runbooks are read: set it to your repository's address.
        dashboard.ConstantVariable("runbooks").value("ops/runbooks"),
    ]


def _annotations() -> list[dashboard.AnnotationQuery]:
    def marks(name: str, colour: str, expression: str) -> dashboard.AnnotationQuery:
        return (
            dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour).expr(expression)
        )

    build, version = "count by (service, version) (sluice_build_info)", "max(reporter_schema_version)"
    return [
        marks("Deploys", "blue", f"{build} unless {build[:-1]} offset 1m)"),
        marks("Migrations", "purple", f"{version} > {version[:-1]} offset 1m)"),
    ]
