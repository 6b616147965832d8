"""The Helm chart: as Helm itself renders it, and what has to be true of what it renders.

`tests/golden_helm/NAME.yaml` is what Helm made of the chart and NAME.values.yaml. Its first line
has the hash of both, so that a chart that was changed and not rendered again fails where Helm is
not to be had, too. To render again: WEIR_RENDER_HELM=1 python -m pytest tests/test_helm.py
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from fixtures_needs import need

from proxy.cli import weir

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "tokenweir"
GOLDEN = ROOT / "tests" / "golden_helm"
NAMES = sorted(path.name.partition(".")[0] for path in GOLDEN.glob("*.values.yaml"))
POD_OWNERS = ("StatefulSet", "Deployment")
WITH_ADMIN = """
server: {metrics_host: 0.0.0.0, metrics_port: 9464}
redis: {url: x}
ledger: {url: x}
admin: {host: 127.0.0.1}
"""
VARIABLES = {"REDIS_URL": "redis://:x@redis:6379/0", "LEDGER_URL": "postgresql://w:x@p/w"}


def digest(name: str) -> str:
    """Of everything that decides what is rendered."""
    summed = hashlib.sha256()
    values = GOLDEN / f"{name}.values.yaml"
    for path in [*sorted(each for each in CHART.rglob("*") if each.is_file()), values]:
        summed.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return summed.hexdigest()


def helm(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([need("helm"), *words], capture_output=True, text=True, check=False)


def rendered(name: str) -> dict[tuple[str, str], Any]:
    """The objects of a golden file, by kind and name."""
    documents = yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text(encoding="utf-8"))
    return {(each["kind"], each["metadata"]["name"]): each for each in documents if each}


def pods(name: str) -> dict[str, Any]:
    owners = [each for (kind, _), each in rendered(name).items() if kind in POD_OWNERS]
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"]["spec"]
        for each in owners
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_file_is_of_this_chart(name: str) -> None:
    """Render again after every change: the command is at the head of this file."""
    first = (GOLDEN / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]

    assert first == f"# {digest(name)}" or os.environ.get("WEIR_RENDER_HELM")


@pytest.mark.parametrize("name", NAMES)
def test_helm_renders_what_is_kept(name: str) -> None:
    values = GOLDEN / f"{name}.values.yaml"
    linted = helm("lint", "--strict", "--values", values, CHART)
    made = helm(
        "template",
        "weir",
        CHART,
        "--kube-version",
        "1.31.0",
        "--namespace",
        "llm",
        "--values",
        values,
    )
    golden = GOLDEN / f"{name}.yaml"

    assert linted.returncode == 0, linted.stdout
    assert made.returncode == 0, made.stderr
    text = f"# {digest(name)}\n{made.stdout}"
    if os.environ.get("WEIR_RENDER_HELM"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "name a Secret of yours"),
        ({"secret": {"existing": "a", "values": {"B": "c"}}}, "keep one of them"),
        ({"proxy": {"replica": 3}}, "replica"),
        ({"proxy": {"preStopSeconds": 40}}, "preStopSeconds + 45"),
        ({"config": "{"}, "no YAML"),
        ({"config": "server: {port: 80}"}, "must be 8080"),
        ({"config": "redis: {url: x}"}, "metrics_port: 9464"),
        ({"config": "server: {metrics_host: 0.0.0.0, metrics_port: 9464}"}, "redis.url is missing"),
        ({"console": {"enabled": True}}, "the section `admin` is missing"),
        ({"console": {"enabled": True}, "config": WITH_ADMIN}, "nobody could log in"),
        ({"console": {"replicas": 2}}, "replicas"),
    ],
    ids=lambda each: each if isinstance(each, str) else None,
)
def test_what_cannot_work_is_refused(values: dict[str, Any], said: str, tmp_path: Path) -> None:
    """With what is wrong and what to do."""
    given = {"secret": {"existing": "weir"}, **values} if values else {}
    path = tmp_path / "values.yaml"
    path.write_text(json.dumps(given))

    made = helm("template", "weir", CHART, "--kube-version", "1.31.0", "--values", path)

    assert made.returncode != 0
    assert said in made.stderr


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow(60)
@pytest.mark.timeout(60)
def test_kubernetes_knows_every_field(name: str) -> None:
    """Against its schemas, strictly; objects of operators have none there."""
    validate = need("kubernetes-validate")

    told = subprocess.run(
        [validate, "--strict", GOLDEN / f"{name}.yaml"], capture_output=True, text=True, check=False
    )

    assert told.returncode == 0, told.stdout + told.stderr
    assert "passed for resource statefulset" in told.stdout + told.stderr


@pytest.mark.parametrize("name", NAMES)
def test_pods_may_do_nothing_they_need_not(name: str) -> None:
    """No root, nothing written but volumes, no capability, no token of the cluster."""
    assert set(pods(name)) == {"proxy", "worker"} | ({"console"} if name != "plain" else set())
    for pod in pods(name).values():
        [container] = pod["containers"]
        security = container["securityContext"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert pod["automountServiceAccountToken"] is False
        assert container["resources"]["limits"]["memory"]
        mounted = {each["mountPath"] for each in container["volumeMounts"]}
        assert {"/tmp", "/var/lib/weir", "/etc/weir/config"} <= mounted


@pytest.mark.parametrize("name", NAMES)
def test_a_pod_ends_in_order(name: str) -> None:
    """Time for its endpoints to go, for streams to end, and for what is cut to be settled."""
    for component, pod in pods(name).items():
        [container] = pod["containers"]
        stop = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
        needed_s = 30 if component == "console" else 75
        assert pod["terminationGracePeriodSeconds"] >= needed_s, component
        assert (stop == ["sleep", "10"]) == (component == "proxy")


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_one_of_ours(name: str) -> None:
    for pod in pods(name).values():
        first, *words = pod["containers"][0]["args"]
        checked = CliRunner().invoke(weir, [first, "--help"])
        assert checked.exit_code == 0
        assert [
            each for each in words if each.startswith("--") and each not in checked.output
        ] == []


@pytest.mark.parametrize(
    ("name", "ready", "scheme"),
    [("plain", "/healthz", "HTTP"), ("full", "/readyz", "HTTPS"), ("own_map", "/readyz", "HTTP")],
)
def test_probes_ask_the_right_question(name: str, ready: str, scheme: str) -> None:
    """Ready is who can serve, which goes by `on_outage`. Nobody is killed for want of Redis."""
    [container] = pods(name)["proxy"]["containers"]
    asked = {
        probe: container[probe]["httpGet"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }

    assert {probe: get["path"] for probe, get in asked.items()} == {
        "startupProbe": "/readyz",
        "livenessProbe": "/healthz",
        "readinessProbe": ready,
    }
    assert {(get["port"], get["scheme"]) for get in asked.values()} == {("api", scheme)}


def test_there_is_one_console_where_it_is_asked_for() -> None:
    """Sessions are in its memory, and no proxy has another; clients have a Service without it."""
    objects = rendered("full")
    console = objects["Deployment", "weir-tokenweir-console"]["spec"]
    [container] = console["template"]["spec"]["containers"]
    service = objects["Service", "weir-tokenweir-console"]["spec"]
    asked = [container[f"{each}Probe"]["httpGet"] for each in ("startup", "liveness", "readiness")]

    assert (console["replicas"], console["strategy"]) == (1, {"type": "Recreate"})
    assert {(get["path"], get["port"], get["scheme"]) for get in asked} == {
        ("/healthz", "admin", "HTTP")
    }
    assert service["type"] == "ClusterIP"
    assert service["selector"]["app.kubernetes.io/component"] == "console"
    assert ("Service", "weir-tokenweir-console") not in rendered("plain")
    for name in NAMES:
        assert "--no-console" in pods(name)["proxy"]["containers"][0]["args"]


def test_the_policy_opens_the_console_to_who_is_named_alone() -> None:
    """And it has no way to any upstream, nor to anything but names and stores."""
    named = rendered("full")["NetworkPolicy", "weir-tokenweir-console"]["spec"]
    closed = rendered("own_map")["NetworkPolicy", "weir-tokenweir-console"]["spec"]

    [opened] = named["ingress"]
    assert opened["from"] == [{"podSelector": {"matchLabels": {"app": "auth"}}}]
    assert opened["ports"] == [{"port": "admin", "protocol": "TCP"}]
    assert closed["ingress"] == []
    assert {port["port"] for each in closed["egress"] for port in each["ports"]} == {53, 6379, 5432}
    assert {port["port"] for each in named["egress"] for port in each["ports"]} >= {26379}


def test_metrics_are_not_on_the_service_of_the_api() -> None:
    services = {name: each for (kind, name), each in rendered("full").items() if kind == "Service"}

    assert [each["targetPort"] for each in services["weir-tokenweir"]["spec"]["ports"]] == ["api"]
    [monitor] = [each for (kind, _), each in rendered("full").items() if kind == "ServiceMonitor"]
    labels = services["weir-tokenweir-pods"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_spools_outlive_their_pods() -> None:
    """A volume each, kept on every occasion; and our directory is not the volume's root."""
    proxy = rendered("plain")["StatefulSet", "weir-tokenweir-proxy"]["spec"]
    [container] = proxy["template"]["spec"]["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}

    assert [each["metadata"]["name"] for each in proxy["volumeClaimTemplates"]] == ["data"]
    assert set(proxy["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}
    assert environment["WEIR_DATA_DIR"] == "/var/lib/weir/data"


def test_the_policy_opens_metrics_to_who_is_named_alone() -> None:
    for name, expected in (("full", ["api", "metrics"]), ("own_map", ["api"])):
        policy = rendered(name)["NetworkPolicy", "weir-tokenweir-proxy"]["spec"]
        assert [each["ports"][0]["port"] for each in policy["ingress"]] == expected
        assert [each.get("from") for each in policy["ingress"] if each["ports"][0] == 9464] == []
        worker = rendered(name)["NetworkPolicy", "weir-tokenweir-worker"]["spec"]
        assert worker["ingress"] == []
        [upstreams] = [
            each["to"][0]["ipBlock"]
            for each in policy["egress"]
            if "ipBlock" in each.get("to", [{}])[0] and "except" in each["to"][0]["ipBlock"]
        ]
        assert "169.254.0.0/16" in upstreams["except"]


@pytest.mark.parametrize("name", ["plain", "full"])
def test_the_configuration_arrives_as_it_was_written(name: str, tmp_path: Path) -> None:
    """To the digit, and `weir config check` takes it."""
    given = yaml.safe_load((CHART / "values.yaml").read_text())
    given |= yaml.safe_load((GOLDEN / f"{name}.values.yaml").read_text())
    kept = rendered(name)["ConfigMap", "weir-tokenweir-config"]["data"]["config.yaml"]
    assert kept.strip() == given["config"].strip()
    if name == "full":  # names certificates that are not here
        return
    path = tmp_path / "config.yaml"
    path.write_text(kept)

    checked = CliRunner().invoke(
        weir,
        ["config", "check", str(path)],
        env={**VARIABLES, "OPENAI_API_KEY": "x", "WEIR_CONFIG": None, "WEIR_DATA_DIR": None},
    )

    assert checked.exit_code == 0, checked.output
