"""What docs/deploy says, as its tests ask for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.demo.stack import ROOT

DEPLOY = ROOT / "docs" / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
CONFIG = KUBERNETES / "config"
USER = 10001
SECRET = "0123456789abcdef0123456789abcdef"

Manifest = dict[str, Any]


def loaded(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def resources() -> list[Manifest]:
    """Of all files that the kustomization names."""
    files = [KUBERNETES / name for name in loaded(KUBERNETES / "kustomization.yaml")["resources"]]
    return [one for file in files for one in yaml.safe_load_all(file.read_text())]


def resource(kind: str, name: str) -> Manifest:
    (found,) = (one for one in resources() if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return found


def pods() -> dict[str, Manifest]:
    """Pod templates by what makes them."""
    made = [one for one in resources() if "template" in one.get("spec", {})]
    return {one["metadata"]["name"]: one["spec"]["template"] for one in made}


def container(name: str) -> Manifest:
    (only,) = pods()[name]["spec"]["containers"]
    return only  # type: ignore[no-any-return]


def service(name: str) -> Manifest:
    """Compose's."""
    return loaded(DEPLOY / "compose.yaml")["services"][name]  # type: ignore[no-any-return]


def environments(name: str) -> dict[str, dict[str, str]]:
    """What a container finds in its environment, by whether Compose or Kubernetes starts it; secrets are all alike."""
    generators = loaded(KUBERNETES / "kustomization.yaml")["configMapGenerator"]
    given = dict(literal.split("=", 1) for one in generators for literal in one.get("literals", []))
    pod: dict[str, str] = {}
    for one in container(name)["env"]:
        reference = one.get("valueFrom", {}).get("configMapKeyRef")
        value = given[reference["key"]] if reference else one.get("value", SECRET)
        pod[one["name"]] = re.sub(r"\$\((\w+)\)", lambda found: pod[found[1]], value)
    composed = {key: re.sub(r"\$\{[^}]*\}", SECRET, value) for key, value in service(name)["environment"].items()}
    return {"compose": composed, "kubernetes": pod}


def dockerfile() -> list[list[str]]:
    """Its instructions, as words."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def stages() -> dict[str, list[list[str]]]:
    """The Dockerfile's instructions by stage."""
    found: dict[str, list[list[str]]] = {}
    for words in dockerfile():
        if words[0] == "FROM":
            found[words[3]] = []
        if found:
            list(found.values())[-1].append(words)
    return found


def command(stage: str) -> list[str]:
    """CMD of a stage, in its JSON form."""
    (words,) = (words for words in stages()[stage] if words[0] == "CMD")
    return yaml.safe_load(" ".join(words[1:]))  # type: ignore[no-any-return]


def mount(name: str, volume: str) -> str:
    (path,) = (one["mountPath"] for one in container(name)["volumeMounts"] if one["name"] == volume)
    return path  # type: ignore[no-any-return]


def pod_writable(name: str) -> set[str]:
    return {one["mountPath"] for one in container(name)["volumeMounts"] if not one.get("readOnly")}


def compose_writable(name: str) -> set[str]:
    """Of tmpfs and volumes."""
    composed = service(name)
    return {one.partition(":")[0] for one in composed["tmpfs"]} | {
        one.split(":")[1] for one in composed.get("volumes", [])
    }


def secret_references(name: str) -> Iterator[Manifest]:
    for one in container(name).get("env", []):
        if reference := one.get("valueFrom", {}).get("secretKeyRef"):
            yield reference


def all_volumes() -> Iterator[Manifest]:
    for pod in pods().values():
        yield from pod["spec"]["volumes"]
