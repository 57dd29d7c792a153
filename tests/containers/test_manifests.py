"""What the manifests for Kubernetes and the compose files promise, as far as it can be read off them. No engine needed.

Whether they are well formed is for their own checkers to say (``nox -s manifests``).
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import Settings, load

from .kustomize import render

ROOT = Path(__file__).parent.parent.parent
OVERLAYS = sorted((ROOT / "containers/kubernetes/overlays").iterdir())
COMPOSE = sorted((ROOT / "containers").glob("compose*.yaml"))

Manifest = dict[str, Any]

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda overlay: overlay.name)


def of_kind(overlay: Path, kind: str) -> dict[str, Manifest]:
    """The manifests of one kind, by name; a ConfigMap's without its hash."""
    return {
        re.sub(r"-[a-z0-9]{10}$", "", each["metadata"]["name"]): each
        for each in render(overlay)
        if each["kind"] == kind
    }


def pod(deployment: Manifest) -> Manifest:
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


def settings(overlay: Path) -> Settings:
    return load(of_kind(overlay, "ConfigMap")["gateway"]["data"], dotenv=None)


@each_overlay
def test_rendering_is_that_of_kustomize_where_it_is_installed(overlay: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not there")
    told = subprocess.run(["kubectl", "kustomize", str(overlay)], check=True, capture_output=True, text=True)  # noqa: S603, S607 - as one would type it

    def key(manifest: Manifest) -> tuple[str, str]:
        return manifest["kind"], manifest["metadata"]["name"]

    assert sorted(render(overlay), key=key) == sorted(yaml.safe_load_all(told.stdout), key=key)


def test_what_the_renderer_does_not_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("namePrefix: my-\n")
    with pytest.raises(ValueError, match="namePrefix"):
        render(tmp_path)


def test_patch_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [it.yaml]\npatches: [{path: patch.yaml, target: {kind: Service, name: it}}]\n"
    )
    (tmp_path / "it.yaml").write_text("kind: Service\nmetadata: {name: it}\nspec: {}\n")
    (tmp_path / "patch.yaml").write_text("- {op: replace, path: /spec/ports, value: 1}\n")
    with pytest.raises(ValueError, match="/spec/ports"):
        render(tmp_path)


def test_another_configuration_is_another_config_map_and_so_a_rollout(tmp_path: Path) -> None:
    names = set()
    for colour in ("red", "blue", "red"):
        (tmp_path / "kustomization.yaml").write_text(
            f"resources: [it.yaml]\nconfigMapGenerator: [{{name: c, literals: ['COLOUR={colour}']}}]\n"
        )
        (tmp_path / "it.yaml").write_text(
            "kind: Deployment\nmetadata: {name: it}\n"
            "spec: {template: {spec: {containers: [{name: it, image: it, envFrom: [{configMapRef: {name: c}}]}]}}}\n"
        )
        deployment, config = render(tmp_path)
        assert pod(deployment)["containers"][0]["envFrom"][0]["configMapRef"]["name"] == config["metadata"]["name"]
        names.add(config["metadata"]["name"])
    assert len(names) == 2


@each_overlay
def test_gateway_understands_its_config_map(overlay: Path) -> None:
    assert [service.name for service in settings(overlay).services] == ["service1", "service2"]


@each_overlay
def test_pod_is_given_longer_than_its_drain_may_take(overlay: Path) -> None:
    told = settings(overlay)
    gateway = pod(of_kind(overlay, "Deployment")["gateway"])
    assert gateway["terminationGracePeriodSeconds"] >= told.drain_delay + told.drain_timeout + 5


def test_production_goes_on_accepting_for_longer_than_it_takes_to_be_seen_leaving() -> None:
    overlay = next(each for each in OVERLAYS if each.name == "production")
    probe = pod(of_kind(overlay, "Deployment")["gateway"])["containers"][0]["readinessProbe"]
    assert settings(overlay).drain_delay >= 2 * probe["periodSeconds"] * probe["failureThreshold"]


@each_overlay
def test_probes_ask_the_gateways_own_paths_and_no_hook_is_needed(overlay: Path) -> None:
    (container,) = pod(of_kind(overlay, "Deployment")["gateway"])["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"startupProbe": "/livez", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    assert {ports[container[name]["httpGet"]["port"]] for name in paths} == {settings(overlay).port}
    assert "lifecycle" not in container


@each_overlay
def test_every_pod_is_what_the_restricted_profile_asks_for_and_a_bit_more(overlay: Path) -> None:
    (namespace,) = of_kind(overlay, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for deployment in of_kind(overlay, "Deployment").values():
        told = pod(deployment)
        assert told["securityContext"]["runAsNonRoot"] is True
        assert told["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert told["automountServiceAccountToken"] is False
        for container in told["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert ":" in container["image"]


@each_overlay
def test_whatever_selects_pods_selects_some(overlay: Path) -> None:
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in of_kind(overlay, "Deployment").values()]
    selectors = [each["spec"]["selector"] for each in of_kind(overlay, "Service").values()]
    for kind in ("Deployment", "PodDisruptionBudget"):
        selectors += [each["spec"]["selector"]["matchLabels"] for each in of_kind(overlay, kind).values()]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in of_kind(overlay, "NetworkPolicy").values()]
    for deployment in of_kind(overlay, "Deployment").values():
        for spread in pod(deployment).get("topologySpreadConstraints", ()):
            selectors.append(spread["labelSelector"]["matchLabels"])
    assert len(selectors) > 4
    assert [each for each in selectors if not any(each.items() <= some.items() for some in labels)] == []


@each_overlay
def test_autoscaler_scales_the_gateway_and_nothing_else_says_how_many(overlay: Path) -> None:
    (autoscaler,) = of_kind(overlay, "HorizontalPodAutoscaler").values()
    gateway = of_kind(overlay, "Deployment")["gateway"]
    assert autoscaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "gateway"}
    assert "replicas" not in gateway["spec"]
    # Utilization is of what is requested; above one core there is nothing to use.
    (metric,) = autoscaler["spec"]["metrics"]
    requested = int(pod(gateway)["containers"][0]["resources"]["requests"]["cpu"].removesuffix("m"))
    assert 500 <= requested * metric["resource"]["target"]["averageUtilization"] / 100 <= 800


@each_overlay
def test_network_policy_lets_the_gateway_reach_the_ports_of_its_services(overlay: Path) -> None:
    (policy,) = of_kind(overlay, "NetworkPolicy").values()
    open_to = [range(port["port"], port.get("endPort", port["port"]) + 1)
               for rule in policy["spec"]["egress"] for port in rule["ports"]]  # fmt: skip
    for service in settings(overlay).services:
        assert any(service.port in ports for ports in open_to)


def test_services_that_development_names_are_there() -> None:
    overlay = next(each for each in OVERLAYS if each.name == "development")
    there = {
        (name, port["port"]) for name, each in of_kind(overlay, "Service").items() for port in each["spec"]["ports"]
    }
    assert {(service.host, service.port) for service in settings(overlay).services} <= there


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_every_composed_container_has_no_privilege_and_only_the_gateway_a_port(path: Path) -> None:
    for name, service in yaml.safe_load(path.read_text())["services"].items():
        if "image" in service:  # the others are additions to one in another file
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
        assert ("ports" in service) == (name in {"gateway", "balancer"} and "image" in service)
