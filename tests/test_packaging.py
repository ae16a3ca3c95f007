"""What is in the wheel, and what each package may import."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scorer.sections import ENCODERS
from tests.demo.stack import ROOT

STANDARD = sys.stdlib_module_names
ARTIFACT = ("artifact.json", "tensors.safetensors", "CARD.md")
PLACES = (
    *(f"{encoder}/{of}" for encoder in ENCODERS for of in ("mf", "sw", "boosted", "calibration")),
    *("bert", "causal"),
)
SHIPPED = (
    *(f"{place}/{name}" for place in PLACES for name in ARTIFACT),
    *(f"static/encoder/{name}" for name in ("encoder.json", "vectors.safetensors", "tokenizer.json", "CARD.md")),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_wheel_holds_migrations_artifacts_and_types_but_no_tests(wheel: zipfile.ZipFile) -> None:
    files = set(wheel.namelist())
    assert {name.split("/")[0] for name in files if ".dist-info" not in name} == {
        "gateway_plugin",
        "scorer",
        "feedback",
    }
    assert {f"{package}/py.typed" for package in ("gateway_plugin", "scorer", "feedback")} <= files
    assert {"feedback/migrations/env.py", "feedback/migrations/versions/r0001_decisions.py"} <= files
    assert {f"feedback/dashboard/{path}" for path in ("templates/base.html", "static/style.css")} <= files
    assert {f"scorer/pretrained/{path}" for path in SHIPPED} <= files


def test_what_ships_is_under_40_megabytes_together(wheel: zipfile.ZipFile) -> None:
    shipped = {
        entry.filename: entry.file_size for entry in wheel.infolist() if entry.filename.startswith("scorer/pretrained/")
    }
    assert shipped.keys() == {f"scorer/pretrained/{path}" for path in SHIPPED}
    assert 15_000_000 < sum(shipped.values()) < 40_000_000


def test_bare_install_needs_aiohttp_alone(wheel: zipfile.ZipFile) -> None:
    name = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    required = [line for line in wheel.read(name).decode().splitlines() if line.startswith("Requires-Dist:")]
    assert [line for line in required if "extra ==" not in line] == ["Requires-Dist: aiohttp<4,>=3.10"]


def imported(path: Path) -> set[str]:
    """Top-level modules that a file imports, anywhere in it."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module.split(".")[0])
    return modules


@pytest.mark.parametrize("path", sorted((ROOT / "gateway_plugin").glob("*.py")), ids=lambda path: path.name)
def test_plugin_imports_nothing_that_the_proxy_lacks(path: Path) -> None:
    host = {"litellm", "fastapi"} if path.name in ("hook.py", "proxy.py") else set()
    assert imported(path) - STANDARD <= {"gateway_plugin", "aiohttp", *host}


@pytest.mark.parametrize("path", sorted((ROOT / "scorer").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_scorer_leaves_putting_things_together_to_the_daemon_and_the_commands(path: Path) -> None:
    together = (
        path.name in ("daemon.py", "chores.py", "hosting.py", "steering.py", "cli.py") or path.parent.name == "commands"
    )
    assert "feedback" not in imported(path) or together


@pytest.mark.parametrize("name", ["names", "ids", "prompt", "settings", "client", "outcomes"])
def test_plugin_modules_load_alone(name: str) -> None:
    heavy = {"scorer", "feedback", "numpy", "msgspec", "litellm"}
    program = f"import sys; import gateway_plugin.{name}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.strip() == "set()", done.stderr
