"""Printed scores held against what they can be: by hand, and by brute force against counts that really exist."""

import numpy as np
import pytest

from glidexp import cli
from glidexp.errors import ConfigError
from glidexp.scoring import confusion
from glidexp.scoring.audit import Reading, audit, lake_share_needed, read_printed

GLID = {"p": "95.36", "r": "87.50", "f1": "91.66", "miou": "82.07"}
POOLED, TWO_CLASS = "pooled over pixels, mIoU is lake IoU", "pooled over pixels, mIoU over lake and background"
MEANS = "means over images or scenes, mIoU is lake IoU"
MEANS_TWO_CLASS = "means over images or scenes, mIoU over lake and background"
CLASSES, ACCURACY = "means over the classes lake and background", "pixels of both classes pooled (accuracy)"


def named(readings: list[Reading]) -> dict[str, Reading]:
    return {reading.name: reading for reading in readings}


def missed(reading: Reading) -> dict[str, float]:
    """In points of per cent, as printed."""
    return {check.what: round(100 * check.misses_by, 2) for check in reading.checks}


def test_the_published_four_by_hand() -> None:
    readings = named(audit(GLID))
    assert not any(reading.possible for reading in readings.values())
    # 2 x 95.36 x 87.50 / 182.86 = 91.26; 91.26 / (200 - 91.26) = 83.93; 91.66 / 108.34 = 84.60
    assert missed(readings[POOLED]) == {"F1 from P and R": 0.40, "mIoU from P and R": -1.86, "mIoU from F1": -2.53}
    # means: F1 is at most 91.26, IoU at least 95.36 + 87.50 - 100 = 82.86 and at least 84.60
    assert missed(readings[MEANS]) == {"F1 from P and R": 0.40, "mIoU from P and R": -0.79, "mIoU from F1": -2.53}
    # F1 91.66 over two classes: one perfect, the other 83.32, whose IoU is 71.41: mean 85.70 at most
    check = {check.what: check for check in readings[CLASSES].checks}["mIoU from F1"]
    assert (check.implied.low, check.implied.high) == pytest.approx((0.8460, 0.8570), abs=5e-5)
    assert missed(readings[ACCURACY])["R from P"] == -7.86


def test_the_lake_share_that_a_two_class_mean_needs() -> None:
    # tp 80, fp 20, fn 20 of 1000 pixels: background IoU 880 / 920
    assert lake_share_needed(0.8, 0.8, (80 / 120 + 880 / 920) / 2) == pytest.approx(0.1)
    assert lake_share_needed(0.8, 0.8, 0.9) is None  # 2 x 0.9 - 0.667 is more than a background can have
    assert lake_share_needed(1.0, 1.0, 1.0) is None and lake_share_needed(0.0, 0.5, 0.4) is None
    shares = {check.what: check.lake_share for check in named(audit(GLID))[TWO_CLASS].checks}
    assert shares["mIoU from P and R"] == pytest.approx(0.581, abs=5e-4)
    assert shares["mIoU from P and R exchanged"] == pytest.approx(0.533, abs=5e-4)
    # published beside its counts: TP 13,109,933 FP 602,409 FN 1,080,860 TN 605,701,646, lake share 2.29 per cent
    full = {"p": "95.61", "r": "92.38", "f1": "93.97", "iou": "88.62", "miou": "94.17"}
    reading = named(audit(full))[TWO_CLASS]
    assert reading.possible and not named(audit(full))[POOLED].possible
    exact = lake_share_needed(13109933 / 13712342, 13109933 / 14190793, (0.886219 + 0.997228) / 2)
    assert exact == pytest.approx(14190793 / 620494848, rel=2e-3)


def test_rounding_is_taken_into_account() -> None:
    # 0.9 may be 0.85 to 0.95, so IoU 0.74 to 0.90; with one digit more it may not
    assert named(audit({"f1": "0.9", "iou": "0.76"}))["pooled over pixels"].possible
    assert not named(audit({"f1": "0.90", "iou": "0.76"}))["pooled over pixels"].possible
    found = read_printed({"p": "95.4", "r": "100"})
    assert (found["p"].range.low, found["p"].range.high) == pytest.approx((0.9535, 0.9545))
    assert (found["r"].range.low, found["r"].range.high) == pytest.approx((0.995, 1.0))
    assert named(audit({"p": "0.9", "f1": "0.96"}))["pooled over pixels"].possible  # 2P / (1 + P) is at most 0.974
    assert not named(audit({"p": "0.9", "f1": "0.98"}))["pooled over pixels"].possible


def test_per_cent_and_shares_say_the_same() -> None:
    shares = {"p": "0.9536", "r": "0.8750", "f1": "0.9166", "miou": "0.8207"}
    signed = {name: f"{value} %" for name, value in GLID.items()}
    assert audit(shares) == audit(signed) == audit(GLID)


def tiles(rng: np.random.Generator) -> np.ndarray:
    """(n, 4) counts of tiles, among them empty ones, misses and false alarms."""
    n = int(rng.integers(1, 12))
    counts = np.stack([rng.integers(0, 40, n), rng.integers(0, 15, n), rng.integers(0, 25, n), np.full(n, 1)], axis=1)
    counts *= rng.random((n, 4)) > 0.2
    counts[:, 3] = rng.integers(1, 200, n)
    return counts.astype(np.int64)


def means(counts: np.ndarray) -> dict[str, float]:
    return {name: confusion.mean_of_defined(score(counts)) for name, score in confusion.SCORES.items()}


