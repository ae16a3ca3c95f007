"""What ships can be made again: from tables of the published shapes to artifacts, and to cards that tell the truth."""

from __future__ import annotations

import functools
import json
import random
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import safetensors.numpy
from click.testing import CliRunner, Result

from scorer import artifacts, calibration, catalogue, distil, export
from scorer.calibration import PRETRAINED
from scorer.cli import cli
from scorer.commands import pretrain as command
from scorer.pretraining import cards, sources
from scorer.pretraining.recipes import RECIPES, Recipe, Recipes, choose
from scorer.static import Static
from scorer.tables import DataError
from tests.scorer.test_export import tiny

__all__ = ["tiny"]  # the fixture
STRONG, WEAK = "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"
ROUTERS = "static/mf,static/sw,static/boosted"
SHIPPED = [recipe for recipe in RECIPES if (PRETRAINED / recipe.place).is_dir()]
WORDS = sorted(set(re.findall(r"[a-z]{4,}", (PRETRAINED / "minilm" / "sw" / "CARD.md").read_text(encoding="utf-8"))))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def fault(*arguments: object) -> str:
    """The last line that a person gets."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    line: str = result.output.strip().splitlines()[-1]
    assert line.startswith("routerd: ")
    return line


def write(path: Path, seed: int, rows: int, **columns: Sequence[object]) -> None:
    """Columns are repeated down the rows; beside them a `prompt` of random words, one a row."""
    dice = random.Random(seed)
    prompts = [" ".join(dice.choices(WORDS, k=dice.randint(8, 30))) for _ in range(rows)]
    repeated = {name: [values[row % len(values)] for row in range(rows)] for name, values in columns.items()}
    pyarrow.parquet.write_table(pa.table({"prompt": prompts, **repeated}), path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file of the data, small, in its real columns; each model has the 100 battles that it needs."""
    folder = tmp_path_factory.mktemp("data")
    pair = {STRONG: [True, True, False], WEAK: [True, False, False, True]}
    subject = ["philosophy", "law"]
    write(folder / "mmlu_gold.parquet", 1, 130, **pair, subject=subject)
    write(folder / "mmlu_pro.parquet", 2, 110, category=subject, **{"Yi-34B": [0.0, 1.0], "gemma-7b": [1.0, 0.0, 0.0]})
    write(
        folder / "llmrouter.parquet", 3, 110, task=subject, **{"gemma-2-9b-it": [0.25, 1.0], "yi-6b": [0.0, 0.5, 1.0]}
    )
    write(folder / "arena_bench.parquet", 4, 220, model=[STRONG, WEAK], turn=[1.0], score=[9.0, 7.0, 5.0])
    humans = {
        "model_a": ["tulu_65B"],
        "model_b": ["chatgpt"],
        "preference": ["a-is-better", "tie", "b-is-better"],
    }
    thumbs = {"completion_a_is_acceptable": ["yes", "no"], "completion_b_is_acceptable": ["yes", "yes", "no"]}
    write(folder / "human_acceptability.parquet", 5, 110, **humans, **thumbs)
    write(folder / "alpaca_eval.parquet", 6, 40, preference_b=[0.5])
    write(folder / "mmlu_dev.parquet", 7, 60, **pair, subject=subject)
    write(folder / "gsm8k_dev.parquet", 8, 60, **pair)
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made") / "work"


@pytest.fixture(scope="module")
def out(data: Path, work: Path) -> Path:
    """Three routers and the sample, made once."""
    made = work.parent / "out"
    only = f"{ROUTERS},static/calibration"
    result = run("pretrain", "--data", data, "--out", made, "--work", work, "--only", only)
    assert result.exit_code == 0, result.output
    assert re.search(r"^together +\d+\.\d\d MB$", result.output, re.MULTILINE)
    return made


def block(card: Path) -> list[list[str]]:
    """The commands that a card prints, as a shell reads them."""
    printed = re.search(r"```sh\n(.*?)```", card.read_text(encoding="utf-8"), re.DOTALL)
    assert printed
    return [shlex.split(line)[1:] for line in printed[1].replace("\\\n", " ").splitlines()]


def test_artifacts_load_with_the_encoder_they_were_made_for(out: Path) -> None:
    encoder = catalogue.load_encoder("static")
    for name in ("mf", "sw", "boosted"):
        router = catalogue.load(name, str(out / "static" / name), encoder)
        win_rates = router.score(encoder.encode(["Which law is this?"]), [STRONG, WEAK]).win_rates
        assert 0 < win_rates[0, 1] < 1
    name, prompts = calibration.load_sample(out / "static" / "calibration", encoder.id)
    assert (name, len(prompts)) == ("chat-260", 260)
    assert sorted(path.name for path in out.iterdir()) == ["static"]  # and nothing of the workshop


