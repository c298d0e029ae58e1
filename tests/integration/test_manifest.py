"""The manifest of a cluster: Kubernetes would take it, and its parts agree with each other, the image and the node."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from dicom_node import __version__
from dicom_node.roles.settings import load_settings
from tests.support.install.containers import MANIFEST, manifests, of_cluster, of_image
from tests.support.needs import REPOSITORY

VERSION = "1.30"
DOCUMENTS = manifests()


def one_of(kind: str, name: str = "dicom-node") -> dict[str, Any]:
    (found,) = [one for one in DOCUMENTS if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_kubernetes_would_take_it(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, VERSION, strict=True)


def test_what_kubernetes_would_not_take_is_seen() -> None:
    wrong = yaml.safe_load(MANIFEST.read_text(encoding="utf-8").split("---\n")[2])
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}

    with pytest.raises(kubernetes_validate.ValidationError, match="readinessProb"):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_the_pod_is_the_user_of_the_image_and_can_gain_nothing() -> None:
    pod = one_of("StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert (of_cluster().user, of_cluster().group) == (of_image().user, of_image().group)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["image"].endswith(f":{__version__}")
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert one_of("StatefulSet")["spec"]["replicas"] == 1


def test_its_ports_are_those_of_its_settings_and_the_policy_opens_each_to_somebody(tmp_path: Any) -> None:
    file = tmp_path / "node.toml"
    file.write_text(of_cluster().settings, encoding="utf-8")
    settings = load_settings(file, {})
    wanted = {settings.dicom.port, settings.api.port, settings.metrics.port}
    (container,) = one_of("StatefulSet")["spec"]["template"]["spec"]["containers"]
    policy = one_of("NetworkPolicy")["spec"]

    assert {one["containerPort"] for one in container["ports"]} == wanted
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == wanted
    assert all(rule["from"] for rule in policy["ingress"])
    assert all(rule["to"] for rule in policy["egress"])
    assert policy["policyTypes"] == ["Ingress", "Egress"]


def test_every_part_names_parts_that_are_there() -> None:
    pod = one_of("StatefulSet")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    volumes = {one["name"] for one in pod["spec"]["volumes"]} | {
        one["metadata"]["name"] for one in one_of("StatefulSet")["spec"]["volumeClaimTemplates"]
    }
    ports = {one["name"] for one in container["ports"]}

    assert {one["name"] for one in container["volumeMounts"]} == volumes
    for service in (one_of("Service"), one_of("Service", "dicom-node-api")):
        assert service["spec"]["selector"] == pod["metadata"]["labels"]
        assert {one["targetPort"] for one in service["spec"]["ports"]} <= ports
    assert one_of("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    assert {one["metadata"].get("namespace", "dicom-node") for one in DOCUMENTS} == {"dicom-node"}


def test_prometheus_of_the_composed_set_up_asks_the_port_that_the_node_opens_to_it() -> None:
    settings = load_settings(REPOSITORY / "orthanc" / "node.toml", {})
    asked = yaml.safe_load((REPOSITORY / "deploy/compose/prometheus.yml").read_text(encoding="utf-8"))

    (job,) = asked["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"node:{settings.metrics.port}"]}]
    assert settings.metrics.allow
