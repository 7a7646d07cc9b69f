"""The dashboard Reports: events, funnel, revenue, campaigns, audience and freshness, from the views of reports."""

from __future__ import annotations

from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from ops.grafana.boards import dashboard_of
from ops.grafana.panels import EXACT, SECONDS, SHARE
from ops.grafana.sql_panels import DATABASE, DATABASE_TYPE, sql_bars, sql_curves, sql_number, sql_table
from sql import statements

SQL: Final = statements("grafana_reports")
AMOUNT: Final = "currency:"  # no symbol: events have no currency
INTERVALS: Final = {"15 minutes": "minute", "hour": "hour", "day": "day", "week": "week", "month": "month"}
ALL_CAMPAIGNS: Final = "'(all)'"
"""The value of the variable if no campaign is selected. Grafana does not quote a custom value."""
_ALL: Final = model.VariableOption(selected=True, text="All", value="$__all")


def reports() -> dashboard.Dashboard:
    """Build the dashboard."""
    totals = [
        sql_number("Events", EXACT, SQL["events"], meaning="In the time range, which begins and ends on quarter-hours"),
        sql_number("Revenue", AMOUNT, SQL["revenue"], meaning="Sum of the amounts of purchases, as sent", decimals=2),
        sql_number("Average order value", AMOUNT, SQL["average_order_value"], meaning="Per purchase", decimals=2),
        sql_number("Age of the data", SECONDS, SQL["age_of_data"], meaning="Of the slowest source", decimals=1),
    ]
    events = [
        sql_curves("Events by stage", EXACT, SQL["events_by_stage"], meaning="By funnel stage", stacked=True),
        sql_curves("Events by type", EXACT, SQL["events_by_type"], meaning="By event type", stacked=True),
        sql_bars("Funnel", SQL["funnel"], meaning="Events of each step, not people", width=8),
        sql_table(
            "Conversion",
            SQL["funnel"],
            {"Of the step before": SHARE, "Of the first step": SHARE},
            meaning="Events of each step as a share of the step before and of the first step",
            width=16,
        ),
    ]
    revenue = [
        sql_curves("Revenue by source", AMOUNT, SQL["revenue_by_source"], meaning="Sum of amounts", stacked=True),
        sql_curves(
            "Average order value by source", AMOUNT, SQL["order_value_by_source"], meaning="Revenue per purchase"
        ),
        sql_table(
            "Top campaigns",
            SQL["campaigns"],
            {"Revenue": AMOUNT, "Average order value": AMOUNT},
            meaning="The campaigns with most revenue; events are clicks, forms and purchases. The largest error is 0 "
            "unless a quarter-hour has more campaigns than are kept",
        ),
    ]
    audience = [
        sql_bars("Age", SQL["age"], meaning="Events by age of the user"),
        *(sql_bars(name.capitalize(), _audience(name), meaning=f"Events by {name}") for name in ("gender", "country")),
        sql_bars("City", SQL["cities"], meaning="The cities with most events"),
        *(
            sql_bars(name.capitalize(), _audience(name), meaning=f"Events by {name}")
            for name in ("device", "followers")
        ),
    ]
    freshness = [
        sql_table(
            "Freshness",
            SQL["freshness"],
            {"Age": SECONDS},
            meaning="All events accepted before this instant are in the reports",
        )
    ]
    return dashboard_of(
        "Sluice: Reports",
        "sluice-reports",
        "Events, funnel, revenue, campaigns and audience, from the views of reports (docs/bi.md)",
        [
            ("Totals", totals),
            ("Events", events),
            ("Revenue", revenue),
            ("Audience", audience),
            ("Freshness", freshness),
        ],
        _variables(),
        since="now-7d",
        refresh="1m",
    )


def _audience(dimension: str) -> str:
    return SQL["audience"].replace("{dimension}", dimension)


def _variables() -> list[Any]:
    interval = ", ".join(f"{text} : {value}" for text, value in INTERVALS.items())
    return [
        dashboard.DatasourceVariable("database").label("Environment").type(DATABASE_TYPE),
        dashboard.QueryVariable("source")
        .label("Source")
        .query(SQL["variable_source"])
        .datasource(DATABASE)
        .multi(True)
        .include_all(True)
        .current(_ALL)
        .refresh(model.VariableRefresh.ON_DASHBOARD_LOAD),
        dashboard.CustomVariable("interval")
        .label("Interval")
        .values(interval)
        .current(model.VariableOption(selected=True, text="hour", value="hour")),
        dashboard.QueryVariable("campaign")
        .label("Campaign")
        .query(SQL["variable_campaign"])
        .datasource(DATABASE)
        .multi(True)
        .include_all(True)
        .all_value(ALL_CAMPAIGNS)
        .current(_ALL)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED),
        dashboard.TextBoxVariable("zone").label("Time zone of intervals").default_value("UTC"),
    ]