def test_commands_of_a_card_make_the_same_tensors(
    out: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("DATA").symlink_to(data)
    for name in ("mf", "calibration"):
        commands = block(out / "static" / name / "CARD.md")
        for arguments in commands:
            if arguments[0] != "evaluate":
                result = run(*arguments)
                assert result.exit_code == 0, result.output
        again = safetensors.numpy.load_file(Path("static", name, "tensors.safetensors"))
        made = safetensors.numpy.load_file(out / "static" / name / "tensors.safetensors")
        assert again.keys() == made.keys()
        for tensor in made:
            np.testing.assert_array_equal(again[tensor], made[tensor])


def test_cards_say_what_is_in_manifest_and_report(out: Path, work: Path) -> None:
    card = (out / "static" / "mf" / "CARD.md").read_text(encoding="utf-8")
    battles = artifacts.read_manifest(out / "static" / "mf").data["battles"]
    assert battles == {
        "arena_bench": 220,
        "human_acceptability": 330,
        "llmrouter": 220,
        "mmlu_gold": 260,
        "mmlu_pro": 220,
    }
    assert "| human acceptability, 4 models | allenai/open-instruct | Apache-2.0 | 110 | 330 | 0.5 |" in card
    report = json.loads((work / "reports" / "static" / "report.json").read_text(encoding="utf-8"))
    rows = {row["method"]: row["measures"] for row in report["benchmarks"][0]["methods"]}
    apgr, cpt = rows["mf (mf)"]["apgr"], rows["mf (mf)"]["cpt_50"]
    area = f"{apgr['value']:.3f} ({apgr['low']:.3f}, {apgr['high']:.3f})"
    assert f"| MMLU (60) | **mf** | {area} | {100 * cpt['value']:.1f} (" in card
    assert "| | sw | " in card.replace("|  |", "| |")
    assert "evaluate --encoder static --benchmark mmlu=DATA/mmlu_dev.parquet" in card.replace(" \\\n   ", "")


def test_work_is_taken_up_where_it_was_left(out: Path, data: Path, work: Path, tmp_path: Path) -> None:
    for file in (work / "battles").iterdir():
        file.unlink()  # not needed by what is made already
    made = tmp_path / "again"
    result = run("pretrain", "--data", data, "--out", made, "--work", work, "--only", "static/calibration")
    assert result.exit_code == 0, result.output
    assert f"found in {work}" in result.output
    digests = {artifacts.read_manifest(place / "static" / "calibration").digest for place in (made, out)}
    assert len(digests) == 1
    assert work.is_dir()


def test_work_made_from_other_data_is_refused(out: Path, data: Path, work: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(data, tmp_path / "changed"))
    write(changed / "alpaca_eval.parquet", 9, 40, preference_b=[0.5])
    line = fault("pretrain", "--data", changed, "--out", tmp_path / "x", "--work", work, "--only", "static/calibration")
    assert line.endswith("was made from another alpaca_eval.parquet; give another --work")


def test_a_directory_of_someone_elses_is_no_place_to_work_in(data: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "out.work" / "thesis.tex"
    theirs.parent.mkdir()
    theirs.touch()
    line = fault("pretrain", "--data", data, "--out", tmp_path / "out", "--only", "static/calibration")
    assert line.endswith("out.work: holds something else; give another --work")
    assert theirs.exists()


def test_what_is_too_large_does_not_ship(
    out: Path, data: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "LARGEST", 20_000)
    made = tmp_path / "large"
    line = fault("pretrain", "--data", data, "--out", made, "--work", work, "--only", "static/calibration")
    assert line.endswith("MB together: more than 0.02 MB do not ship")
    assert not made.exists()


def test_encoder_is_made_into_its_place_and_work_is_cleared(
    tiny: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "SOURCE", str(tiny))
    monkeypatch.setattr(distil, "distil", functools.partial(distil.distil, dimension=16))
    made = tmp_path / "out"
    result = run("pretrain", "--data", data, "--out", made, "--only", "static/encoder")
    assert result.exit_code == 0, result.output
    assert Static.load(made / "static" / "encoder").dimension == 16
    assert block(made / "static" / "encoder" / "CARD.md") == [
        ["encoder", "export", "static", "--out", "static/encoder"]
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_routers_go_with_the_encoder_that_is_made_with_them() -> None:
    (mf,) = choose(["static/mf"])
    assert Recipes(choose(["static/mf"])).make(mf)[:4] == ["train", "mf", "--encoder", "static"]
    assert Recipes(RECIPES).make(mf)[:4] == ["train", "mf", "--encoder", "static/encoder"]


def test_no_artifact_is_fitted_on_an_evaluation_file_or_without_looking_at_them() -> None:
    measured = {str(Path("DATA", file)) for file in sources.BENCHMARKS.values()}
    for recipe in RECIPES:
        recipes = Recipes(RECIPES)
        read = {part for arguments in recipes.imports(recipe).values() for part in arguments}
        assert not measured & read
        make = recipes.make(recipe)
        unseen = {make[place + 1] for place, part in enumerate(make) if part == "--evaluation"}
        assert unseen == (measured if recipe.is_router else set())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.place)
def test_every_command_of_a_recipe_is_one_that_is_there(recipe: Recipe) -> None:
    for arguments in Recipes(RECIPES).commands(recipe):
        group, depth = cli, 0
        while hasattr(group, "commands"):
            group, depth = group.commands[arguments[depth]], depth + 1  # type: ignore[assignment]
        group.make_context("routerd", arguments[depth:])  # raises where an option is unknown


def test_missing_files_are_named_before_anything_is_done(data: Path, tmp_path: Path) -> None:
    lacking = Path(shutil.copytree(data, tmp_path / "lacking"))
    for name in ("mmlu_pro", "gsm8k_dev"):
        (lacking / f"{name}.parquet").unlink()
    made = tmp_path / "made"
    assert fault("pretrain", "--data", lacking, "--out", made, "--only", "static/mf") == (
        f"routerd: {lacking}: lacks gsm8k_dev.parquet, mmlu_pro.parquet"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["lacking"]


def test_what_does_not_ship_and_what_is_there_already_are_refused(data: Path, tmp_path: Path) -> None:
    line = fault("pretrain", "--data", data, "--out", tmp_path / "x", "--only", "static/mf,static/xgb")
    assert line.startswith("routerd: static/xgb: what ships is static/encoder, static/calibration, static/mf, ")
    assert fault("pretrain", "--data", data, "--out", tmp_path).endswith("exists already; nothing is ever overwritten")


def test_sample_needs_prompts(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "none.parquet")
    line = fault("sample", "--prompts", tmp_path / "none.parquet", "--name", "chat", "--out", tmp_path / "sample")
    assert line.endswith("none.parquet: no prompts")


# Cards


def test_sections_are_filled_and_the_rest_is_kept() -> None:
    card = "# mf\n\n<!-- data -->\nold\n<!-- /data -->\n\nProse.\n\n<!-- metrics -->\n<!-- /metrics -->\n"
    filled = cards.fill(card, {"data": "new \\1", "metrics": "0.5"})
    data, metrics = "<!-- data -->\n\nnew \\1\n\n<!-- /data -->", "<!-- metrics -->\n\n0.5\n\n<!-- /metrics -->"
    assert filled == f"# mf\n\n{data}\n\nProse.\n\n{metrics}\n"
    assert cards.fill(filled, {"data": "new \\1"}) == filled


@pytest.mark.parametrize(
    "card", ["none", "<!-- data -->\n", "<!-- /data --><!-- data -->\n", 2 * "<!-- data -->\n<!-- /data -->\n"]
)
def test_card_without_one_place_for_a_section_is_refused(card: str) -> None:
    with pytest.raises(DataError, match="expected one section <!-- data -->"):
        cards.fill(card, {"data": "x"})


def test_metrics_are_a_table_with_leads_in_either_direction(tmp_path: Path) -> None:
    def measured(name: str, router: bool, apgr: float, cpt: float | None) -> dict[str, object]:
        area = {"value": apgr, "low": apgr - 0.01, "high": apgr + 0.02}
        half = {"value": cpt, "low": cpt, "high": cpt}
        return {"method": name, "router": router, "measures": {"apgr": area, "cpt_50": half, "cpt_80": half}}

    def test(a: str, b: str, value: float) -> dict[str, object]:
        return {"a": a, "b": b, "difference": {"value": value, "low": value - 0.03, "high": value + 0.01}}

    methods = [
        measured("sw (sw)", True, 0.6, 0.3),
        measured("mf (mf)", True, 0.7, None),
        measured("oracle", False, 1, 0),
    ]
    methods.append(measured("prompt length", False, 0.5, 0.4))
    tests = [test("sw (sw)", "mf (mf)", -0.1), test("mf (mf)", "prompt length", 0.2)]
    report = {"benchmarks": [{"benchmark": "mmlu", "prompts": 1234, "methods": methods, "tests": tests}]}
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    assert cards.metrics(tmp_path / "report.json", "mf (mf)").splitlines() == [
        "| benchmark | method | APGR | CPT(50) % | CPT(80) % | leads by |",
        "| --- | --- | --- | --- | --- | --- |",
        "| MMLU (1,234) | **mf** | 0.700 (0.690, 0.720) |  |  |  |",
        "|  | sw | 0.600 (0.590, 0.620) | 30.0 | 30.0 | 0.100 (0.090, 0.130) |",
        "|  | prompt length | 0.500 (0.490, 0.520) | 40.0 | 40.0 | 0.200 (0.170, 0.210) |",
    ]


@pytest.mark.parametrize("recipe", SHIPPED, ids=lambda recipe: recipe.place)
def test_shipped_cards_have_every_part_and_tell_the_truth(recipe: Recipe) -> None:
    card = cards.prose(recipe)
    titles = re.findall(r"^## (.*)$", card, re.MULTILINE)
    assert {"Intended use", "Data", "Metrics", "Known failures", "Languages"} <= set(titles)
    made = Recipes(RECIPES, work=PRETRAINED)
    assert cards.commands([Recipes(RECIPES).make(recipe)])[6:-4] in card
    if recipe.is_router:
        assert cards.data(artifacts.read_manifest(made.made(recipe))) in card
