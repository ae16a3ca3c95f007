from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from feedback.journal import Journal
from feedback.verdicts import share
from scorer import battles
from scorer.cli import cli
from scorer.tables import DataError
from tests.conftest import Serve
from tests.feedback.judging import CHEAP, JUDGE, PRICES, STRONG, Endpoint

Augment = Callable[..., Result]


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def arguments(endpoint: Endpoint, serve: Serve, tmp_path: Path) -> list[str]:
    """Of a run on 20 prompts."""
    _prompts(tmp_path / "prompts.jsonl", 20)
    prices = [
        {"model_api_name": model, "input_token_price": price[0], "output_token_price": price[1]}
        for model, price in PRICES.items()
    ]
    (tmp_path / "prices.json").write_text(json.dumps(prices))
    chosen = {
        "--prompts": tmp_path / "prompts.jsonl",
        "--models": f"{CHEAP},{STRONG}",
        "--judge": JUDGE,
        "--url": f"{serve(endpoint.app)}/v1",
        "--out": tmp_path / "battles.jsonl",
        "--prices": tmp_path / "prices.json",
    }
    return ["augment", *(str(word) for pair in chosen.items() for word in pair)]


@pytest.fixture
def augment(arguments: list[str]) -> Augment:
    def run(*more: str, answer: str | None = None) -> Result:
        words = more if answer else (*more, "--yes")
        return CliRunner().invoke(cli, [*arguments, *words], input=answer)

    return run


def _prompts(path: Path, count: int) -> None:
    path.write_text("".join(json.dumps({"prompt": f"question {number}"}) + "\n" for number in range(count)))


def _said(result: Result) -> str:
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 2
    return result.output.strip().splitlines()[-1]


def test_answers_and_verdicts_become_battles(augment: Augment, endpoint: Endpoint, tmp_path: Path) -> None:
    done = augment()
    assert done.exit_code == 0, done.output
    assert endpoint.asked == {CHEAP: 20, STRONG: 20, JUDGE: 40}
    made = battles.read([tmp_path / "battles.jsonl"])
    assert len(made) == len(made.prompts) == 20
    assert set(made.source) == {"judge"}
    for row, prompt in enumerate(made.prompts):
        question = [{"role": "user", "content": prompt}]
        better = endpoint.answer(CHEAP, question) > endpoint.answer(STRONG, question)
        assert (made.model_a[row], made.model_b[row], made.outcome[row]) == (CHEAP, STRONG, float(better))
    assert "20 prompts, 2 models: 80 calls, about $" in done.output
    assert "the judge agrees with itself on 100.0% (83.9%, 100.0%); 0.0% ties" in done.output


