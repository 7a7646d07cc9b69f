"""Builders of the panels of all dashboards, and their colours.

`$environment` is a data source: each environment has its own Prometheus. Every panel has a description. Colours have
one meaning everywhere: blue is neutral, green is good, orange is rejected, repeated or slow, red is lost, late or a
limit. A source has one colour in all panels. A dashed line is a limit or the threshold of an alert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as model

from core.sources import SOURCES

SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${environment}")
RUNBOOKS: Final = "${runbooks}"

# Grafana's names of units.
EVENTS: Final = "short"
EXACT: Final = "locale"  # all digits, for numbers that must add up
EVENTS_A_SECOND: Final = "eps"
EVENTS_A_MINUTE: Final = "epm"
REQUESTS_A_SECOND: Final = "reqps"
SECONDS: Final = "s"
BYTES: Final = "bytes"
SHARE: Final = "percentunit"
DAYS: Final = "d"

Query = tuple[str, str]
"""A PromQL expression, and the legend of its series."""

_SOURCES: Final = {
    f"/^(EVENTS_)?{source.name}|^{source.short_name}-/i": source.color for source in SOURCES.values()
} | {"/^rejected/i": "orange"}
# Colours of series, by legend: by a pattern of the label's value, or by the legend's text.
_COLOURS: Final[dict[str, dict[str, str]]] = {
    "{{source}}": _SOURCES,
    "{{service}}": _SOURCES,
    "{{stream_name}}": _SOURCES,
    "{{status}}": {"/^2/": "green", "/^4/": "orange", "/^5/": "red"},
    "nats": {"nats": "yellow"},
    "p50": {"p50": "green"},
    "p95": {"p95": "yellow"},
    "p99": {"p99": "orange"},
}
_LIMITS: Final = ("limit", "measured limit")
_GREEN: Final = model.Threshold(value=None, color="green")


def curves(
    title: str,
    unit: str,
    *queries: Query,
    meaning: str,
    stacked: bool = False,
    usually_zero: bool = False,
    critical_from: float | None = None,
    critical_below: float | None = None,
    width: int = 12,
    runbook: str = "",
) -> timeseries.Panel:
    """Return a graph over time, stacked if the sum of the series has a meaning.

    critical_from, critical_below    threshold of its alert
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(_height(width))
        .line_width(1)
        .fill_opacity(60 if stacked else 10)
        .show_points(shapes.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(shapes.LegendDisplayMode.TABLE)
            .placement(shapes.LegendPlacement.RIGHT if width >= 12 else shapes.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
            .sort_by("Max")
            .sort_desc(True)
        )
        .tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))
    if usually_zero or unit == SHARE:  # if all values are 0, the axis of a share would reach 10,000 %
        panel.axis_soft_max(1)
    if critical_from is not None or critical_below is not None:
        panel.thresholds(_thresholds(critical_from, critical_below, good="transparent"))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(shapes.GraphThresholdsStyleMode.DASHED))
    for _, legend in queries:
        for name, colour in _COLOURS.get(legend, {}).items():
            _override(panel, name, color=_fixed(colour))
        if legend in _LIMITS:
            dashes = {"fill": "dash", "dash": [10, 10]}
            _override(panel, legend, **{"color": _fixed("red"), "custom.lineStyle": dashes, "custom.fillOpacity": 0})
    _add_queries(panel, queries, runbook)
    return panel


def number(
    title: str,
    unit: str,
    expression: str,
    *,
    meaning: str,
    warning_from: float | None = None,
    critical_from: float | None = None,
    critical_below: float | None = None,
    width: int = 4,
    runbook: str = "",
) -> stat.Panel:
    """Return a single number, now or over the time range: orange from `warning_from`, red from `critical_from` or below
    `critical_below`.
    """
    counted = unit in (EVENTS, EXACT)
    panel = (
        stat.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(4)
        .graph_mode(shapes.BigValueGraphMode.NONE if counted else shapes.BigValueGraphMode.AREA)
        .color_mode(shapes.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(critical_from, critical_below, warning_from))
    )
    if unit in (EVENTS, EXACT, DAYS, SHARE):
        panel.decimals(0 if counted else 1)
    _add_queries(panel, [(expression, "")], runbook, instant=counted)
    return panel


def names(
    title: str, query: Query, *, meaning: str, orange: str = "", red: str = "", width: int = 4, height: int = 4
) -> stat.Panel:
    """Return a list of the current series by name. Names that match `orange` or `red` have that colour."""
    panel = (
        stat.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(EVENTS)
        .span(width)
        .height(height)
        .orientation(shapes.VizOrientation.HORIZONTAL)
        .graph_mode(shapes.BigValueGraphMode.NONE)
        .text_mode(shapes.BigValueTextMode.NAME)
        .color_mode(shapes.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps([_GREEN]))
    )
    for name, colour in ((orange, "orange"), (red, "red")):
        if name:
            _override(panel, name, color=_fixed(colour))
    _add_queries(panel, [query], instant=True)
    return panel


def bars(
    title: str,
    unit: str,
    *queries: Query,
    meaning: str,
    maximum: float | None = None,
    critical_below: float | None = None,
    width: int = 12,
    runbook: str = "",
) -> bargauge.Panel:
    """Return one bar for each series, with its current value.

    maximum           end of the axis: orange from 60 % of it, red from 80 %
    critical_below    red below this value
    """
    panel = (
        bargauge.Panel()
        .title(title)
        .description(meaning)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(_height(width))
        .orientation(shapes.VizOrientation.HORIZONTAL)
        .display_mode(shapes.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if maximum is not None:
        panel.max(maximum).decimals(1).thresholds(_thresholds(maximum * 0.8, None, maximum * 0.6))
    else:
        panel.decimals(0).thresholds(_thresholds(None, critical_below))
    _add_queries(panel, queries, runbook, instant=True)
    return panel


def _add_queries(panel: Any, queries: Sequence[Query], runbook: str = "", *, instant: bool = False) -> None:
    """Add the queries and the link to the runbook to a panel."""
    for ref, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        query = prometheus.Dataquery().expr(expression).ref_id(ref).datasource(SOURCE)
        query = query.instant() if instant else query.range()
        panel.with_target(query.legend_format(legend) if legend else query)
    if runbook:
        link = dashboard.DashboardLink(f"Runbook: {runbook}").type(model.DashboardLinkType.LINK)
        panel.links([link.url(f"{RUNBOOKS}/{runbook}.md").target_blank(True)])


def _height(width: int) -> int:
    """Return the height of a panel. A narrow one is higher, because its legend is below the graph."""
    return 8 if width >= 12 else 9


def _fixed(colour: str) -> dict[str, str]:
    return {"mode": "fixed", "fixedColor": colour}


def _override(panel: Any, name: str, **properties: Any) -> None:
    """Set properties of the series of this name. A name between slashes is a regular expression."""
    values = [model.DynamicConfigValue(id_val=key, value=value) for key, value in properties.items()]
    (panel.override_by_regexp if name.startswith("/") else panel.override_by_name)(name, values)


def _thresholds(
    critical_from: float | None, critical_below: float | None, warning_from: float | None = None, *, good: str = "green"
) -> dashboard.ThresholdsConfig:
    """Return the colours by value: blue if there is no threshold."""
    has_thresholds = (critical_from, critical_below, warning_from) != (None, None, None)
    base = "red" if critical_below is not None else good if has_thresholds else "blue"
    steps = [model.Threshold(value=None, color=base)]
    for value, colour in ((critical_below, good), (warning_from, "orange"), (critical_from, "red")):
        if value is not None:
            steps.append(model.Threshold(value=value, color=colour))
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)
