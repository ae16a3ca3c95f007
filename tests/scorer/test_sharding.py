"""Shards: however a log is cut, its encodings and cells are those of the whole; and so they are over Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click.testing
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scorer import catalogue, cli, sharding, training
from scorer.battles import Battles, write
from scorer.config import ConfigError
from scorer.encoder import EncoderError
from scorer.features import NAMES
from scorer.routers.cells import Cells, gathered
from scorer.routers.similarity import Similarity
from scorer.routers.variants import Upstream, Variant
from scorer.sharding import Map, Spread
from tests.conftest import free_port
from tests.scorer.test_cells import MODELS, NO_PAIRS, random_battles, unit

PARTS = ("rows", "count", "pair", "wins")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Map]:
    """Ray on this machine, with two workers."""
    with sharding.cluster(cores=2) as mapped:
        yield mapped


def a_log(prompts: int, seed: int = 0) -> Battles:
    """Battles on prompts of a few words each."""
    generator = np.random.default_rng(seed)
    words = ("apple", "river", "proof", "integral", "poem", "stone", "lemma", "cloud", "kernel", "window")
    drawn = random_battles(generator, prompts, 4 * prompts)
    texts = [" ".join(generator.choice(words, 5)) + f" {i}" for i in range(prompts)]
    return Battles.of(
        [texts[i] for i in drawn.prompt], drawn.model_a.tolist(), drawn.model_b.tolist(), drawn.outcome, drawn.weight
    )


def pid(_: int) -> int:
    return os.getpid()


def refuse(number: int) -> int:
    if number == 3:
        raise ConfigError("three is too many")
    return number


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), prompts=st.integers(1, 40), rows=st.integers(0, 120), size=st.integers(1, 50))
def test_cells_of_shards_are_those_of_the_whole(seed: int, prompts: int, rows: int, size: int) -> None:
    """Prompts without battles, shards without battles, pairs that were known before and new ones."""
    generator = np.random.default_rng(seed)
    battles, vectors = random_battles(generator, prompts, rows), unit(generator, prompts, 7)
    known = np.array([[0, 3], [1, 2]], np.int32) if seed % 2 else NO_PAIRS
    whole, pairs = gathered(battles, vectors, MODELS, known)
    extended = sharding._extended(battles, MODELS, known)
    np.testing.assert_array_equal(extended, pairs)
    cut = list(sharding.shards(battles, vectors, size))
    parts = [sharding._partial(MODELS, extended, shard) for shard in cut]
    assert [len(shard.vectors) for shard in cut] == [min(size, prompts - at) for at in range(0, prompts, size)]
    found = sharding.reduced(parts, extended)
    for name in PARTS:
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
        assert getattr(found, name).dtype == getattr(whole, name).dtype
    totals = sum(Cells(*part, extended).total for part in parts)
    np.testing.assert_allclose(totals, whole.total, rtol=1e-12, atol=0)


def test_battles_of_a_shard_are_those_on_its_prompts() -> None:
    battles = Battles.of(["x", "y", "x", "z"], ["a", "a", "b", "c"], ["b", "b", "c", "a"], [1, 0, 0.5, 1])
    first, second = sharding.shards(battles, np.eye(3), 2)
    assert first.battles.prompts == ("x", "y")
    assert first.battles.prompt.tolist() == [0, 0, 1]
    assert first.battles.outcome.tolist() == [1, 0.5, 0]
    assert second.battles.prompts == ("z",)
    assert (second.battles.prompt.tolist(), second.battles.model_a.tolist()) == ([0], ["c"])
    np.testing.assert_array_equal(second.vectors, np.eye(3)[2:])


def test_two_workers_give_the_same_router_as_one_process(cluster: Map, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoded and summed there, to the last bit."""
    monkeypatch.setattr(sharding, "_PROMPTS", 100)
    battles = a_log(700)
    ours = catalogue.named_encoder("static")
    theirs = Spread(ours, "static", cluster)
    assert (theirs.name, theirs.id) == (ours.name, ours.id)
    alone, spread = (training.encode(encoder, battles.prompts) for encoder in (ours, theirs))
    np.testing.assert_array_equal(spread.embeddings, alone.embeddings)
    np.testing.assert_array_equal(spread.features, alone.features)
    np.testing.assert_array_equal(theirs.encode(battles.prompts).embeddings, alone.embeddings)
    variants: tuple[Variant | None, ...] = (None, Upstream(), Upstream(most_rows=300))
    for chosen in variants:
        fit = partial(Similarity.fit, battles, encoder_id=ours.id, features=NAMES, chosen=chosen)
        one, two = fit(alone), fit(spread, gather=partial(sharding.summed, cluster))
        assert two.version.rpartition("-")[2] == one.version.rpartition("-")[2]  # the content's digest
        asked = training.encode(ours, ["river proof stone", "a poem of clouds"])
        scores = [router.score(asked, ["a", "b", "c"]).win_rates for router in (one, two)]
        np.testing.assert_allclose(scores[1], scores[0], rtol=0, atol=1e-12)


def test_tasks_run_in_other_processes_and_come_back_in_order(cluster: Map) -> None:
    assert os.getpid() not in set(cluster(pid, range(8)))
    assert list(cluster(abs, range(-20, 0))) == list(range(20, 0, -1))


def test_what_a_task_raises_is_raised_here_in_one_line(cluster: Map) -> None:
    with pytest.raises(ConfigError) as raised:
        list(cluster(refuse, range(5)))
    assert str(raised.value) == "three is too many"


def test_a_worker_with_another_encoder_is_refused(cluster: Map) -> None:
    class Other:
        name, id = "static", "f" * 64

    spread = Spread(Other(), "static", cluster)  # type: ignore[arg-type]
    with pytest.raises(EncoderError, match=r"^a worker's static encoder is \w{12}, not f{12}; export it there$"):
        spread.encode(["x"])


def test_a_cluster_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    battles = tmp_path / "battles.jsonl"
    write(battles, a_log(20))
    arguments = ["train", "sw", "--encoder", "static", "--battles", str(battles), "--out", str(tmp_path / "sw")]
    address = f"127.0.0.1:{free_port()}"
    told = click.testing.CliRunner().invoke(cli.cli, [*arguments, "--ray", address])
    assert (told.exit_code, told.stderr) == (2, f"routerd: --ray {address}: [Errno 111] Connection refused\n")
