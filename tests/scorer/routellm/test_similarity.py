"""RouteLLM's sw: sets of the published form, checked against upstream's per-query regression, slowly."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from scorer.artifacts import ArtifactError
from scorer.config import ConfigError
from scorer.routellm import similarity
from scorer.routellm.similarity import Similarity
from scorer.routers.base import UnknownModel
from scorer.routers.cells import queries
from scorer.routers.tiers import tiers
from scorer.tables import DataError
from tests.scorer.routellm.endpoint import Endpoint, vector
from tests.scorer.routellm.made_up import STRONG, TEXTS, WEAK, prompts

Floats = NDArray[np.float64]
Rows = list[dict[str, Any]]

MODELS = [STRONG, *(f"model-{i}" for i in range(12)), WEAK, "Org/Model_13"]
NEAR = 0.6  # of a battle's prompt to one of TEXTS


def arena(n: int, seed: int, models: Sequence[str] = MODELS) -> Rows:
    """Battles in Chatbot Arena's columns; strengths fall along the models; every fifth prompt is a character short."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        a, b = generator.choice(len(models), 2, replace=False)
        turn = f"  {i:015}\n" if i % 5 == 0 else f" {i:016} "
        p = 1 / (1 + np.exp((a - b) / 4))
        outcome = generator.choice(3, p=[0.8 * p, 0.8 * (1 - p), 0.2])
        won = {
            "winner_model_a": int(outcome == 0),
            "winner_model_b": int(outcome == 1),
            "winner_tie": int(outcome == 2),
        }
        rows.append(
            {
                "id": i,
                "model_a": models[a],
                "model_b": models[b],
                "prompt": json.dumps([turn, "and then?"]),
                "response_a": json.dumps(["one, two\nthree", None]),
                "response_b": "[]",
                **won,
            }
        )
    return rows


def kept(rows: Rows) -> Rows:
    return [row for row in rows if len(json.loads(row["prompt"])[0].strip()) >= 16]


def embedded(rows: Rows, seed: int = 0) -> NDArray[np.float32]:
    """(kept rows, 1536): near one of TEXTS each."""
    generator = np.random.default_rng(seed)
    near = np.array([vector(TEXTS[i % len(TEXTS)]) for i in range(len(kept(rows)))])
    noise = generator.normal(size=near.shape) / near.shape[1] ** 0.5
    mixed: NDArray[np.float32] = (NEAR * near + (1 - NEAR**2) ** 0.5 * noise).astype(np.float32)
    return mixed


def write_csv(path: Path, rows: Rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)


