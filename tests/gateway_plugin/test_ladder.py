from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import pytest

from gateway_plugin.client import Unavailable
from gateway_plugin.ladder import Ladder, Learned


class Source:
    """Answers in turn; an exception is raised."""

    def __init__(self, *answers: Mapping[str, object] | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, deadline: float) -> Mapping[str, object]:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _answer(*models: str, mode: str = "route", protocol: object = 1) -> dict[str, object]:
    return {"protocol": protocol, "mode": mode, "ladder": [{"model": model, "like": None} for model in models]}


async def test_it_is_asked_for_once_and_remembered() -> None:
    source = Source(_answer("strong", "weak"))
    learned = Learned(source)
    for _ in range(100):
        assert await learned.get(0) == Ladder(("strong", "weak"), observing=False)
    assert source.asked == 1


async def test_a_model_has_tags_or_has_it_not() -> None:
    tagged = {"model": "strong", "like": None, "tags": {"region": "eu", "tier": "gold"}}
    answer = {"protocol": 1, "ladder": [tagged, {"model": "weak", "like": None}]}
    ladder = await Learned(Source(answer)).get(0)
    assert ladder.has("strong", {"region": "eu"})
    assert ladder.has("weak", {})
    assert not ladder.has("strong", {"region": "eu", "tier": "silver"})
    assert not ladder.has("weak", {"region": "eu"})


async def test_while_it_was_never_learned_every_get_asks() -> None:
    source = Source(Unavailable("unreachable"), _answer("strong"))
    learned = Learned(source)
    with pytest.raises(Unavailable):
        await learned.get(0)
    assert not learned.observing
    assert (await learned.get(0)).models == ("strong",)


async def test_after_expire_it_is_learned_in_the_background() -> None:
    source = Source(_answer("strong", "weak"), _answer("stronger", "weak", mode="observe"))
    learned = Learned(source)
    await learned.get(0)
    learned.expire()
    assert (await learned.get(0)).models == ("strong", "weak")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await learned.get(0) == Ladder(("stronger", "weak"), observing=True)
    assert learned.observing
    assert source.asked == 2


async def test_a_refresh_that_fails_keeps_what_is_known() -> None:
    source = Source(_answer("strong"), Unavailable("timeout"))
    learned = Learned(source)
    await learned.get(0)
    learned.expire()
    for _ in range(10):
        assert (await learned.get(0)).models == ("strong",)
        await asyncio.sleep(0)
    assert source.asked == 2


@pytest.mark.parametrize(
    "answer",
    [{}, {"ladder": "strong"}, {"ladder": []}, {"ladder": [{"model": ""}]}, {"ladder": ["strong"]}, {"ladder": [{}]}],
)
async def test_a_ladder_of_another_shape_is_a_bad_answer(answer: dict[str, object]) -> None:
    with pytest.raises(Unavailable, match="bad answer"):
        await Learned(Source(answer | {"protocol": 1})).get(0)


async def test_a_skew_of_protocols_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    learned = Learned(Source(*[_answer("strong", protocol=2)] * 3))
    for _ in range(3):
        await learned.get(0)
        learned.expire()
        await asyncio.sleep(0.01)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["routerd: the daemon speaks protocol 2, this plugin 1"]
