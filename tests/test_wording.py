"""Counts in sentences."""

import pytest

from glidexp.wording import does, many


@pytest.mark.parametrize(
    ("noun", "one", "three"),
    [
        ("lake", "1 lake", "3 lakes"),
        ("entry", "1 entry", "3 entries"),
        ("key", "1 key", "3 keys"),
        ("copy", "1 copy", "3 copies"),
        ("process", "1 process", "3 processes"),
        ("source scene", "1 source scene", "3 source scenes"),
    ],
)
def test_one_is_no_plural(noun: str, one: str, three: str) -> None:
    assert (many(1, noun), many(3, noun)) == (one, three)
    assert many(0, noun) == three.replace("3", "0")


def test_a_verb_goes_with_its_count() -> None:
    assert [does(1, verb) for verb in ("are", "were", "have", "lie")] == ["is", "was", "has", "lies"]
    assert [does(n, "have") for n in (0, 2)] == ["have", "have"]
