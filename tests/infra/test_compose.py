"""The compose file, against the schema of the Compose Specification."""

import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import yaml

from recsys.config.load import load_config
from tests.support.infra.files import CONFIGS, INFRA, compose

SERVICES = compose()["services"]


def test_the_file_is_what_the_specification_says() -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(compose(), json.loads(schema.read_text()))


def test_every_secret_is_asked_for_and_explained() -> None:
    text = (INFRA / "compose.yaml").read_text()
    named = set(re.findall(r"\$\{(\w+)", text)) - {"AS_OF"}
    required = set(re.findall(r"\$\{(\w+):\?", text))
    explained = set(re.findall(r"^(\w+)=$", (INFRA / "env.example").read_text(), re.MULTILINE))
    assert named == required == explained


def test_volumes_files_and_services_that_are_named_are_there() -> None:
    declared = set(compose()["volumes"])
    used = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (INFRA / source).exists()
            else:
                used.add(source)
        assert set(service.get("depends_on", ())) <= SERVICES.keys()
    assert used == declared


def test_only_this_machine_reaches_the_ports_and_no_service_may_more_than_it_needs() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        if name != "postgres":  # Its image begins as root, for the owner of its volume.
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]


def test_addresses_are_those_of_services() -> None:
    for name in ("job", "server"):
        assert SERVICES[name]["environment"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert load_config(CONFIGS[0]).feature_store.redis_url == "redis://redis:6379/0"
    prometheus = yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text())
    targets = [
        target
        for scraped in prometheus["scrape_configs"]
        for section in scraped["static_configs"]
        for target in section["targets"]
    ]
    (source,) = yaml.safe_load(
        (INFRA / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text()
    )["datasources"]
    for address in [*targets, source["url"].removeprefix("http://")]:
        assert address.partition(":")[0] in SERVICES
    metrics = Path(str(load_config(CONFIGS[0]).job.notify.textfile)).parent
    assert f"metrics:{metrics}" in SERVICES["job"]["volumes"]
    assert f"--collector.textfile.directory={metrics}" in SERVICES["job-metrics"]["command"]