def test_a_position_bias_shows_as_ties(augment: Augment, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.bias = 0.4
    _prompts(tmp_path / "prompts.jsonl", 150)
    done = augment("--concurrency", "4")
    outcome = battles.read([tmp_path / "battles.jsonl"]).outcome
    ties = int((outcome == 0.5).sum())
    found = share(ties, 150)
    assert found.low <= 0.4 <= found.high
    assert f"the judge agrees with itself on {1 - ties / 150:.1%}" in done.output


def test_every_two_of_more_models_are_compared(augment: Augment, endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text("[]")
    done = augment("--models", "a,b,c", "--prices", str(tmp_path / "prices.json"))
    assert "no price of 'a'" in _said(done)
    rows = [{"model_api_name": m, "input_token_price": 1, "output_token_price": 1} for m in ("a", "b", "c", JUDGE)]
    (tmp_path / "prices.json").write_text(json.dumps(rows))
    assert augment("--models", "a,b,c").exit_code == 0
    assert endpoint.asked == {"a": 20, "b": 20, "c": 20, JUDGE: 120}
    assert len(battles.read([tmp_path / "battles.jsonl"])) == 60


def test_a_second_run_pays_nothing_and_more_prompts_pay_for_themselves(
    augment: Augment, endpoint: Endpoint, tmp_path: Path
) -> None:
    augment()
    first = (tmp_path / "battles.jsonl").read_bytes()
    again = augment()
    assert sum(endpoint.asked.values()) == 80
    assert "0 calls (80 more are made already), about $0.00, at most $0.00" in again.output
    assert (tmp_path / "battles.jsonl").read_bytes() == first
    _prompts(tmp_path / "prompts.jsonl", 21)
    assert "4 calls (80 more" in augment().output
    assert sum(endpoint.asked.values()) == 84


def test_killed_in_the_middle_it_goes_on_without_paying_twice(
    arguments: list[str], endpoint: Endpoint, tmp_path: Path
) -> None:
    together, kills = 3, 2
    endpoint.seconds = 0.02
    command = [sys.executable, "-m", "scorer", *arguments, "--yes", "--concurrency", str(together)]
    journal = tmp_path / "battles.jsonl.calls.jsonl"
    for kill in range(1, kills + 1):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not journal.exists() or journal.read_bytes().count(b"\n") < 25 * kill:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "battles.jsonl").exists()
        with journal.open("ab") as file:
            file.write(b'{"key": "torn')  # as if killed in the middle of a write
    end = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "20 battles on 20 prompts" in end.stdout
    bodies = Counter(json.dumps(body, sort_keys=True) for body in endpoint.bodies)
    assert len(bodies) == 80
    assert sum(bodies.values()) - 80 <= kills * together, "only what was under way when it was killed"
    assert journal.read_bytes().count(b"\n") == 80


def test_the_estimate_is_what_it_costs_where_answers_are_usual(augment: Augment, endpoint: Endpoint) -> None:
    """By hand: 20 prompts of some 11 characters at 4 a token, answers of 264 tokens, verdicts of 60."""
    output = augment("--answer-tokens", "264").output
    about = float(output.split("about $")[1].split(",")[0])
    answers = 20 * (264 * (PRICES[CHEAP][1] + PRICES[STRONG][1]) + 2.75 * (PRICES[CHEAP][0] + PRICES[STRONG][0])) / 1e6
    rubric = 1100 / 4  # tokens of the judge's instructions, roughly
    verdicts = 40 * ((rubric + 2 * 264) * PRICES[JUDGE][0] + 60 * PRICES[JUDGE][1]) / 1e6
    assert about == pytest.approx(answers + verdicts, rel=0.25)
    spent = float(output.split("calls cost $")[1])
    used = 20 * sum((100 * PRICES[m][0] + 50 * PRICES[m][1]) / 1e6 for m in (CHEAP, STRONG, JUDGE, JUDGE))
    assert spent == pytest.approx(used, abs=0.006)
    assert spent <= float(output.split("at most $")[1].split()[0])


def test_it_asks_before_it_pays(augment: Augment, endpoint: Endpoint, tmp_path: Path) -> None:
    refused = augment(answer="n\n")
    assert refused.exit_code == 1
    assert not endpoint.asked
    assert augment(answer="y\n").exit_code == 0
    assert (tmp_path / "battles.jsonl").exists()


def test_a_passing_fault_is_tried_again_and_a_lasting_one_is_one_line(
    augment: Augment, endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feedback.augmentation._PAUSES_SECONDS", (0.01, 0.01))
    endpoint.failures = 2
    assert augment("--concurrency", "1").exit_code == 0
    _prompts(tmp_path / "prompts.jsonl", 25)
    endpoint.failures = 10**6
    said = _said(augment())
    assert "told to fail; what was answered so far is in" in said
    assert "run again to go on" in said
    endpoint.failures = 0
    assert augment().exit_code == 0


def test_what_is_refused_cut_short_or_unreadable_is_skipped_and_counted(augment: Augment, endpoint: Endpoint) -> None:
    endpoint.failures, endpoint.status = 1, 400
    done = augment("--concurrency", "1")
    assert "skipped: 1 (refused: " in done.output
    assert "told to fail" in done.output
    endpoint.verdict = "Both are nice."
    assert "no battles; skipped: 20 (the judge's answer does not end with" in _said(augment("--judge", STRONG))


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--models", "a", "two different models or more"),
        ("--models", "a,a", "two different models or more"),
        ("--models", "router-mf,b", "is a virtual model"),
        ("--judge", "router", "is a virtual model"),
        ("--out", "battles.csv", "suffix '.csv'"),
        ("--prompts", "missing.jsonl", "missing.jsonl"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_asked(
    augment: Augment, endpoint: Endpoint, option: str, value: str, said: str
) -> None:
    assert said in _said(augment(option, value))
    assert not endpoint.asked


def test_an_endpoint_that_is_away_is_one_line(augment: Augment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback.augmentation._PAUSES_SECONDS", ())
    assert "http://127.0.0.1:9: cannot be reached" in _said(augment("--url", "http://127.0.0.1:9"))


def test_the_key_is_sent_and_never_shown(augment: Augment, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback.augmentation._PAUSES_SECONDS", ())
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    endpoint.failures, endpoint.status, endpoint.fault = 10**6, 401, "no such key: sk-secret"
    said = _said(augment())
    assert "no such key: ***" in said
    assert endpoint.keys == {"Bearer sk-secret"}


def test_a_journal_is_for_one_run_at_a_time_and_for_no_other_file(tmp_path: Path) -> None:
    first = Journal(tmp_path / "calls.jsonl")
    with pytest.raises(DataError, match="another run is writing to it"):
        Journal(tmp_path / "calls.jsonl")
    first.close()
    (tmp_path / "calls.jsonl").write_text('{"prompt": "hello"}\n')
    with pytest.raises(DataError, match=r"line 1: .*not a journal"):
        Journal(tmp_path / "calls.jsonl")
