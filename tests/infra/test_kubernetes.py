"""The manifests, against the schemas of Kubernetes and against each other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from recsys.config.load import load_config
from tests.support.infra.files import CONFIGS, INFRA, MANIFESTS, manifests, pins

DIRECTORY = INFRA / "kubernetes"
# Version of the schemas; the manifests use nothing newer.
VERSION = "1.30"
RAYJOB, KUSTOMIZATION = "rayjob.yaml", "kustomization.yaml"
DOCUMENTS = [
    document
    for path in MANIFESTS
    if path.name not in (RAYJOB, KUSTOMIZATION)
    for document in manifests(path)
]
(RAY,) = manifests(DIRECTORY / RAYJOB)
(KUSTOMIZED,) = manifests(DIRECTORY / KUSTOMIZATION)


def templates() -> dict[str, Any]:
    """Returns all templates of pods by name."""
    spec = RAY["spec"]
    cluster = spec["rayClusterSpec"]
    found = {
        "submitter": spec["submitterPodTemplate"],
        "head": cluster["headGroupSpec"]["template"],
        **{group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]},
    }
    for each in DOCUMENTS:
        if each["kind"] in ("Deployment", "CronJob"):
            within = each["spec"]
            if each["kind"] == "CronJob":
                within = within["jobTemplate"]["spec"]
            found[each["metadata"]["name"]] = within["template"]
    return found


def values(document: Any, key: str) -> Iterator[Any]:
    """Yields the values of a key, wherever it is."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(document, list):
        for each in document:
            yield from values(each, key)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: each["metadata"]["name"])
def test_a_manifest_is_what_kubernetes_says(document: Any) -> None:
    kubernetes_validate.validate(document, VERSION, strict=True)


@pytest.mark.parametrize("name", templates())
def test_a_pod_is_one_and_may_no_more_than_it_needs(name: str) -> None:
    template = templates()[name]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": template["spec"]}
    kubernetes_validate.validate(pod, VERSION, strict=True)
    spec = template["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec.get("automountServiceAccountToken") is False or name == "recsys-nightly"
    mounted = {volume["name"] for volume in spec.get("volumes", ())}
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"].keys() == {"requests", "limits"}
        assert {mount["name"] for mount in container.get("volumeMounts", ())} <= mounted


def test_what_a_manifest_names_is_in_another() -> None:
    everything = [*DOCUMENTS, RAY]
    made = {each["name"] for each in KUSTOMIZED["configMapGenerator"]}
    for reference in [*values(everything, "configMap"), *values(everything, "configMapRef")]:
        assert reference["name"] in made
    for reference in values(everything, "secretKeyRef"):
        assert reference["name"] == "recsys-secrets"
        assert reference["key"] in ("token", "redis-password")
    claims = {each["metadata"]["name"] for each in DOCUMENTS if "Claim" in each["kind"]}
    assert {each["claimName"] for each in values(everything, "persistentVolumeClaim")} == claims
    named = [*KUSTOMIZED["resources"], RAYJOB, KUSTOMIZATION]
    assert sorted(named) == [path.name for path in MANIFESTS]
    labels = {template["metadata"]["labels"]["app.kubernetes.io/name"]
              for template in templates().values()}  # fmt: skip
    (default,) = (each for each in DOCUMENTS if each["metadata"]["name"] == "recsys-default")
    (chosen,) = default["spec"]["podSelector"]["matchExpressions"]
    assert set(chosen["values"]) == labels


def test_the_cluster_has_the_locked_ray_and_a_token() -> None:
    cluster = RAY["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == pins("job-cpu")["ray"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert RAY["spec"]["entrypoint"] == "nightly /etc/recsys/config.yaml"


def test_probes_ask_the_paths_that_need_no_token() -> None:
    from serving.server.app import PROBES

    container = templates()["recsys-server"]["spec"]["containers"][0]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"]
              for name in ("startup", "readiness", "liveness")}  # fmt: skip
    assert probes == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}
    assert set(probes.values()) == set(PROBES)


def test_the_configuration_is_that_of_compose_but_for_where_metrics_go() -> None:
    compose, cluster = (load_config(path).model_dump() for path in CONFIGS)
    textfile = cluster["job"]["notify"].pop("textfile")
    compose["job"]["notify"].pop("textfile")
    assert compose == cluster
    (exporter,) = templates()["recsys-job-metrics"]["spec"]["containers"]
    assert f"--collector.textfile.directory={Path(textfile).parent}" in exporter["args"]
