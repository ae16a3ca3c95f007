"""A night makes versions of what was said, leaves its record, and says why it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from feedback import retrain, versions
from feedback.store import Store
from feedback.trials import Trial
from scorer import catalogue, hosting
from scorer.commands.shared import in_store
from scorer.sections import Retrain, Rollback, RouterConfig
from tests.scorer.lives import GOLDEN, MODELS, configuration, lived, retrained, static, weak_fails_at_proofs


def test_ratings_become_versions_that_know_the_ladder_and_what_was_said(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    lived(config, 600, weak_fails_at_proofs)
    trials = retrained(config)
    assert trials is not None
    assert [(trial.name, trial.published) for trial in trials] == [("mf", True), ("sw", True)]
    encoder = static()
    prompts = encoder.encode(["river proof stone", "river cloud stone"])
    for trial in trials:
        directory = tmp_path / "artifacts" / trial.name / trial.challenger
        router = catalogue.load(trial.name, str(directory), encoder)
        assert router.version == trial.challenger
        assert router.knows("strong")
        assert router.knows("weak")
        proof, cloud = router.score(prompts, MODELS).win_rates[:, 1]
        assert proof > cloud + 0.02
        assert trial.ruling is not None
        assert trial.ruling.newest.ratings == 120  # the newest fifth
        assert 90 < trial.ruling.champion.ratings < 150  # of the older half, four tenths
        assert trial.ruling.champion.difference < 0  # it predicts them better than the prior


def test_a_run_leaves_its_record_and_is_made_once(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    lived(config, 300, weak_fails_at_proofs)
    assert retrained(config, 5000.0) is not None
    assert retrained(config, 5000.0) is None
    (run,) = in_store(config, lambda store: store.runs(retrain.JOB))
    assert (run.status, run.scheduled_for, run.attempt) == ("published", 5000.0, 1)
    assert run.record is not None
    data = run.record["data"]
    assert 30 < data["golden"] < 90  # of the older half, four tenths
    assert 110 < data["learned_from"] < 180  # of the older four fifths, six tenths
    assert data["held_out"] == 60
    assert run.record["rate"]["run"] == 1
    assert run.record["rate"]["passed_on"] == run.record["rate"]["level"] == pytest.approx(0.05 / 2.6123753486854883)
    assert set(run.record["routers"]) == {"mf", "sw"}
    assert 0 < run.record["routers"]["mf"]["thresholds"]["p30"] < 1


def test_ratings_of_a_model_that_is_not_on_the_ladder_are_counted_and_left_out(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    lived(config, 300, weak_fails_at_proofs, strangers=40)
    trials = retrained(config)
    assert trials is not None
    assert [trial.published for trial in trials] == [True, True]
    (run,) = in_store(config, lambda store: store.runs(retrain.JOB))
    assert run.record is not None
    data = run.record["data"]
    left_out = data["dropped"]["of a model that is not on the ladder"]
    assert 15 < left_out < 40  # what is not golden of them
    assert 110 < data["learned_from"] + left_out < 180


def test_what_is_published_leaves_a_share_to_the_version_before(tmp_path: Path) -> None:
    config = configuration(tmp_path, rollback=Rollback(holdback=0.05, days=2), routers={"mf": RouterConfig()})
    lived(config, 300, weak_fails_at_proofs)
    retrained(config)
    active = in_store(config, lambda store: store.active("mf"))
    assert active is not None
    assert (active.holdback, active.holdback_since) == (0.05, 1)
    assert active.holdback_until == active.changed_at + 2 * 24 * 3600


def test_a_version_that_somebody_activates_during_a_run_stays(tmp_path: Path) -> None:
    config = configuration(tmp_path, routers={"mf": RouterConfig()})
    lived(config, 300, weak_fails_at_proofs)

    async def work(store: Store) -> list[Trial] | None:
        encoder = hosting.load_encoder(config)
        plan, subjects = hosting.plan(config, encoder), await hosting.subjects(config, encoder, store)
        await store.activate("mf", "by hand", "somewhere", [], "ann")
        return await retrain.run(store, plan, subjects, 1000.0, "test")

    trials = in_store(config, work)
    assert trials is not None
    assert [trial.published for trial in trials] == [False]
    assert "refused, another version was activated while the run was at work" in trials[0].verdict
    assert [one.version for one in in_store(config, lambda store: store.activations("mf"))] == ["by hand"]


def test_version_and_calibration_are_there_together(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    lived(config, 300, weak_fails_at_proofs)
    retrained(config)
    active = in_store(config, lambda store: store.active("mf"))
    assert active is not None
    stored = in_store(config, lambda store: store.calibration("mf", active.version, MODELS))
    assert stored is not None
    assert stored.sample == "logged traffic"
    assert len(stored.lowest) == 4 * 300


def test_what_the_newest_ratings_contradict_is_refused_and_leaves_the_champion(tmp_path: Path) -> None:
    """The old ratings say that both always fail, the newest that both never do: learning from the old ones harms."""
    config = configuration(tmp_path)
    seen = iter(range(10_000))
    lived(config, 600, lambda text, model: 0.02 if next(seen) < 480 else 0.98)
    trials = retrained(config)
    assert trials is not None
    assert [trial.published for trial in trials] == [False, False]
    assert trials[0].verdict.startswith(f"mf {trials[0].challenger} refused, worse on the newest ratings; loss ")
    assert in_store(config, lambda store: store.active("mf")) is None
    assert not (tmp_path / "artifacts" / "mf").exists()


def test_a_night_with_nothing_new_is_skipped_and_spends_nothing(tmp_path: Path) -> None:
    config = configuration(tmp_path, routers={"mf": RouterConfig()})
    lived(config, 300, weak_fails_at_proofs)
    first = retrained(config, 1000.0)
    assert first is not None
    assert retrained(config, 2000.0) == []
    lived(config, 1, weak_fails_at_proofs, seed=1)
    again = retrained(config, 3000.0)
    assert again is not None
    third, second, _ = in_store(config, lambda store: store.runs(retrain.JOB))
    assert (second.status, second.verdict) == ("skipped", "nothing was said since the last run")
    assert third.record is not None
    assert third.record["rate"]["run"] == 2
    installed = {one.manifest.version for one in versions.installed(hosting.open_shelf(config), "mf")}
    assert installed == {trial.challenger for trial in (*first, *again) if trial.published}


def test_other_settings_are_reason_enough_to_look_again(tmp_path: Path) -> None:
    config = configuration(tmp_path, routers={"mf": RouterConfig()})
    lived(config, 150, weak_fails_at_proofs)
    retrained(config, 1000.0)
    again = retrained(msgspec.structs.replace(config, retrain=Retrain(golden=GOLDEN, effect=0.02)), 2000.0)
    assert again is not None
    assert [(trial.tested, trial.objection) for trial in again] == [(False, "it is what serves, to the last bit")]


def test_a_night_is_refused_for_what_was_said_with_the_reason_on_record(tmp_path: Path) -> None:
    config = configuration(tmp_path, routers={"mf": RouterConfig()})
    lived(config, 100, lambda text, model: 1.0)
    assert retrained(config) == []
    (run,) = in_store(config, lambda store: store.runs(retrain.JOB))
    assert run.status == "refused"
    assert re.fullmatch(r"one class only: all \d+ ratings to learn from say the same", run.verdict or "")
    assert run.record is not None
    assert "rate" not in run.record
    assert in_store(config, lambda store: store.active("mf")) is None


def test_too_few_ratings_publish_nothing(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    trials = retrained(config)
    assert trials is not None
    assert trials[0].verdict.endswith("refused, too little to tell by: 0 golden sessions, 30 are needed")
    (run,) = in_store(config, lambda store: store.runs(retrain.JOB))
    assert run.status == "refused"
    assert run.record is not None
    assert "rate" not in run.record  # nothing was tested, so nothing is spent