def printed(rng: np.random.Generator, values: dict[str, float]) -> dict[str, str]:
    """Some of them, in some order, with some number of digits, per cent or not."""
    digits, per_cent = int(rng.integers(1, 5)), rng.random() < 0.5
    names = [name for name in rng.permutation(list(values)) if rng.random() < 0.8]
    names = names if len(names) > 1 else list(values)
    return {n: f"{100 * values[n]:.{digits - 1}f}%" if per_cent else f"{values[n]:.{digits}f}" for n in names}


def test_what_really_is_an_aggregation_is_never_called_impossible() -> None:
    rng = np.random.default_rng(0)
    held = dict.fromkeys((POOLED, TWO_CLASS, MEANS, MEANS_TWO_CLASS, CLASSES, ACCURACY), 0)
    for _ in range(1200):
        counts = tiles(rng)
        total = counts.sum(axis=0)
        lake = confusion.pooled_scores(counts)
        ground = confusion.pooled_scores(total[[3, 2, 1, 0]])  # the same with background as the positive class
        drawn = counts[counts[:, :3].any(axis=1)]
        image = means(counts)
        both = {"p": "precision", "r": "recall", "f1": "f1"}
        one = {short: lake[name] for short, name in both.items()} | {"iou": lake["lake_iou"]}
        per = {short: image[name] for short, name in both.items()} | {"iou": image["lake_iou"]}
        accuracy = (total[0] + total[3]) / total.sum()
        cases = {
            POOLED: one | {"miou": lake["lake_iou"]},
            TWO_CLASS: one | {"miou": lake["miou_two_class"]},
            MEANS: per | {"miou": image["lake_iou"]},
            MEANS_TWO_CLASS: per | {"miou": means(drawn)["miou_two_class"] if len(drawn) else np.nan},
            CLASSES: {s: (lake[name] + ground[name]) / 2 for s, name in both.items()}
            | {"iou": lake["lake_iou"], "miou": lake["miou_two_class"]},
            ACCURACY: {"p": accuracy, "r": accuracy, "f1": accuracy, "miou": accuracy / (2 - accuracy)},
        }
        for name, values in cases.items():
            if not np.isfinite(list(values.values())).all():
                continue
            given = printed(rng, values)
            readings = named(audit(given))
            name = name if "miou" in given else name.split(", mIoU")[0]
            if name in readings:
                assert readings[name].possible, (name, given)
                held[name if name in held else name + ", mIoU is lake IoU"] += 1
    assert min(held.values()) > 450


def test_other_aggregations_are_told_apart() -> None:
    """The audit is of use: means over tiles passed off as pooled scores are found out."""
    rng = np.random.default_rng(1)
    found = tried = 0
    while tried < 200:
        counts = tiles(rng)
        image = means(counts)
        if len(counts) < 5 or not np.isfinite(list(image.values())).all():
            continue
        tried += 1
        values = {"p": image["precision"], "r": image["recall"], "f1": image["f1"], "iou": image["lake_iou"]}
        given = {name: f"{value:.4f}" for name, value in values.items()}
        found += not named(audit(given))["pooled over pixels"].possible
    assert found > 190


def test_bounds_of_means_are_reached() -> None:
    # every image alike: the upper bound of F1 and the lower one of IoU; perfect or empty images: the other ends
    alike = named(audit({"p": "0.8000", "r": "0.8000", "f1": "0.8000", "iou": "0.6667"}))
    assert alike["means over images or scenes"].possible
    ends = named(audit({"p": "0.8000", "r": "0.8000", "f1": "0.8000", "iou": "0.8000"}))
    assert ends["means over images or scenes"].possible and not ends["pooled over pixels"].possible
    least = named(audit({"p": "0.8000", "r": "0.7000", "f1": "0.5000", "iou": "0.5000"}))
    assert least["means over images or scenes"].possible
    below = named(audit({"p": "0.8000", "r": "0.7000", "f1": "0.4990"}))
    assert not below["means over images or scenes"].possible


def test_scores_of_zero_and_one() -> None:
    for value in ("0.0", "1.0"):
        given = dict.fromkeys(("p", "r", "f1", "iou", "miou"), value)
        assert named(audit(given))[POOLED].possible and named(audit(given))[MEANS].possible


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({}, "two or more"),
        ({"p": "95.36"}, "two or more"),
        ({"p": "95.36", "r": "high"}, "--r high is not a score"),
        ({"p": "95.36", "r": "-3"}, "--r -3 is not a score"),
        ({"p": "nan", "r": "95.36"}, "--p nan is not a score"),
        ({"p": "0.9536", "r": "87.50"}, "all in per cent or all as 0-1"),
        ({"p": "101", "r": "87.50"}, "above 100"),
        ({"p": "95.36", "acc": "87.50"}, "score='acc'"),
    ],
)
def test_what_is_no_score_is_told_in_one_line(given: dict[str, str], part: str) -> None:
    with pytest.raises(ConfigError, match=r"\S") as told:
        audit(given)
    assert part in str(told.value) and "\n" not in str(told.value)


def test_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["audit", "--p", "95.36", "--r", "87.50", "--f1", "91.66", "--miou", "82.07"])
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "+0.40" in out and "-1.86" in out and "at 58 % lake" in out
    assert max(len(line) for line in out.splitlines()) <= 80
    for wrong in (["--p", "3"], ["--q", "3"], ["--p"], ["--p", "x", "--r", "3"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(["audit", *wrong])
        told = capsys.readouterr()
        assert ended.value.code == 2 and not told.out
        assert told.err.startswith("glidexp") and told.err.count("\n") == 1
