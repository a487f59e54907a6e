"Rules, their tests and the dashboard: what they name exists, promtool agrees, and Grafana's model is kept."

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from quantlab.monitor.metrics import BATCH_METRICS, SERVER_METRICS

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
BOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "quantlab.json").read_text(encoding="utf-8"))
SCHEMA = json.loads((DEPLOY / "grafana" / "dashboard.schema.json").read_text(encoding="utf-8"))
KNOWN = {*BATCH_METRICS, *SERVER_METRICS} | {
    f"quantlab_http_request_duration_seconds_{end}" for end in ("bucket", "sum", "count")
}
PROMTOOL = pytest.mark.skipif(
    not shutil.which("promtool"), reason="no promtool here: apt-get install prometheus runs it"
)


def rules():
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def panels():
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def named(expr):
    "Return the metrics of quantlab that an expression asks for."
    return set(re.findall(r"\bquantlab_\w+", re.sub(r'"[^"]*"', "", expr)))


def labels_of(expr):
    "Return the labels that an expression compares or sums by."
    inside = [re.findall(r"(\w+)\s*[=!]~?", part) for part in re.findall(r"\{([^}]*)\}", expr)]
    by = [re.split(r"\s*,\s*", part) for part in re.findall(r"by \(([^)]*)\)", expr)]
    return {label for part in [*inside, *by] for label in part}


def test_every_metric_of_a_rule_and_of_a_panel_exists():
    asked = [rule["expr"] for rule in rules().values()]
    asked += [target["expr"] for panel in panels() for target in panel["targets"]]
    assert len(asked) > 40 and all(named(expr) <= KNOWN for expr in asked), [named(expr) - KNOWN for expr in asked]
    told = {label for _, labels in {**BATCH_METRICS, **SERVER_METRICS}.values() for label in labels}
    theirs = {"instance", "job", "le", "alertstate", "alertname"}
    assert all(labels_of(expr) <= told | theirs for expr in asked)


def test_every_label_of_a_text_belongs_to_its_rule():
    for name, rule in rules().items():
        metrics = named(rule["expr"])
        told = {label for one in metrics for label in {**BATCH_METRICS, **SERVER_METRICS}.get(one, ("", ("route",)))[1]}
        asked = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        assert asked <= told | {"instance"}, name
        assert rule["labels"]["severity"] in ("warning", "critical") and set(rule["annotations"]) == {
            "summary",
            "remedy",
        }


def test_a_test_of_each_rule_fires_and_one_does_not():
    tests = yaml.safe_load((DEPLOY / "prometheus" / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    looks = [look for test in tests for look in test["alert_rule_test"]]
    for name in rules():
        mine = [bool(look["exp_alerts"]) for look in looks if look["alertname"] == name]
        assert True in mine and False in mine, name
    assert {look["alertname"] for look in looks} == set(rules())


def test_the_same_is_told_without_prometheus():
    "What monitor.alerts tells has a rule here, so that a small desk and a large one hear the same."
    from quantlab.monitor.alerts import ALERTS

    assert {f"Quantlab{name}": severity for name, severity in ALERTS.items()}.items() <= {
        name: rule["labels"]["severity"] for name, rule in rules().items()
    }.items()


def promtool(*words):
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, cwd=DEPLOY / "prometheus")
    return done.returncode, done.stdout + done.stderr


@PROMTOOL
def test_promtool_reads_the_config_the_rules_and_runs_their_tests(tmp_path):
    assert promtool("check", "rules", "alerts.yml")[0] == 0
    code, said = promtool("test", "rules", "alerts_test.yml")
    assert code == 0, said
    here = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    shutil.copy(RULES, tmp_path / "alerts.yml")
    (tmp_path / "token").write_text("x")
    (tmp_path / "prometheus.yml").write_text(here.replace("/etc/prometheus/quantlab.token", str(tmp_path / "token")))
    code, said = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert code == 0 and f"{len(rules())} rules found" in said, said


@PROMTOOL
@pytest.mark.slow
@pytest.mark.parametrize("name", list(rules()))
def test_a_rule_that_never_fires_is_found_by_its_test(name, tmp_path):
    text = RULES.read_text(encoding="utf-8")
    tree = yaml.safe_load(text)
    for group in tree["groups"]:
        for rule in group["rules"]:
            if rule["alert"] == name:
                rule["expr"] = f"({rule['expr']}) and vector(0) == 1"
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(tree))
    shutil.copy(DEPLOY / "prometheus" / "alerts_test.yml", tmp_path)
    code, said = promtool("test", "rules", str(tmp_path / "alerts_test.yml"))
    assert code != 0 and name in said


def test_the_server_is_asked_with_a_token_from_a_file():
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    [server] = [one for one in config["scrape_configs"] if one["job_name"] == "quantlab"]
    assert server["metrics_path"] == "/metrics" and set(server["authorization"]) == {"type", "credentials_file"}
    assert config["rule_files"] == ["alerts.yml"]


def test_the_dashboard_is_one_and_no_panel_covers_another():
    jsonschema.validate(BOARD, SCHEMA)
    taken = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda board: board.pop("uid"),
        lambda board: board["panels"][1].pop("targets"),
        lambda board: board["panels"][1]["targets"][0].pop("expr"),
        lambda board: board["panels"][1]["gridPos"].update(w=30),
        lambda board: board["panels"][1].update(type="graph"),
        lambda board: board["panels"][1]["datasource"].update(uid="abc"),
    ],
)
def test_the_schema_refuses_what_is_no_dashboard(spoil):
    board = json.loads(json.dumps(BOARD))
    spoil(board)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(board, SCHEMA)


def test_grafana_is_given_both():
    provisioning = DEPLOY / "grafana" / "provisioning"
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((provisioning / "dashboards" / "quantlab.yml").read_text())["providers"]
    assert source["type"] == "prometheus" and provider["type"] == "file" and provider["options"]["path"]
