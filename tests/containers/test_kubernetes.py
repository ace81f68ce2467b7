"""``deploy/kubernetes``: the schema of each object, and the numbers in them against the service's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import Config
from tests.containers.programs import DEPLOY, run

FOLDER = DEPLOY / "kubernetes"
_APP = {"app.kubernetes.io/name": "stable-diffusion-api"}


def load(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / name).read_text()))


RESOURCES: list[str] = load("kustomization.yaml")["resources"]
DEPLOYMENT = load("deployment.yaml")
POD = DEPLOYMENT["spec"]["template"]["spec"]
(API,) = POD["containers"]
CONFIG = Config.from_env(load("config.yaml")["data"] | load("secret.example.yaml")["stringData"])


@pytest.fixture(scope="module")
def kustomized() -> list[dict[str, Any]]:
    done = run("kubectl", "kustomize", str(FOLDER))
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def objects(tree: object) -> Iterator[dict[str, Any]]:
    """Every mapping within."""
    if isinstance(tree, dict):
        yield tree
    for below in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from objects(below)


def test_schemas() -> None:
    names = [*RESOURCES, "secret.example.yaml"]
    done = run("kubernetes-validate", "--strict", *(str(FOLDER / name) for name in names))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    lines = {name: [line for line in said.splitlines() if f"/{name} " in line] for name in names}
    without = {name for name in names if any("Couldn't find schema" in line for line in lines[name])}
    assert without == {"service-monitor.yaml"}, "it has a schema now: hold it to that"
    assert {name for name in names if any("passed for resource" in line for line in lines[name])} == {*names} - without


def test_every_file_is_part_of_it() -> None:
    others = {"kustomization.yaml", "secret.example.yaml"}
    assert {path.name for path in FOLDER.glob("*.yaml")} - others == set(RESOURCES)


def test_kustomize_leaves_the_selectors_alone(kustomized: list[dict[str, Any]]) -> None:
    by_kind = {one["kind"]: one for one in kustomized}
    assert len(kustomized) == len(RESOURCES)
    assert by_kind["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"].startswith(
        "registry.example.com/"
    )
    assert by_kind["NetworkPolicy"]["spec"] == load("network-policy.yaml")["spec"]
    assert {one["metadata"].get("namespace") for one in kustomized if one["kind"] != "Namespace"} == {
        "stable-diffusion"
    }


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("deployment.yaml", ("selector", "matchLabels")),
        ("deployment.yaml", ("template", "metadata", "labels")),
        ("service.yaml", ("selector",)),
        ("disruption-budget.yaml", ("selector", "matchLabels")),
        ("network-policy.yaml", ("podSelector", "matchLabels")),
        ("service-monitor.yaml", ("selector", "matchLabels")),
    ],
)
def test_everything_selects_the_same_pods(name: str, path: tuple[str, ...]) -> None:
    found = load(name)["spec"]
    for step in path:
        found = found[step]
    assert found == _APP


def test_running_jobs_may_end() -> None:
    (stop, seconds) = API["lifecycle"]["preStop"]["exec"]["command"]
    assert stop == "sleep"
    assert POD["terminationGracePeriodSeconds"] == int(seconds) + CONFIG.graceful_timeout_s + 5
    assert CONFIG.sd_timeout == Config.from_env({}).sd_timeout, "the comment's arithmetic is with the default"


def test_probes() -> None:
    paths = {name: API[f"{name}Probe"]["httpGet"]["path"] for name in ("liveness", "startup", "readiness")}
    health = "/api/v1/ai/generation/health"
    assert paths == {"liveness": f"{health}/live", "startup": f"{health}/live", "readiness": health}
    assert [port["containerPort"] for port in API["ports"]] == [CONFIG.port]


def test_a_pod_may_no_more_than_it_needs() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["automountServiceAccountToken"] is False
    assert API["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    dockerfile = (DEPLOY.parent / "Dockerfile").read_text()
    assert f"USER {POD['securityContext']['runAsUser']}:{POD['securityContext']['runAsGroup']}" in dockerfile


def test_what_is_written_has_a_volume() -> None:
    """With a bucket only RUNTIME_DIR's default and temporary files are left, below /tmp."""
    assert CONFIG.storage_url
    assert [mount["mountPath"] for mount in API["volumeMounts"]] == ["/tmp"]


def test_the_autoscaler_can_scale() -> None:
    spec = load("autoscaler.yaml")["spec"]
    queue = next(metric["external"] for metric in spec["metrics"] if metric["type"] == "External")
    assert queue["metric"]["name"] == "sd_api_queue_waiting"
    assert "sd_api_queue_waiting" in Path(DEPLOY.parent / "docs" / "metrics.md").read_text()
    # A full queue asks for more than there are at least, and not for more than may be.
    wanted = CONFIG.sd_queue_limit / int(queue["target"]["averageValue"])
    assert spec["minReplicas"] < wanted <= spec["maxReplicas"]
    assert "replicas" not in DEPLOYMENT["spec"]


def test_the_network_lets_through_what_the_settings_name() -> None:
    ports = {port["port"] for rule in load("network-policy.yaml")["spec"]["egress"] for port in rule["ports"]}
    webuis = {int(url.rpartition(":")[2]) for url in CONFIG.sd_webui_url}
    assert ports >= webuis | {53, 443, 6379, 26379}