def write_embeddings(path: Path, vectors: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    column = pa.array(list(vectors), pa.list_(pa.float32()))
    pa.parquet.write_table(pa.table({"embeddings": column}), path)


def describe(directory: Path, *pairs: tuple[str, str]) -> Path:
    sets = [{"battles": battles, "embeddings": embeddings} for battles, embeddings in pairs]
    (directory / "routellm.json").write_text(json.dumps({"sets": sets}))
    return directory


Write = Callable[..., Path]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A CSV set, and a Parquet set in shards as the hub has them."""
    first, second = arena(400, 1), arena(300, 2)
    write_csv(tmp_path / "arena.csv", first)
    write_embeddings(tmp_path / "arena_embeddings.parquet", embedded(first, 1))
    write_parquet(tmp_path / "judge" / "data" / "train-00000-of-00001.parquet", second)
    vectors = embedded(second, 2)
    write_embeddings(tmp_path / "judge_embeddings" / "data" / "train-00001-of-00002.parquet", vectors[100:])
    write_embeddings(tmp_path / "judge_embeddings" / "data" / "train-00000-of-00002.parquet", vectors[:100])
    return describe(tmp_path, ("arena.csv", "arena_embeddings.parquet"), ("judge", "judge_embeddings"))


def known() -> tuple[Rows, NDArray[np.float32]]:
    """The checkpoint's kept rows and their embeddings."""
    first, second = arena(400, 1), arena(300, 2)
    return kept(first) + kept(second), np.concatenate([embedded(first, 1), embedded(second, 2)])


def regression(
    a: NDArray[np.intp], b: NDArray[np.intp], y: Floats, weight: Floats, players: int, ridge: float
) -> Floats:
    """(players,) strengths in nats by gradient descent over battles: upstream's weighted logistic regression in which
    a tie is half a win of each, with a ridge; battles of a player with itself are dropped."""
    apart = a != b
    a, b, y, weight = a[apart], b[apart], y[apart], weight[apart]

    def loss(theta: Floats) -> tuple[float, Floats]:
        gap = theta[a] - theta[b]
        value = float(weight @ (np.logaddexp(0, gap) - y * gap) + ridge / 2 * theta @ theta)
        slope = weight * (1 / (1 + np.exp(-gap)) - y)
        by_player = np.bincount(a, slope, players) - np.bincount(b, slope, players)
        return value, by_player + ridge * theta

    tight = {"gtol": 1e-10, "ftol": 1e-16, "maxiter": 10_000}
    solved: Floats = minimize(loss, np.zeros(players), jac=True, method="L-BFGS-B", options=tight).x
    return solved


def upstream(rows: Rows, vectors: Floats, query: Floats, strong: str, weak: str) -> float:
    """Upstream's win rate, from the rows on: ratings, tiers, cosines, weights, regression, Elo."""
    names = sorted({row[side] for row in rows for side in ("model_a", "model_b")})
    a, b = (np.array([names.index(row[side]) for row in rows]) for side in ("model_a", "model_b"))
    y = np.array([1.0 if row["winner_model_a"] else 0.0 if row["winner_model_b"] else 0.5 for row in rows])
    rating = regression(a, b, y, np.ones(len(rows)), len(names), 1.0)
    tier = tiers(rating, 10)
    cosine = vectors @ query / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))
    weight = 10 * 10 ** (cosine / cosine.max())
    elo = 400 / np.log(10) * regression(tier[a], tier[b], y, weight, 10, 1.0) + 1000
    gap = elo[tier[names.index(strong)]] - elo[tier[names.index(weak)]]
    return float(1 - 1 / (1 + 10 ** (gap / 400)))


def expected_of(rows: Rows, vectors: NDArray[np.float32], text: str, strong: str = STRONG, weak: str = WEAK) -> float:
    """Upstream's win rate on what is kept of the embeddings, and of the prompt's, which is rounded as well."""
    query = queries(vector(text)[None].astype(np.float64))[0].astype(np.float64)
    return upstream(rows, as_int8(vectors), query, strong, weak)


def as_int8(vectors: NDArray[np.float32]) -> Floats:
    """What is kept of an embedding."""
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    rounded: Floats = np.round(unit * (127 / np.abs(unit).max(axis=1, keepdims=True)))
    return rounded


def test_scores_equal_upstreams_regression(endpoint: Endpoint, checkpoint: Path) -> None:
    router = Similarity.load(checkpoint, endpoint.settings())
    rows, vectors = known()
    win = router.score(prompts(), (STRONG, WEAK)).win_rates[:, 1]
    expected = [expected_of(rows, vectors, text) for text in TEXTS]
    np.testing.assert_allclose(win, expected, atol=1e-6)
    assert win.std() > 1e-3  # there is something to agree on
    full = [upstream(rows, vectors.astype(float), vector(text).astype(float), STRONG, WEAK) for text in TEXTS]
    np.testing.assert_allclose(win, full, atol=2e-4)  # what eight bits a number cost


def test_a_ladder_is_scored_by_name_or_by_the_reference_pair(endpoint: Endpoint, checkpoint: Path) -> None:
    router = Similarity.load(checkpoint, endpoint.settings())
    rows, vectors = known()
    by_name = router.score(prompts(TEXTS[0]), ("model-2", "model-13")).win_rates[0]
    assert by_name[1] == pytest.approx(expected_of(rows, vectors, TEXTS[0], "model-2", "Org/Model_13"), abs=1e-6)
    pair = router.score(prompts(), (STRONG, WEAK)).win_rates[:, 1]
    others = router.score(prompts(), ("gpt-5", WEAK, "gpt-5-nano")).win_rates
    np.testing.assert_array_equal(others, pair[:, None] * [0, 0.5, 1])


