"""Build the panels that query PostgreSQL: `$database` is a data source with the read-only role of BI tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from grafana_foundation_sdk.builders import bargauge, common, dashboard, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as model

from core.sources import SOURCES

DATABASE_TYPE: Final = "grafana-postgresql-datasource"
DATABASE: Final = model.DataSourceRef(type_val=DATABASE_TYPE, uid="${database}")
_ROW_VALUES: Final = common.ReduceDataOptions().values(True).calcs([]).limit(50)
_BLUE: Final = dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps([model.Threshold(None, "blue")])


class SqlQuery(Builder[UnknownDataquery]):
    """One SQL query. time_series: its columns are time, metric (the name of the series) and value."""

    def __init__(self, sql: str, *, time_series: bool = False) -> None:
        self._sql = sql
        self._format = "time_series" if time_series else "table"

    def build(self) -> UnknownDataquery:
        """Return the query as Grafana's data source for PostgreSQL reads it."""
        return UnknownDataquery(
            {
                "datasource": {"type": DATABASE.type_val, "uid": DATABASE.uid},
                "editorMode": "code",
                "format": self._format,
                "rawQuery": True,
                "rawSql": self._sql,
                "refId": "A",
            }
        )


def sql_number(title: str, unit: str, sql: str, *, meaning: str, decimals: int = 0, width: int = 6) -> stat.Panel:
    """Return a single number of the time range."""
    return (
        stat.Panel()
        .title(title)
        .description(meaning)
        .datasource(DATABASE)
        .unit(unit)
        .decimals(decimals)
        .span(width)
        .height(4)
        .graph_mode(shapes.BigValueGraphMode.NONE)
        .color_mode(shapes.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_BLUE)
        .with_target(SqlQuery(sql))
    )


def sql_curves(title: str, unit: str, sql: str, *, meaning: str, stacked: bool = False) -> timeseries.Panel:
    """Return bars over time, one series for each metric, stacked if the sum of the series has a meaning."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(meaning)
        .datasource(DATABASE)
        .unit(unit)
        .min(0)
        .span(12)
        .height(8)
        .line_width(1)
        .fill_opacity(60 if stacked else 10)
        .draw_style(shapes.GraphDrawStyle.BARS if stacked else shapes.GraphDrawStyle.LINE)
        .show_points(shapes.VisibilityMode.AUTO)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(shapes.LegendDisplayMode.TABLE)
            .placement(shapes.LegendPlacement.RIGHT)
            .calcs(["sum"] if stacked else ["lastNotNull"])
        )
        .tooltip(common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.DESCENDING))
        .with_target(SqlQuery(sql, time_series=True))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))
    for source in SOURCES.values():
        colour = {"mode": "fixed", "fixedColor": source.color}
        panel.override_by_name(source.name, [model.DynamicConfigValue(id_val="color", value=colour)])
    return panel


def sql_bars(title: str, sql: str, *, meaning: str, width: int = 8) -> bargauge.Panel:
    """Return one bar for each row, named by its first column."""
    return (
        bargauge.Panel()
        .title(title)
        .description(meaning)
        .datasource(DATABASE)
        .unit("locale")
        .min(0)
        .span(width)
        .height(9)
        .orientation(shapes.VizOrientation.HORIZONTAL)
        .display_mode(shapes.BarGaugeDisplayMode.BASIC)
        .reduce_options(_ROW_VALUES)
        .thresholds(_BLUE)
        .with_target(SqlQuery(sql))
    )


def sql_table(title: str, sql: str, units: Mapping[str, str], *, meaning: str, width: int = 24) -> table.Panel:
    """Return a table of the rows. units: of the columns that are numbers."""
    panel = (
        table.Panel()
        .title(title)
        .description(meaning)
        .datasource(DATABASE)
        .unit("locale")
        .span(width)
        .height(9)
        .with_target(SqlQuery(sql))
    )
    for column, unit in units.items():
        values: list[Any] = [model.DynamicConfigValue(id_val="unit", value=unit)]
        if unit in ("percentunit", "currency:"):
            values.append(model.DynamicConfigValue(id_val="decimals", value=1 if unit == "percentunit" else 2))
        panel.override_by_name(column, values)
    return panel
