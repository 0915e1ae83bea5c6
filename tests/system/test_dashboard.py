"""The Grafana dashboard and the alerts, against a real Prometheus that scrapes a running collector."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import requests

from parts import ROOT, await_true, free_port
from running import run  # noqa: F401

DASHBOARD = ROOT / "dashboards/grafana/fleetstate.json"
PROMETHEUS = ROOT / "dashboards/prometheus"
VECTORS = Path(os.environ.get("VECTORS", ROOT.parent / "shared/vectors"))
# What a system that is well has nothing to draw of.
MAY_BE_EMPTY = {"Refused by reason": "nothing was refused"}
BUILTIN = {"$__rate_interval": "10s", "$tenant": ".*", "$instance": ".*"}

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 5s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: fleetstate
    authorization: {{credentials: "{token}"}}
    static_configs: [{{targets: ["{target}"]}}]
"""


def panels():
    return [p for p in json.loads(DASHBOARD.read_text())["panels"] if p["type"] != "row"]


QUERIES = [(p["title"], t["expr"]) for p in panels() for t in p["targets"]]
NAMES = [f"{p['title']} {t['refId']}" for p in panels() for t in p["targets"]]


@pytest.fixture(scope="module")
def prometheus(run, tmp_path_factory):
    directory = tmp_path_factory.mktemp("prometheus")
    config = directory / "prometheus.yml"
    config.write_text(CONFIG.format(rules=PROMETHEUS / "rules.yml", token=run.env["FLEETSTATE_OPERATOR_TOKEN"],
                                    target=run.env["FLEETSTATE_URL"].split("//")[1]))
    address = f"127.0.0.1:{free_port()}"
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}",
                                    f"--web.listen-address={address}"], stdout=log, stderr=log)

    def ask(path, **parameters):
        answer = requests.get(f"http://{address}/api/v1/{path}", params=parameters, timeout=10).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    def scraped():
        assert process.poll() is None, (directory / "log").read_text()[-2000:]
        try:
            result = ask("query", query='count_over_time(up{job="fleetstate"}[1m]) and up == 1')["result"]
        except requests.RequestException:  # it starts
            return False
        return result and int(result[0]["value"][1]) >= 6

    try:
        await_true(scraped, "six scrapes", 60)
        yield ask
    finally:
        process.terminate()
        process.wait(20)


def test_it_is_portable():
    """It names no machine and no data source of anyone's: a variable stands for that."""
    dashboard = json.loads(DASHBOARD.read_text())
    assert "id" not in dashboard and "uid" not in dashboard and "__inputs" not in dashboard
    assert {v["name"] for v in dashboard["templating"]["list"]} == {"datasource", "tenant", "instance"}
    for panel in panels():
        assert {t["datasource"]["uid"] for t in panel["targets"]} | {panel["datasource"]["uid"]} == {"${datasource}"}
    assert len({p["id"] for p in dashboard["panels"]}) == len(dashboard["panels"])
    taken = set()
    for p in dashboard["panels"]:
        g = p["gridPos"]
        cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        assert g["x"] + g["w"] <= 24 and not cells & taken, p["title"]
        taken |= cells


def test_it_is_what_grafana_describes():
    path = VECTORS / "grafana/jsonschema/dashboard.jsonschema.json"
    if not path.exists():
        pytest.skip("no description of Grafana's here: set VECTORS")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(path.read_text())
    jsonschema.Draft7Validator(schema).validate(json.loads(DASHBOARD.read_text()))
    assert json.loads(DASHBOARD.read_text())["schemaVersion"] == schema["definitions"]["Dashboard"]["properties"]["schemaVersion"]["default"]


@pytest.mark.parametrize("title, expression", QUERIES, ids=NAMES)
def test_every_query_draws(prometheus, title, expression):
    for name, value in BUILTIN.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    # The scrape's own instants may fall so that one window holds too few of them.
    def drawn():
        return [s for s in prometheus("query", query=expression)["result"] if s["value"][1] != "NaN"] or title in MAY_BE_EMPTY
    await_true(drawn, f"{title}: {expression}", 20)


def test_what_may_be_empty_is_drawn_at_all():
    assert set(MAY_BE_EMPTY) <= {title for title, _ in QUERIES}


def test_variables_have_values(prometheus):
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()
            values = prometheus(f"label/{label}/values", **{"match[]": metric})
            assert values if label == "instance" else set(values) == {"acme", "globex"}


def test_the_fleet_is_counted_once(prometheus, run):
    total = sum(run.get("/v1/fleet", "FLEETSTATE_OPERATOR_TOKEN", tenant=t)["total"] for t in ("acme", "globex"))
    drawn = [e.replace("$tenant", ".*") for t, e in QUERIES if t.lower() in ("untrusted", "silent", "degraded", "unknown", "operational")]
    assert len(drawn) == 5
    assert sum(float(prometheus("query", query=e)["result"][0]["value"][1]) for e in drawn) == total


def test_rules_are_loaded_and_name_what_is_told(prometheus):
    subprocess.run(["promtool", "check", "rules", "rules.yml"], cwd=PROMETHEUS, check=True, capture_output=True)
    groups = prometheus("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert rules and not any(rule.get("lastError") for rule in rules)
    told = set(prometheus("label/__name__/values"))
    for rule in rules:
        assert set(re.findall(r"\b(?:fleetstate_\w+|up)\b(?![^{]*\"?})", rule["query"])) <= told, rule["name"]
        assert {"summary", "action"} <= set(rule["annotations"])


def test_alerts_fire_when_they_should():
    done = subprocess.run(["promtool", "test", "rules", "rules_test.yml"], cwd=PROMETHEUS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    named = re.findall(r"alert: (\w+)", (PROMETHEUS / "rules.yml").read_text())
    tested = re.findall(r'alertname="(\w+)"', (PROMETHEUS / "rules_test.yml").read_text())
    assert sorted(named) == sorted(tested)
