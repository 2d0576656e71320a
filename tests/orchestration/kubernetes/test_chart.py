"""The chart: its values, the plain manifests that are made of it, and what a real API server makes of it."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.cluster import POD_VARIABLE
from cli.commands.serve import serve
from cli.main import faas
from cli.settings import load
from gateway.asynchronous.redis.settings import RedisSettings
from orchestration.kubernetes.api import DEPLOYMENTS, FUNCTIONS, KINDS, NAMESPACES, SECRETS, Kind, Missing
from orchestration.kubernetes.client import Cluster
from tests.orchestration.kubernetes import chart
from tests.orchestration.kubernetes.api_server import ApiServer
from tests.orchestration.kubernetes.world import World

needs_helm = pytest.mark.skipif(
    chart.find_helm() is None, reason="NO HELM: the chart is not rendered, only what was made of it is looked at"
)

EVERYTHING: dict[str, Any] = {
    "image": {"repository": "registry.test/pinnace", "digest": "sha256:" + "a" * 64},
    "imagePullSecrets": ["hub"],
    "settings": {
        "registries": ["a.test/x", "b.test"],
        "starts_total": 1000000,
        "trace_ratio": 0.1,
        "allow_hosts": ["own.test"],
    },
    "extraEnv": [{"name": "A", "value": "1"}],
    "registryCredentials": "push",
    "redis": {"enabled": True, "storageClass": "fast"},
    "functionNamespaces": ["team-a", "team-b"],
    "gateway": {
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "priorityClassName": "high",
        "dataClaim": "data",
    },
    "service": {"annotations": {"g": "h"}, "type": "LoadBalancer", "port": 80},
    "ingress": {"enabled": True, "hosts": ["faas.test"], "tlsSecret": "tls", "className": "x", "annotations": {"i": "j"}},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "gw"}], "hostnames": ["fn.test"], "annotations": {"k": "l"}},
    "networkPolicy": {"callers": [{"podSelector": {}}], "scrapers": [{"namespaceSelector": {}}]},
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "p"}},
        "rules": {"enabled": True, "labels": {"release": "p"}},
        "dashboards": {"enabled": True},
    },
    "serviceAccount": {"annotations": {"m": "n"}},
}


@pytest.mark.parametrize("folder", chart.VARIANTS, ids=lambda folder: folder.name)
def test_the_plain_manifests_are_made_of_this_chart(folder: Path) -> None:
    files = {path.name for path in folder.glob("*.yaml")} - chart.BY_HAND
    assert files >= {"crd.yaml", "gateway.yaml", "namespaces.yaml", "networkpolicy.yaml", "rbac.yaml"}
    for name in files - {"crd.yaml"}:
        text = (folder / name).read_text()
        assert text == chart.head(body := chart.body_of(text)) + body, f"{name}: python -m {chart.__name__}"
    assert (folder / "crd.yaml").read_text() == chart.DEFINITION.read_text()
    assert (folder / "namespace.yaml").read_text() == (chart.PLAIN / "namespace.yaml").read_text()


def parsed(words: list[str]) -> dict[str, Any]:
    """Return what `faas serve` takes the words for: below `faas`, whose settings a command keeps for good."""
    return serve.make_context("serve", list(words), parent=faas.make_context("faas", [], resilient_parsing=True)).params


@needs_helm
@pytest.mark.parametrize("folder", chart.VARIANTS, ids=lambda folder: folder.name)
def test_the_plain_manifests_are_what_helm_makes(folder: Path) -> None:
    files = {path.name: path.read_text() for path in folder.glob("*.yaml") if path.name not in chart.BY_HAND}
    assert files == chart.rendered(folder), f"write them anew: python -m {chart.__name__}"


@pytest.mark.parametrize("folder", chart.VARIANTS, ids=lambda folder: folder.name)
def test_the_command_lines_are_those_of_faas(folder: Path) -> None:
    roles = set()
    for deployment in (m for m in chart.plain(folder) if m["kind"] == "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert (container["command"], container["args"][0]) == (["faas"], "serve")
        given = parsed(container["args"][1:])
        settings = load({k: v for k, v in given.items() if k != "config"}, {})
        roles.add(settings.role)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["metrics"] == settings.metrics_port
        assert ports.get("http", settings.port) == settings.port and ports.get("link", settings.link_port) == settings.link_port
        grace_s = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace_s >= settings.drain_s + (10 if settings.role == "edge" else 5)
    assert roles == ({"all"} if folder == chart.PLAIN else {"edge", "control", "controller"})


def test_an_edge_knows_which_pod_it_is() -> None:
    for deployment in (m for m in chart.plain(chart.APART) if m["kind"] == "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        told = {"name": POD_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
        assert (told in (container["env"] or ())) == (deployment["metadata"]["name"] == "edge")


@needs_helm
def test_edges_are_scaled_and_roles_apart_share_a_queue() -> None:
    flags = ("--set", "roles=apart,redis.enabled=true,edge.autoscaling.enabled=true,edge.autoscaling.maxReplicas=7")
    found = chart.documents(chart.template(*flags))
    assert "replicas" not in one(found, "Deployment", "edge")["spec"]
    assert one(found, "HorizontalPodAutoscaler", "edge")["spec"]["maxReplicas"] == 7
    for role in ("edge", "control", "controller"):
        (container,) = one(found, "Deployment", role)["spec"]["template"]["spec"]["containers"]
        given = parsed(container["args"][1:])
        environment = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
        settings = load({k: v for k, v in given.items() if k != "config"}, environment)
        assert (settings.queue, settings.callback_secret) == ("redis://redis.pinnace:6379", "/callback/secret")
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/queue", "/callback", "/link"} <= mounts


def test_each_value_has_a_default_and_a_description() -> None:
    described = dict(chart.described(chart.schema()))
    assert all(found.get("description") for found in described.values())
    assert all(found.get("additionalProperties") is False for found in described.values() if "properties" in found)

    def paths(held: dict[str, Any], place: str = "") -> set[str]:
        found = set()
        for name, value in held.items():
            path = f"{place}{name}"
            found |= {path} | (paths(value, f"{path}.") if "properties" in described[path] and path != "settings" else set())
        return found

    assert paths(chart.values()) == set(described)


def test_each_setting_of_the_platform_can_be_given() -> None:
    assert (chart.CHART / "values.schema.json").read_text() == chart.schema_with_settings(), f"python -m {chart.__name__}"


def test_the_page_has_every_value() -> None:
    assert chart.page(chart.PAGE.read_text()) == chart.PAGE.read_text(), f"write it anew: python -m {chart.__name__}"


def test_the_chart_holds_all_rules_and_dashboards() -> None:
    deploy = chart.ROOT / "deploy"
    for there, kept in (("rules", deploy / "prometheus" / "rules"), ("dashboards", deploy / "grafana")):
        files = {path.name: path.read_text() for path in (chart.CHART / "files" / there).iterdir()}
        assert files == {path.name: path.read_text() for path in kept.iterdir() if path.suffix in (".json", ".yml")}


@needs_helm
def test_helm_finds_nothing_wrong() -> None:
    assert "0 chart(s) failed" in chart.helm("lint", "--strict", str(chart.CHART))


BAD_VALUES = {
    "unknown value": ("image.repo=x", "additional properties 'repo' not allowed"),
    "unknown setting": ("settings.registry=x", "additional properties 'registry' not allowed"),
    "no image": ("image.repository=", "/image/repository"),
    "digest of no kind": ("image.digest=latest", "/image/digest"),
    "namespace with a dot": ("functionNamespaces={a.b}", "/functionNamespaces/0"),
    "service of no type": ("service.type=Ingress", "/service/type"),
    "user with a colon": ("login.user=a:b", "/login/user"),
}


@needs_helm
@pytest.mark.parametrize("case", BAD_VALUES)
def test_what_cannot_be_is_refused(case: str) -> None:
    given, told = BAD_VALUES[case]
    assert told in chart.helm("template", "pinnace", str(chart.CHART), "--set", given, code=1)


@pytest.fixture
def everything(tmp_path: Path) -> list[dict[str, Any]]:
    """All objects of the chart with every value given."""
    (tmp_path / "values.json").write_text(json.dumps(EVERYTHING))
    return chart.documents(chart.template("--values", str(tmp_path / "values.json"), namespace="other"))


def one(found: list[dict[str, Any]], kind: str, name: str = "gateway") -> dict[str, Any]:
    (only,) = [document for document in found if (document["kind"], document["metadata"]["name"]) == (kind, name)]
    return only


@needs_helm
def test_the_values_come_to_where_they_belong(everything: list[dict[str, Any]]) -> None:
    pod = one(everything, "Deployment")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["image"] == "registry.test/pinnace@sha256:" + "a" * 64
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment["PINNACE_REGISTRIES"] == "a.test/x,b.test"
    assert environment["PINNACE_STARTS_TOTAL"] == "1000000" and environment["PINNACE_TRACE_RATIO"] == "0.1"
    assert environment["DOCKER_CONFIG"] == "/registry" and environment["A"] == "1"
    hosts = next(word for word in container["args"] if word.startswith("--allow-hosts=")).partition("=")[2].split(",")
    assert {"gateway.other.svc.cluster.local", "faas.test", "fn.test", "own.test"} <= set(hosts)
    assert pod["metadata"]["labels"]["c"] == "d" and pod["metadata"]["annotations"]["a"] == "b"
    assert pod["spec"]["priorityClassName"] == "high" and pod["spec"]["nodeSelector"] == {"disk": "ssd"}
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "data"}} in pod["spec"]["volumes"]
    assert environment["PINNACE_QUEUE"] == "redis://redis.other:6379"
    queue = next(volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if volume["name"] == "queue")
    kept = one(everything, "Secret", "redis")["stringData"]
    assert queue == "redis" and f"requirepass {kept['password']}\n" in kept["redis.conf"]
    assert RedisSettings(url=environment["PINNACE_QUEUE"]).shown == environment["PINNACE_QUEUE"]
    assert one(everything, "Ingress")["spec"]["tls"] == [{"secretName": "tls", "hosts": ["faas.test"]}]
    assert one(everything, "HTTPRoute")["spec"]["rules"][0]["backendRefs"] == [{"name": "gateway", "port": 80}]
    assert len([d for d in everything if d["kind"] == "Namespace"]) == 2
    bindings = [d for d in everything if d["kind"] == "RoleBinding" and d["metadata"]["name"] == "pinnace-secrets"]
    assert {binding["metadata"]["namespace"] for binding in bindings} == {"team-a", "team-b"}
    rules = [d for d in everything if d["kind"] == "PrometheusRule"]
    told = {group["name"] for rule in rules for group in rule["spec"]["groups"]}
    kept = [yaml.safe_load(path.read_text()) for path in (chart.ROOT / "deploy" / "prometheus" / "rules").glob("*.yml")]
    assert told == {group["name"] for file in kept for group in file["groups"]}
    dashboards = {key: text for d in everything if d["kind"] == "ConfigMap" for key, text in d["data"].items()}
    assert {name: hashlib.sha256(text.rstrip("\n").encode()).hexdigest() for name, text in dashboards.items()} == {
        path.name: hashlib.sha256(path.read_text().rstrip("\n").encode()).hexdigest()
        for path in (chart.ROOT / "deploy" / "grafana").glob("*.json")
    }
    assert one(everything, "ServiceMonitor")["metadata"]["labels"]["release"] == "p"
    definition = one(everything, "CustomResourceDefinition", "functions.pinnace.dev")
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@needs_helm
def test_edges_apart_read_the_secrets_that_sign_callbacks_and_no_others() -> None:
    found = chart.documents(
        chart.template("--set", "roles=apart,callbackSecret.functions={hooks,shop},functionNamespaces={a,b}")
    )
    (rule,) = one(found, "ClusterRole", "pinnace-callback-secrets")["rules"]
    assert rule == {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["hooks", "shop"], "verbs": ["get"]}
    bindings = [d for d in found if d["kind"] == "RoleBinding" and d["metadata"]["name"] == "pinnace-callback-secrets"]
    assert [binding["metadata"]["namespace"] for binding in bindings] == ["a", "b"]
    assert {subject["name"] for binding in bindings for subject in binding["subjects"]} == {"pinnace-edge"}


@needs_helm
@pytest.mark.real_api_server
async def test_all_that_the_chart_makes_is_taken(everything: list[dict[str, Any]], world: World) -> None:
    """By a real API server, as far as it knows the kinds: those of the Gateway API and of Prometheus are not its own."""
    kinds = {name: KINDS[name] for name in ("Deployment", "NetworkPolicy", "Secret", "Service")}
    kinds["Ingress"] = Kind("networking.k8s.io/v1", "ingresses", "Ingress")
    kinds["StatefulSet"] = Kind("apps/v1", "statefulsets", "StatefulSet")
    kinds["ConfigMap"] = Kind("v1", "configmaps", "ConfigMap")
    taken = set()
    for document in everything:
        if kind := kinds.get(document["kind"]):
            document["metadata"]["namespace"] = world.namespace
            await world.cluster.apply(kind, document, manager="test")
            taken.add(document["kind"])
    assert taken == set(kinds)


@needs_helm
async def test_a_release_is_installed_upgraded_and_removed(api_server: ApiServer, cluster: Cluster) -> None:
    def run(*words: str) -> str:
        return chart.helm(*words, "--kubeconfig", str(api_server.kubeconfig), "--namespace", "chart-test")

    flags = ("pinnace", str(chart.CHART), "--set", "crd.install=false,functionNamespaces={chart-fn}", "--take-ownership")
    notes = run("install", *flags, "--create-namespace")
    assert "faas login" in notes and "put TLS in front" in notes
    login = (await cluster.get(SECRETS, "chart-test", "basic-auth"))["data"]
    assert len(base64.b64decode(login["basic-auth-password"])) == 32
    assert (await cluster.get(NAMESPACES, "", "chart-fn"))["metadata"]["annotations"]["openfaas"] == "1"

    run("upgrade", *flags, "--set", "settings.body_limit=1Mi")
    assert (await cluster.get(SECRETS, "chart-test", "basic-auth"))["data"] == login, "a login is kept over upgrades"
    deployed = await cluster.get(DEPLOYMENTS, "chart-test", "gateway")
    environment = deployed["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "PINNACE_BODY_LIMIT", "value": "1Mi"} in environment

    run("upgrade", *flags, "--set", "login.password=secret")
    said = (await cluster.get(SECRETS, "chart-test", "basic-auth"))["data"]["basic-auth-password"]
    assert base64.b64decode(said) == b"secret"

    run("uninstall", "pinnace")
    with pytest.raises(Missing):
        await cluster.get(DEPLOYMENTS, "chart-test", "gateway")
    assert await cluster.get(SECRETS, "chart-test", "basic-auth"), "what a next release needs stays"
    assert await cluster.get(NAMESPACES, "", "chart-fn"), "functions stay"
    await cluster.listed(FUNCTIONS)