def test_rows_made_ready_in_blocks_give_the_same(
    endpoint: Endpoint, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Similarity.load(checkpoint, endpoint.settings())
    monkeypatch.setattr(similarity, "_TOGETHER", 37)
    blocks = Similarity.load(checkpoint, endpoint.settings())
    for ladder in ((STRONG, WEAK), ("model-1", "model-9")):
        expected = whole.score(prompts(), ladder).win_rates
        np.testing.assert_allclose(blocks.score(prompts(), ladder).win_rates, expected, atol=1e-9)
    assert blocks.version == whole.version


def test_a_text_that_repeats_keeps_the_embedding_of_each_row(endpoint: Endpoint, tmp_path: Path) -> None:
    rows = [{**row, "prompt": '["the same long question"]'} for row in kept(arena(100, 3))]
    write_csv(tmp_path / "arena.csv", rows)
    write_embeddings(tmp_path / "e.parquet", embedded(rows))
    router = Similarity.load(describe(tmp_path, ("arena.csv", "e.parquet")), endpoint.settings())
    expected = expected_of(rows, embedded(rows), TEXTS[1])
    assert router.score(prompts(TEXTS[1]), (STRONG, WEAK)).win_rates[0, 1] == pytest.approx(expected, abs=1e-6)


def test_a_model_that_meets_itself_is_left_out_with_its_embedding(endpoint: Endpoint, tmp_path: Path) -> None:
    rows = kept(arena(200, 4))
    for row in rows[10:30]:
        row["model_b"] = row["model_a"]
    write_csv(tmp_path / "arena.csv", rows)
    write_embeddings(tmp_path / "e.parquet", embedded(rows))
    router = Similarity.load(describe(tmp_path, ("arena.csv", "e.parquet")), endpoint.settings())
    apart = [row["model_a"] != row["model_b"] for row in rows]
    some, vectors = [row for row, keep in zip(rows, apart, strict=True) if keep], embedded(rows)[apart]
    expected = expected_of(some, vectors, TEXTS[0])
    assert router.score(prompts(TEXTS[0]), (STRONG, WEAK)).win_rates[0, 1] == pytest.approx(expected, abs=1e-6)


def test_no_win_on_either_side_is_a_tie_and_the_row_is_kept(endpoint: Endpoint, tmp_path: Path) -> None:
    rows = [{**row, "winner_tie": 0} for row in kept(arena(200, 5))]
    write_csv(tmp_path / "arena.csv", rows)
    write_embeddings(tmp_path / "e.parquet", embedded(rows))
    router = Similarity.load(describe(tmp_path, ("arena.csv", "e.parquet")), endpoint.settings())
    expected = expected_of(rows, embedded(rows), TEXTS[0])
    assert router.score(prompts(TEXTS[0]), (STRONG, WEAK)).win_rates[0, 1] == pytest.approx(expected, abs=1e-6)


def test_without_the_reference_pair_a_ladder_must_name_models(endpoint: Endpoint, tmp_path: Path) -> None:
    rows = kept(arena(100, 6, ["a", "b", "c"]))
    write_csv(tmp_path / "arena.csv", rows)
    write_embeddings(tmp_path / "e.parquet", embedded(rows))
    router = Similarity.load(describe(tmp_path, ("arena.csv", "e.parquet")), endpoint.settings())
    assert router.score(prompts(TEXTS[0]), ("a", "c")).win_rates[0, 1] > 0.5
    with pytest.raises(UnknownModel):
        router.score(prompts(TEXTS[0]), ("gpt-5", "gpt-5-mini"))


def test_lengths_that_disagree_are_told_in_one_line(endpoint: Endpoint, checkpoint: Path) -> None:
    write_embeddings(checkpoint / "arena_embeddings.parquet", embedded(arena(400, 1))[:-1])
    with pytest.raises(DataError) as raised:
        Similarity.load(checkpoint, endpoint.settings())
    assert str(raised.value) == (
        f"{checkpoint / 'arena_embeddings.parquet'}: 319 embeddings; {checkpoint / 'arena.csv'} has 320 battles whose"
        " first turn is of 16 characters or more"
    )


def test_sets_of_different_dimensions_are_refused(endpoint: Endpoint, checkpoint: Path) -> None:
    write_embeddings(checkpoint / "arena_embeddings.parquet", embedded(arena(400, 1))[:, :384])
    with pytest.raises(DataError, match="judge_embeddings: 1536 dimensions, those before 384"):
        Similarity.load(checkpoint, endpoint.settings())


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array([[1.0, 2.0]] * 319 + [[1.0]], pa.list_(pa.float32())), "rows of 1 and 2 numbers"),
        (pa.array([[1.0, 2.0]] * 319 + [None], pa.list_(pa.float32())), "a list of numbers in every row"),
        (pa.array([[1.0, 2.0]] * 319 + [[1.0, None]], pa.list_(pa.float32())), "row 320: embeddings: holds NaN"),
        (pa.array(["x"] * 320), "a list of numbers in every row is accepted, not string"),
        (pa.array([[]] * 320, pa.list_(pa.float32())), "rows of 0 numbers"),
        (pa.array([], pa.list_(pa.float32())), "rows of no numbers"),
    ],
)
def test_embeddings_of_another_form_are_refused(
    endpoint: Endpoint, checkpoint: Path, column: pa.Array, says: str
) -> None:
    pa.parquet.write_table(pa.table({"embeddings": column}), checkpoint / "arena_embeddings.parquet")
    with pytest.raises(DataError, match=says):
        Similarity.load(checkpoint, endpoint.settings())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prompt": "no list"}, "line 3: prompt: is no JSON list that begins with a text"),
        ({"prompt": "[]"}, "line 3: prompt: is no JSON list that begins with a text"),
        ({"prompt": "[null]"}, "line 3: prompt: is no JSON list that begins with a text"),
        ({"model_b": ""}, "line 3: model_b: is missing"),
        ({"winner_model_a": "won"}, "line 3: winner_model_a: 'won' is not a number from 0 to 1"),
    ],
)
def test_a_battle_that_cannot_be_read_is_named(
    endpoint: Endpoint, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    rows = kept(arena(20, 7))
    for row in rows:
        row["response_a"] = "[]"
    rows[1] |= change
    write_csv(tmp_path / "arena.csv", rows)
    write_embeddings(tmp_path / "e.parquet", np.zeros((16, 4), np.float32))
    with pytest.raises(DataError, match=rf"arena\.csv, {says}"):
        Similarity.load(describe(tmp_path, ("arena.csv", "e.parquet")), endpoint.settings())


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (None, ArtifactError, 'no routellm.json, which says what is in it: {"sets"'),
        ("[]", ArtifactError, "Expected `object`, got `array`; expected"),
        ('{"sets": []}', ArtifactError, "names no set"),
        ('{"sets": [{"battles": "arena.csv"}]}', ArtifactError, "missing required field `embeddings`"),
        (
            '{"sets": [{"battles": "nowhere.csv", "embeddings": "e.parquet"}]}',
            DataError,
            "nowhere.csv: neither a file nor a directory of Parquet files",
        ),
        (
            '{"sets": [{"battles": "arena.csv", "embeddings": "arena.csv"}]}',
            DataError,
            "arena.csv: not a Parquet file that can be read",
        ),
        (
            '{"sets": [{"battles": "arena.csv", "embeddings": "judge"}]}',
            DataError,
            "no column 'embeddings'; columns: id, model_a",
        ),
    ],
)
def test_a_description_that_fits_nothing_is_refused(
    endpoint: Endpoint, checkpoint: Path, content: str | None, error: type[Exception], says: str
) -> None:
    (checkpoint / "routellm.json").unlink()
    if content is not None:
        (checkpoint / "routellm.json").write_text(content)
    with pytest.raises(error) as raised:
        Similarity.load(checkpoint, endpoint.settings())
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_endpoint_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say which"):
        Similarity.load(tmp_path, None)
