"""Counts and numbers in sentences."""

import pytest

from glidexp.wording import decimals, does, many, part, percent


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


def test_a_share_that_is_not_all_is_not_called_all() -> None:
    assert [percent(level) for level in (0.9, 1 - 0.05, 0.975, 0.995, 0.999)] == [
        "90%",
        "95%",
        "97.5%",
        "99.5%",
        "99.9%",
    ]
    assert [part(share) for share in (0.0, 0.0005, 0.994, 0.9995, 1.0)] == ["0%", "<1%", "99%", ">99%", "100%"]


@pytest.mark.parametrize(
    ("numbers", "digits"),
    [
        ((0.6, 0.03, 1.2), 2),  # [0.0, 1.2] would seem to touch 0
        ((0.6, -0.004, 1.2), 3),
        ((0.6, 0.0, 1.2), 1),
        ((0.6, -1e-17, float("nan")), 1),  # rounding is no number
        ((0.00003, 0.00007), 4),
        ((12.0,), 1),
    ],
)
def test_the_end_of_an_interval_is_written_as_0_where_it_is(numbers: tuple[float, ...], digits: int) -> None:
    assert decimals(*numbers, least=1) == digits
