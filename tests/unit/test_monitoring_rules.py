"""Rules, routes and scrape configuration: what the servers' own tools say, and that nothing is left without a test."""

import re
import subprocess
from pathlib import Path

import yaml

from ops.local.monitoring import RULES
from ops.metrics_table import described
from tests.support.processes import ROOT
from tests.support.prometheus import alert_rules
from tests.support.tools import require_tool

TESTS = sorted((ROOT / "ops" / "prometheus" / "tests").glob("*.yml"))
# Of the exporters beside us, whose names are theirs.
FOREIGN = re.compile(r"(up|ALERTS|(process|jetstream|gnatsd|pg|node|prometheus)_\w+)")


def run(*command: str | Path) -> str:
    """What a program says; fails with it where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_configuration() -> None:
    """promtool finds nothing wrong in the scrape configuration and the rules that it names."""
    said = run(require_tool("promtool"), "check", "config", ROOT / "ops/prometheus/prometheus.yml")
    assert "2 rule files found" in said


def test_rules_hold_what_promtool_tests() -> None:
    """`promtool test rules`: each alert is silent, pending and firing when it has to be."""
    run(require_tool("promtool"), "test", "rules", *TESTS)


def test_each_alert_has_its_test_severity_and_runbook() -> None:
    """An alert without a test, a severity, a summary or a runbook that exists is not finished."""
    tested = {
        check["alertname"]
        for file in TESTS
        for test in yaml.safe_load(file.read_text())["tests"]
        for check in test.get("alert_rule_test", ())
        if check["exp_alerts"]
    }
    for name, rule in alert_rules().items():
        assert name in tested
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        base, _, page = rule["annotations"]["runbook_url"].rpartition("/")
        assert base == "{{ $externalLabels.runbooks }}", name  # absolute, by one setting
        assert (ROOT / "ops" / "runbooks" / page).is_file(), name


def test_counts_are_whole_and_shares_are_of_one_series() -> None:
    """No alert shows a count with a unit prefix (42m for 0.042); no rule or panel divides one maximum by another."""
    for name, rule in alert_rules().items():
        assert not re.search(r"\$value( \| humanize)? }}", rule["annotations"]["summary"]), name
    rules = [*RULES.glob("*.yml"), *(ROOT / "ops" / "grafana" / "dashboards").glob("*.json")]
    for file in rules:
        text = file.read_text()
        assert not re.search(r"\b(max|min)( by \([^)]*\))?\s*\([^/]*\)\s*/\s*\(?(max|min)\b", text), file


def test_rules_ask_for_metrics_that_exist() -> None:
    """A name in a rule is one of docs/metrics.md, an exporter's, or a recording rule's."""
    known = {metric.name for metric in described()}
    known |= {f"{metric.name}_bucket" for metric in described() if metric.metric_type == "histogram"}
    rules = [
        rule
        for file in RULES.glob("*.yml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]
    known |= {rule["record"] for rule in rules if "record" in rule}
    for rule in rules:
        bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|(by|on|without) \([^)]*\)', " ", rule["expr"])
        for name in re.findall(r"[a-z][a-zA-Z0-9_:]*_[a-zA-Z0-9_:]+(?!\w*\()", bare):
            assert name in known or FOREIGN.fullmatch(name) or name in ("histogram_quantile", "predict_linear"), name


def test_alertmanager_takes_the_routes() -> None:
    """amtool finds nothing wrong; a page goes to the pager, a ticket to the tickets."""
    file = ROOT / "ops/alertmanager/alertmanager.yml"
    amtool = require_tool("amtool")
    run(amtool, "check-config", file)
    for severity, receiver in (("page", "pager"), ("ticket", "tickets")):
        routed = run(amtool, "config", "routes", "test", f"--config.file={file}", f"severity={severity}")
        assert routed.strip() == receiver
