"""What no source file does: run what it reads. Looked for in the syntax tree, in every file that ships."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.demo.stack import ROOT

SOURCES = sorted(
    path for package in ("gateway_plugin", "scorer", "feedback") for path in (ROOT / package).rglob("*.py")
)
PICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
RUNNERS = {"eval", "exec", "compile", "__import__"}
UNSAFE = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "os.system", "os.popen"}
UNPICKLING = {"torch.load", "pandas.read_pickle", "pd.read_pickle"}  # NumPy does not, unless told to


def faults(source: str) -> list[str]:
    """What in a source would run what it reads, each with its line."""
    tree = ast.parse(source)
    found = [(getattr(node, "lineno", 0), fault) for node in ast.walk(tree) for fault in _of(node)]
    return [f"{line}: {fault}" for line, fault in sorted(found)]


def _of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (f"imports {one.name}" for one in node.names if one.name.split(".")[0] in PICKLERS)
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if module.split(".")[0] in PICKLERS:
            yield f"imports {module}"
        yield from (
            f"imports {module}.{one.name}" for one in node.names if f"{module}.{one.name}" in UNSAFE | UNPICKLING
        )
    elif isinstance(node, ast.Call):
        yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {one.arg: one.value for one in node.keywords}
    if name in RUNNERS or name.removeprefix("builtins.") in RUNNERS or name in UNSAFE:
        yield f"calls {name}"
    if name in UNPICKLING and "weights_only" not in given:
        yield f"calls {name}, which unpickles"
    for argument, safe in (
        ("trust_remote_code", False),
        ("shell", False),
        ("allow_pickle", False),
        ("weights_only", True),
    ):
        if argument in given and not _is(given[argument], safe):
            yield f"calls {name} with {argument}={ast.unparse(given[argument])}"


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_no_source_runs_what_it_reads() -> None:
    found = {str(path.relative_to(ROOT)): faults(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert len(found) > 200
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, joblib.numpy_pickle as p",
        "from pickle import loads",
        "from yaml import unsafe_load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=chosen)",
        "yaml.load(text, Loader=yaml.Loader)",
        "eval(text)",
        "def f():\n    builtins.exec(text)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
    ],
)
def test_what_would_is_found(source: str) -> None:
    assert len(faults(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "np.load(path, allow_pickle=False)",
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
        "yaml.safe_load(text)",
        "model.eval()",
        "re.compile(text)",
        "subprocess.run([program, argument])",
        "'import pickle'",
    ],
)
def test_what_would_not_is_not(source: str) -> None:
    assert faults(source) == []
