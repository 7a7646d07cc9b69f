"""What all dashboards share: panels in a few shapes, and what colours mean.

`$environment` is a data source: each environment has a Prometheus of its own. Every panel says in its description what
it means. Colours mean the same everywhere: blue is a figure without a judgement, green is as it should be, orange is
rejected, repeated or slower than it could be, red is lost, late or a limit; a source has one colour in all panels. A
dashed line is a limit, or where an alert begins.
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

# Units, as Grafana spells them.
EVENTS: Final = "short"
EXACT: Final = "locale"  # every digit: figures that have to add up
EVENTS_A_SECOND: Final = "eps"
EVENTS_A_MINUTE: Final = "epm"
REQUESTS_A_SECOND: Final = "reqps"
SECONDS: Final = "s"
BYTES: Final = "bytes"
SHARE: Final = "percentunit"
DAYS: Final = "d"

Query = tuple[str, str]
"""An expression, and the legend of its series."""

_SOURCES: Final = {
    f"/^(EVENTS_)?{source.name}|^{source.short_name}-/i": source.color for source in SOURCES.values()
} | {"/^rejected/i": "orange"}
# The colours of series by their legend: by what its label may say, or by the word that it is.
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
    bad_from: float | None = None,
    bad_below: float | None = None,
    width: int = 12,
    runbook: str = "",
) -> timeseries.Panel:
    """A graph over time; stacked where the series add up to something. `bad_from` or `bad_below` is where its alert
    begins."""
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
    if usually_zero or unit == SHARE:  # flat at 0, a share's axis would go to 10,000 %
        panel.axis_soft_max(1)
    if bad_from is not None or bad_below is not None:
        panel.thresholds(_thresholds(bad_from, bad_below, well="transparent"))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(shapes.GraphThresholdsStyleMode.DASHED))
    for _, legend in queries:
        for name, colour in _COLOURS.get(legend, {}).items():
            _look(panel, name, color=_fixed(colour))
        if legend in _LIMITS:
            dashes = {"fill": "dash", "dash": [10, 10]}
            _look(panel, legend, **{"color": _fixed("red"), "custom.lineStyle": dashes, "custom.fillOpacity": 0})
    _ask(panel, queries, runbook)
    return panel


def number(
    title: str,
    unit: str,
    expression: str,
    *,
    meaning: str,
    odd_from: float | None = None,
    bad_from: float | None = None,
    bad_below: float | None = None,
    width: int = 4,
    runbook: str = "",
) -> stat.Panel:
    """One number, as it is now or over the range shown; orange from `odd_from` on, red from `bad_from` or below
    `bad_below`."""
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
        .thresholds(_thresholds(bad_from, bad_below, odd_from))
    )
    if unit in (EVENTS, EXACT, DAYS, SHARE):
        panel.decimals(0 if counted else 1)
    _ask(panel, [(expression, "")], runbook, instant=counted)
    return panel


def names(
    title: str, query: Query, *, meaning: str, orange: str = "", red: str = "", width: int = 4, height: int = 4
) -> stat.Panel:
    """What there is now, by name; orange or red where the name matches."""
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
            _look(panel, name, color=_fixed(colour))
    _ask(panel, [query], instant=True)
    return panel


def bars(
    title: str,
    unit: str,
    *queries: Query,
    meaning: str,
    most: float | None = None,
    bad_below: float | None = None,
    width: int = 12,
    runbook: str = "",
) -> bargauge.Panel:
    """One bar for each series, as it is now; of `most`, orange from 60 % on and red from 80 %, or red below
    `bad_below`."""
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
    if most is not None:
        panel.max(most).decimals(1).thresholds(_thresholds(most * 0.8, None, most * 0.6))
    else:
        panel.decimals(0).thresholds(_thresholds(None, bad_below))
    _ask(panel, queries, runbook, instant=True)
    return panel


def _ask(panel: Any, queries: Sequence[Query], runbook: str = "", *, instant: bool = False) -> None:
    """Give a panel its queries, and the link to its runbook."""
    for ref, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        query = prometheus.Dataquery().expr(expression).ref_id(ref).datasource(SOURCE)
        query = query.instant() if instant else query.range()
        panel.with_target(query.legend_format(legend) if legend else query)
    if runbook:
        link = dashboard.DashboardLink(f"Runbook: {runbook}").type(model.DashboardLinkType.LINK)
        panel.links([link.url(f"{RUNBOOKS}/{runbook}.md").target_blank(True)])


def _height(width: int) -> int:
    """The legend stands beside a wide graph and below a narrow one, which needs room for it."""
    return 8 if width >= 12 else 9


def _fixed(colour: str) -> dict[str, str]:
    return {"mode": "fixed", "fixedColor": colour}


def _look(panel: Any, name: str, **properties: Any) -> None:
    """How series of this name are drawn; a name between slashes is a regular expression."""
    given = [model.DynamicConfigValue(id_val=key, value=value) for key, value in properties.items()]
    (panel.override_by_regexp if name.startswith("/") else panel.override_by_name)(name, given)


def _thresholds(
    bad_from: float | None, bad_below: float | None, odd_from: float | None = None, *, well: str = "green"
) -> dashboard.ThresholdsConfig:
    """Colours by value; where no value is bad or odd, a figure is only a figure."""
    judged = (bad_from, bad_below, odd_from) != (None, None, None)
    base = "red" if bad_below is not None else well if judged else "blue"
    steps = [model.Threshold(value=None, color=base)]
    for value, colour in ((bad_below, well), (odd_from, "orange"), (bad_from, "red")):
        if value is not None:
            steps.append(model.Threshold(value=value, color=colour))
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)
