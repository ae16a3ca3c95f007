from __future__ import annotations

import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_plugin import ids


def test_an_id_is_a_canonical_uuid_of_version_7_and_the_rfc_variant() -> None:
    minted = ids.mint()
    parsed = uuid.UUID(minted)
    assert str(parsed) == minted
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)


def test_an_id_carries_the_millisecond_it_was_minted_in() -> None:
    before = time.time_ns() // 1_000_000
    minted = ids.mint()
    after = time.time_ns() // 1_000_000
    assert before <= round(ids.minted_at(minted) * 1000) <= after


def test_minted_at_agrees_with_the_rfcs_example() -> None:
    # RFC 9562, appendix A.6: 2022-02-22T19:22:22.000Z
    assert ids.minted_at("017f22e2-79b0-7cc3-98c4-dc0c0c07398f") == 1645557742.0


def test_ids_do_not_repeat_and_use_every_random_bit() -> None:
    minted = [uuid.UUID(ids.mint()).int for _ in range(10_000)]
    assert len(set(minted)) == 10_000
    varied = 0
    for number in minted:
        varied |= number ^ minted[0]
    fixed = (0xF << 76) | (0b11 << 62)
    assert varied & ((1 << 80) - 1) == ((1 << 80) - 1) & ~fixed


def test_later_milliseconds_sort_later() -> None:
    first = ids.mint()
    time.sleep(0.002)
    assert first < ids.mint()


@pytest.mark.parametrize(
    "text",
    [
        str(uuid.UUID(int=0x017F22E279B04CC398C4DC0C0C07398F)),  # version 4
        "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
        "017f22e279b07cc398c4dc0c0c07398f",
        "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
        "",
    ],
)
def test_other_ids_and_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        ids.minted_at(text)


@given(st.text(max_size=60))
def test_minted_at_raises_only_value_error(text: str) -> None:
    try:
        ids.minted_at(text)
    except ValueError:
        return
    assert uuid.UUID(text).version == 7
