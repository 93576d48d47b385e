"""What a plan is made of, part by part: budget, ground, power, cost and data, worked out by hand."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from runs import small_config

from glidexp.config import Compile, Config, DatasetKind, Precision, SplitBy, TrainConfig
from glidexp.config.launcher import LauncherConfig, LauncherKind
from glidexp.config.study import AssumeConfig, BudgetBatch, BudgetConfig, BudgetKind, StudyConfig
from glidexp.data.prepare import prepare
from glidexp.errors import ConfigError
from glidexp.study.execution.cells import Cell, Plan
from glidexp.study.execution.ledger import study_id
from glidexp.study.names import short_names
from glidexp.study.plan import cost as plan_cost
from glidexp.study.plan import ground as plan_ground
from glidexp.study.plan import hours as plan_hours
from glidexp.study.plan import power as plan_power
from glidexp.study.plan import show as plan_show
from glidexp.study.plan.arms import Arm
from glidexp.study.plan.budget import Spent, by_seed, equal, spent, told
from glidexp.study.plan.check import Checked, keys, resolved_elsewhere
from glidexp.study.plan.cost import Speed
from glidexp.study.plan.data import Data, Sizes
from glidexp.study.plan.making import Outline, Planned
from glidexp.tracking.found import TrackedRun
from glidexp.tracking.history import Course, PastRun, course
from glidexp.training.parts import Parts, build_parts

TEN_EPOCHS = Config(train=TrainConfig(epochs=10))
SIZES = Sizes(train=100, val=30, test=60)


def changed(config: Config, **sections: dict[str, Any]) -> Config:
    return replace(config, **{name: replace(getattr(config, name), **new) for name, new in sections.items()})


def arm(name: str, config: Config | None = None, **sections: dict[str, Any]) -> Checked:
    return Checked(Arm(name, (f"x={name}",)), (f"x={name}",), changed(config or TEN_EPOCHS, **sections))


# ---- budget


def test_what_a_training_spends() -> None:
    config = changed(Config(), train={"epochs": 3, "batch_size": 8, "accumulate": 4}, tile_size={"px": 64})
    # 50 tiles: 6 full batches, of which 4 and 2 make a step
    assert spent(config, 50) == Spent(epochs=3, steps=6, pixels=3 * 48 * 64 * 64)


def test_as_many_steps_from_fewer_tiles() -> None:
    few = {"subset": {"fraction": 0.25}}
    arms = [arm("all"), arm("quarter", **few), arm("same")]
    counts = {1.0: 100, 0.25: 25}
    found = equal(arms, BudgetConfig(), lambda config: counts[config.subset.fraction])
    assert [one.config.train.epochs for one in found] == [10, 40, 10]  # 12 and 3 steps an epoch
    assert found[1].words == ("x=quarter", "train.epochs=40") and found[2] is arms[2]
    sums = [spent(one.config, counts[one.config.subset.fraction]) for one in found]
    assert told(BudgetConfig(), [sums]) == "Budget: 120 optimizer steps in every arm exactly."
    odd = [sums[0], replace(sums[1], steps=123)]
    assert told(BudgetConfig(), [odd]) == (
        "Budget: 120 optimizer steps in every arm, by whole epochs: at most 2.5 % off."
    )


def test_where_a_seed_draws_its_own_scenes_its_epochs_are_its_own() -> None:
    def counts(config: Config) -> int:
        return 80 if config.subset.scenes is None else {0: 40, 7: 16}[config.seed]

    def each(*arms: Checked) -> list[list[Checked]]:
        return by_seed(arms, [0, 7], lambda own: equal(own, BudgetConfig(), counts))

    arms = [arm("all"), arm("one", subset={"scenes": 1})]
    found = each(*arms)
    assert [[one.config.train.epochs for one in own] for own in found] == [[10, 20], [10, 50]]
    assert found[1][1].words == ("x=one", "train.epochs=50") and found[1][1].config.seed == 7
    sums = [[spent(one.config, counts(one.config)) for one in own] for own in found]
    assert told(BudgetConfig(), sums) == "Budget: 100 optimizer steps in every arm exactly."
    off = [sums[0], [sums[1][0], replace(sums[1][1], steps=40)]]
    assert "at most 60.0 % off" in told(BudgetConfig(), off), "as much as with one epoch number for all seeds"
    both = each(arm("a", subset={"scenes": 1}), arm("b", subset={"scenes": 1}, loss={"bce": 1.0}))
    assert both[0][1].words == both[1][1].words == ("x=b",), "arms of a seed see the same tiles"
    sums = [[spent(one.config, counts(one.config)) for one in own] for own in both]
    assert told(BudgetConfig(), sums) == "Budget: 20 to 50 optimizer steps, by seed, in every arm exactly."
    same = each(arm("all"), arm("one", subset={"scenes": 1, "seed": 0}))
    assert same[0] is same[1], "all seeds see the same scenes"
    with pytest.raises(ConfigError, match=r"^one: train\.batch_size=32 .* its 16 training tiles with seed 7: lower it"):
        each(arm("all"), arm("one", subset={"scenes": 1}, train={"batch_size": 32}))


def test_as_many_pixels_a_batch() -> None:
    cfg = BudgetConfig(kind=BudgetKind.pixels, batch=BudgetBatch.pixels)
    arms = [arm("256"), arm("128", tile_size={"px": 128}), arm("512", tile_size={"px": 512})]
    counts = {256: 80, 128: 400, 512: 16}  # at 128 px less ground without a lake is left out
    found = equal(arms, cfg, lambda config: counts[config.tile_size.px])
    assert [one.config.train.batch_size for one in found] == [8, 32, 2]
    # 80 x 256^2 pixels an epoch, ten times; 384 x 128^2 in an epoch: 8.3 of them; 16 x 512^2: 12.5
    assert [one.config.train.epochs for one in found] == [10, 8, 12]
    assert found[1].words[1:] == ("train.batch_size=32", "train.epochs=8")
    sums = [spent(one.config, counts[one.config.tile_size.px]) for one in found]
    assert "at most 4.0 % off. Batches hold as many pixels" in told(cfg, [sums])
    with pytest.raises(ConfigError, match=r"^1024: tiles of 1024 px .* would be a batch of 0\.5"):
        equal([*arms, arm("1024", tile_size={"px": 1024})], cfg, lambda _: 100)


def test_a_budget_that_cannot_be_equal() -> None:
    with pytest.raises(ConfigError, match=r"train\.epochs varies \(10 and 3\)"):
        equal([arm("a"), arm("b", train={"epochs": 3})], BudgetConfig(), lambda _: 100)
    as_they_say = BudgetConfig(kind=BudgetKind.epochs)
    assert len(equal([arm("a"), arm("b", train={"epochs": 3})], as_they_say, lambda _: pytest.fail("asked"))) == 2
    with pytest.raises(ConfigError, match=r"^b: train\.batch_size=64 is more than its 40 training tiles"):
        equal([arm("a"), arm("b", train={"batch_size": 64})], BudgetConfig(), lambda _: 40)


# ---- ground


def test_what_only_the_network_sees_leaves_the_ground_alone() -> None:
    base = Config()
    low = replace(base.dataset, stretch=replace(base.dataset.stretch, low=0.5), overlap_px=16)
    arms = [arm("a"), arm("b", replace(base, dataset=low)), arm("c", loss={"bce": 1.0})]
    assert plan_ground.grounds(arms) == [None, None, None]
    assert plan_ground.told(arms, [None] * 3) == "Ground: the test set is the same in every arm."


def test_other_labels_are_scored_on_the_baselines() -> None:
    here = changed(Config(), dataset={"buffer_m": 10000.0}, paths={"mlruns": "elsewhere/runs"})
    arms = [arm("a", here), arm("b", here, dataset={"buffer_m": 5000.0, "min_lake_px": 9})]
    least = here.dataset.min_lake_px
    words = (
        "dataset.buffer_m=10000.0",
        f"dataset.min_lake_px={least}",
        "eval.split=test",
        "paths.mlruns=elsewhere/runs",
    )
    assert plan_ground.grounds(arms) == [None, words]
    assert "1 of 2 arms have another of their own; they are scored on both." in plan_ground.told(arms, [None, words])
    other = replace(here.dataset.split, test=0.33)
    with pytest.raises(ConfigError, match=r"^b has another dataset\.split\.test \(0\.33\) than the baseline"):
        plan_ground.grounds([arms[0], arm("b", here, dataset={"split": other})])


def test_tiles_of_another_size_meet_all_pixels_of_the_test_scenes() -> None:
    arms = [arm("256"), arm("128", tile_size={"px": 128})]
    words = ("dataset.empty_share=1000000", "eval.split=test")
    assert plan_ground.grounds(arms) == [words, words]
    assert plan_ground.told(arms, [words, words]).endswith("each at its own tile size.")


@pytest.mark.parametrize(("kind", "why"), [("block", "a split by block"), ("store", "a ready store")])
def test_where_tiles_cannot_be_cut_anew_the_plan_says_at_which_size_arms_are_scored(kind: str, why: str) -> None:
    base = Config()
    split = replace(base.dataset.split, by=SplitBy.block)
    data = {"split": split} if kind == "block" else {"kind": DatasetKind.store, "root": "somewhere"}
    arms = [arm("256", dataset=data), arm("128", dataset=data, tile_size={"px": 128})]
    found = plan_ground.grounds(arms)
    assert found == [None, ("tile_size.px=256", "eval.split=test")]
    said = plan_ground.told(arms, found)
    assert f"scored on the baseline's 256 px tiles, not at the size they were trained on: {why}" in said


# ---- power


def test_mean_squares_of_a_design_are_those_that_draws_give() -> None:
    spread = plan_power.Spread(seed=0.03, cluster=0.05, rest=0.02, source="known")
    random, seeds, clusters = np.random.default_rng(5), 4, 9
    draws = (
        0.03 * random.normal(size=(20_000, seeds, 1))
        + 0.05 * random.normal(size=(20_000, 1, clusters))
        + 0.02 * random.normal(size=(20_000, seeds, clusters))
    )
    by_seed, by_cluster = draws.mean(2), draws.mean(1)
    parts = spread.parts(seeds, clusters)
    assert parts.seed == pytest.approx(clusters * by_seed.var(1, ddof=1).mean(), rel=0.03)
    assert parts.cluster == pytest.approx(seeds * by_cluster.var(1, ddof=1).mean(), rel=0.03)
    assert parts.rest == pytest.approx(0.0004)
    alone = spread.parts(1, 9)
    assert math.isnan(alone.seed) and math.isnan(alone.rest) and not math.isnan(alone.cluster)


def said(study: StudyConfig, spread: plan_power.Spread, **design: Any) -> list[str]:
    return plan_power.told(study, spread, **({"arms": 6, "seeds": 3, "clusters": 12, "cluster": "scene"} | design))


def test_what_a_design_can_find_is_told_before_launch() -> None:
    study = StudyConfig()
    spread = plan_power.assumed(AssumeConfig(seed_sd=0.0, cluster_sd=0.02, rest_sd=0.01))
    (line,) = said(study, spread)
    assert "over 5 comparisons (Holm: 0.01 for the first)" in line and "assumed (study.assume)" in line
    points = [float(said(study, spread, **more)[0].split()[5]) for more in ({}, {"arms": 2}, {"clusters": 48})]
    assert points[1] < points[0] and points[2] < points[0] / 1.9  # fewer comparisons; four times the scenes
    assert said(study, spread, arms=1) == []


def test_what_cannot_reach_alpha_is_warned_of() -> None:
    study, spread = StudyConfig(), plan_power.assumed(AssumeConfig())
    few = said(study, spread, clusters=4)
    # sign flips of 4 scenes: 2 / 2^4 = 0.125, over 5 comparisons 0.625; 2^(1 - n) <= 0.01 needs 8
    assert "cannot be below p = 0.125, which Holm over 5 makes 0.625" in few[1] and "It needs 8 scenes" in few[1]
    assert not any("sign flips" in line for line in said(study, spread, clusters=8))
    one = said(study, spread, seeds=1)
    assert any(line.startswith("Warning: one seed an arm") for line in one)
    nothing = said(study, spread, seeds=1, clusters=1)
    assert nothing[0].startswith("Warning: one seed on one scene: no comparison can reach alpha 0.05")
    wild = plan_power.Spread(0.4, 0.4, 0.1, "as in 6 finished runs on these tiles")
    first, *_ = said(study, wild, seeds=2, clusters=2)
    assert first.startswith("Detectable: no difference that there can be, with 80 % power at alpha 0.05 over 5 compar")
    assert re.search(
        r"Warning: it would have to be \d{3,}\.\d points, and no two scores differ by more than 100: ", first
    )
    assert "tiles count as independent" in said(study, spread, cluster="tile")[-1]


# ---- cost


def past(config: Config, *, speed: float = 10.0, seconds: float = 100.0, device: str = "cpu, 1 threads") -> PastRun:
    params = dict(plan_cost.kind(config)) | {"train.epochs": f"{config.train.epochs}"}
    tags = {"glidexp.device": device, "glidexp.parameters": "1000000"}
    return PastRun(TrackedRun("r", "r", params, {"train/images_per_s": speed}, tags), seconds)


def test_the_time_of_a_run_by_hand() -> None:
    speed = Speed(images_per_s=10, scored_per_s=30, ends_s=7, parameters=1)
    # 96 of 100 tiles are trained on, in 9.6 s, and 30 scored in 1 s, twice
    assert plan_cost.seconds(speed, Spent(2, 24, 0), SIZES, batch=8) == pytest.approx(7 + 2 * 10.6)


def test_finished_runs_tell_speed_scoring_and_ends() -> None:
    config = changed(Config(), train={"epochs": 5})
    found = plan_cost.of_history(config, SIZES, [past(config)], lambda _: Course(epoch_s=11.6, ends_s=20.0))
    # of an epoch's 11.6 s, 9.6 are training: 30 val tiles in 2 s
    assert found == Speed(10.0, pytest.approx(15.0), 20.0, 1_000_000)
    single = plan_cost.of_history(config, SIZES, [past(config)], lambda _: None)
    # nothing logged by epoch: scoring is assumed at three times the speed, the rest of 100 s is begin and end
    assert single == Speed(10.0, pytest.approx(30.0), pytest.approx(100 - 5 * 10.6), 1_000_000)


@pytest.mark.slow
def test_a_trial_sees_tiles_at_the_distance_at_which_the_network_sees_them(
    small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(small_data, tmp_path, "input.gsd_m=15")
    tiles = prepare(config.dataset, config.tile_size.px, small_data, progress=False)
    sides: set[int] = set()

    def watched(*given: Any) -> Parts:
        made = build_parts(*given)
        encoder = made.model.get_submodule("encoder")
        encoder.register_forward_pre_hook(lambda _, given: sides.add(given[0].shape[-1]))
        return made

    monkeypatch.setattr("glidexp.training.parts.build_parts", watched)
    monkeypatch.setattr(plan_cost, "TRIAL_S", 0.0)
    assert plan_cost.tried(config, tiles).tried
    assert sides == {128}, "of 64 px at 30 m"


def test_runs_of_other_networks_and_threads_tell_nothing() -> None:
    config = Config()
    none = lambda _: None  # noqa: E731
    others = [
        changed(config, backbone={"name": "resnet34"}),
        changed(config, train={"batch_size": 4}),
        changed(config, augmentation={"noise_p": 0.5, "noise_std": 3.0}),
        changed(config, subset={"fraction": 0.5}),
        changed(config, input={"gsd_m": 20.0}),
    ]
    assert plan_cost.of_history(config, SIZES, [past(one) for one in others], none) is None
    assert plan_cost.of_history(config, SIZES, [past(config, device="cpu, 2 threads")], none, threads=1) is None
    assert plan_cost.of_history(config, SIZES, [past(config, device="NVIDIA A100")], none, threads=1) is not None
    assert plan_cost.of_history(config, SIZES, [past(config)], none, threads=0) is None, "a GPU is to train"
    longer = changed(config, train={"epochs": 50}, optimizer={"lr": 0.1})
    assert plan_cost.of_history(config, SIZES, [past(longer, seconds=1000)], none) is not None
    old = past(config)
    del old.run.params["subset.fraction"]  # made before there was such a setting
    assert plan_cost.of_history(config, SIZES, [old], none) is not None


def test_one_trial_a_network_and_an_assumption_that_is_told() -> None:
    configs = [Config(), changed(Config(), optimizer={"lr": 0.1}), changed(Config(), backbone={"name": "mit_b0"})]
    tried: list[str] = []

    def try_out(config: Config) -> Speed:
        tried.append(config.backbone.name)
        return Speed(5.0, 15.0, 6.0, 1, tried=True)

    def speeds(known: Speed | None, ends: float | None) -> list[Speed | None]:
        tried.clear()
        told = lambda config, _: known if config.backbone.name == "resnet18" else None  # noqa: E731
        return plan_cost.speeds(configs, [SIZES] * 3, told, try_out, lambda: ends)

    assumed = Speed(5.0, 15.0, plan_cost.ENDS_S + 6, 1, tried=True, ends_assumed=True)
    assert speeds(None, None) == [assumed] * 3 and tried == ["resnet18", "mit_b0"]
    assert speeds(None, 33.0)[2] == Speed(5.0, 15.0, 33.0, 1, tried=True)
    history = Speed(10.0, 30.0, 44.0, 1)
    assert speeds(history, 33.0) == [history, history, Speed(5.0, 15.0, 44.0, 1, tried=True)] and tried == ["mit_b0"]
    assert plan_cost.speeds(configs, [SIZES] * 3, lambda *_: None, None, lambda: None) == [None] * 3


def test_where_the_time_of_a_finished_run_went() -> None:
    at = {1: [30.0], 2: [40.0], 3: [50.0, 250.0], 4: [260.0]}  # the third epoch was trained again after a pause
    logged = [SimpleNamespace(step=step, timestamp=1000 * (1000 + t)) for step, times in at.items() for t in times]
    store: Any = SimpleNamespace(client=SimpleNamespace(get_metric_history=lambda run, key: logged))
    one = replace(past(Config(), seconds=275.0), began_s=1000.0)
    assert course(store, one) == Course(epoch_s=10.0, ends_s=20.0 + 15.0)
    del logged[1:]
    assert course(store, one) is None


# ---- data


def stored(split: Sequence[str], **columns: Sequence[Any]) -> Any:
    held = {"split": list(split), "lake_fraction": [0.1] * len(split)}
    return SimpleNamespace(index=pd.DataFrame(held | {k: list(v) for k, v in columns.items()}))


def test_what_counts_as_independent_ground(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a score of one region that region's alone: one scene is one piece of ground, however many tiles it has."""
    data = Data()
    split = ["train", "test", "test", "test", "test"]

    def counted(stratum: tuple[str, str] | None = None, **columns: Sequence[Any]) -> tuple[str, int]:
        monkeypatch.setattr(Data, "store", lambda *_: stored(split, **columns))
        return data.ground([Config()], stratum)

    where = {"scene": ["a", "b", "c", "c", "b"], "region": ["andes", "andes", "alaska", "alaska", "andes"]}
    where["block"] = list("12345")
    assert counted(**where) == ("scene", 2)
    assert counted(scene=list("abbbb"), block=list("12345")) == ("block", 4)
    assert counted(scene=["a", "unknown", "b", "c", "c"], block=["", "", "", "1", "1"]) == ("tile", 4)
    alaska = ("region", "alaska")
    assert counted(alaska, **where) == ("scene", 1)
    assert counted(alaska, **where | {"scene": ["unknown"] * 5, "block": [""] * 5}) == ("tile", 2)
    assert counted(("size", "0.01-0.05km2"), **where) == ("scene", 2)
    assert counted(**where | {"lake_fraction": [0.1, 0.0, 0.1, 0.0, 0.0]}) == ("scene", 1)  # of scene b all are bare
    assert counted(scene=["unknown"] * 5, block=[""] * 5, lake_fraction=[0.1, 0.0, 0.1, 0.0, 0.2]) == ("tile", 2)


def test_an_arm_that_trains_on_the_baselines_test_scenes_is_refused(tmp_path: Path) -> None:
    arms = [arm("a", paths={"data": str(tmp_path)}), arm("b", paths={"data": str(tmp_path)}, tile_size={"px": 128})]
    data = Data()
    first = stored(["train", "test"], scene=["one", "two"])
    for store in (stored(["train", "test"], scene=["one", "two"]), stored(["train", "test"], scene=["two", "one"])):
        stores = {256: first, 128: store}
        data.store = lambda config, stores=stores: stores[config.tile_size.px]  # type: ignore[method-assign]
        if store.index["scene"][0] == "one":
            data.refuse_mixed_ground(arms)
            continue
        with pytest.raises(ConfigError, match=r"^b trains on scene two, which the baseline tests on"):
            data.refuse_mixed_ground(arms)


def test_stores_that_are_not_there_are_named_once(tmp_path: Path) -> None:
    here = {"data": str(tmp_path)}
    configs = [arm("a", paths=here).config, arm("b", paths=here, loss={"bce": 1.0}).config]
    (found,) = Data().missing(configs)
    path = found.rpartition(", ")[2]
    assert found.startswith("synthetic in tiles of 256 px, ") and path.startswith(f"{tmp_path}/stores/")
    Path(path).mkdir(parents=True)
    assert Data().missing(configs) == []


# ---- names of runs that begin elsewhere


def test_auto_is_not_resolved_for_another_machine() -> None:
    assert LauncherConfig(kind=LauncherKind.slurm).elsewhere
    assert LauncherConfig(kind=LauncherKind.ray, ray_address="auto").elsewhere
    assert not LauncherConfig(kind=LauncherKind.ray).elsewhere and not LauncherConfig().elsewhere
    both = (
        r"^train\.precision=auto and train\.compile=auto: found on the machine.*give train\.pr.*, and train\.compile=on"
    )
    with pytest.raises(ConfigError, match=both):
        keys(arm("a"), [0], elsewhere=True)
    bf16 = TrainConfig(precision=Precision.bf16)
    with pytest.raises(ConfigError, match=r"^train\.compile=auto: found.*or train\.device=cuda or cpu"):
        resolved_elsewhere(bf16)
    for device, compiled in (("cuda:1", "on"), ("cpu", "off")):
        found = resolved_elsewhere(replace(bf16, device=device))
        assert found == {"train.precision": "bf16", "train.compile": compiled}
    given = {"precision": Precision.fp32, "compile": Compile.off}
    assert keys(arm("a", train=given), [0], elsewhere=True) == keys(arm("a", train=given), [0])


# ---- what is printed


def planned(tmp_path: Path, data_hash: str = "d") -> Planned:
    config = changed(Config(), paths={"data": str(tmp_path), "mlruns": str(tmp_path / "mlruns")}, train={"epochs": 2})
    names = [f"backbone={b} augmentation={a}" for b in ("efficientnet_b0", "mobilenetv3") for a in ("standard", "none")]
    arms = tuple(arm(name, config) for name in names)
    arms = (*arms[:3], arm(names[3], config, train={"epochs": 3}))
    cells = tuple(Cell(name, seed, (), f"{name}{seed}") for name in names for seed in (0, 1))
    stored = SimpleNamespace(data_hash=data_hash)
    data: Any = SimpleNamespace(store=lambda config: stored, ground=lambda *_: ("scene", 8))
    plan = Plan("demo", "Which?", "test/lake_iou_pooled", tuple(names), (0, 1), cells, budget="Budget: 24 steps.")
    study = StudyConfig(seeds=[0, 1])
    spents = tuple(spent(one.config, SIZES.train) for one in arms)
    return Planned(plan, study, arms, (SIZES,) * 4, spents, data, (None,) * 4)


def shown(found: Planned, launcher: LauncherConfig, **options: Any) -> tuple[float | None, str]:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        hours = plan_show.show(found, launcher, console=console, **options)
    return hours, console.export_text()


def test_the_table_fits_eighty_columns_and_says_what_is_equal_once(tmp_path: Path) -> None:
    hours, text = shown(planned(tmp_path), LauncherConfig(slots=2, gpus=0), calibrate=False)
    assert hours is None and "Time:" not in text
    assert "efficientnet_b0, standard" in text and "backbone, augmentation" in text
    assert "In every arm: train tiles 100, batch 8." in text
    (headings,) = [line for line in text.splitlines() if " done " in line]
    assert "min a run" not in headings, "of no arm it is known"
    assert "epochs" in headings and "train tiles" not in headings
    assert not (tmp_path / "mlruns").exists(), "a store was made by looking"


def test_a_plan_names_arms_that_are_the_same_runs(tmp_path: Path) -> None:
    found, launcher = planned(tmp_path), LauncherConfig(slots=2, gpus=0)
    assert "equal settings" not in shown(found, launcher, calibrate=False)[1]
    first, *_, last = found.plan.arms
    cells = tuple(replace(cell, key=f"{first}{cell.seed}") if cell.arm == last else cell for cell in found.plan.cells)
    _, text = shown(replace(found, plan=replace(found.plan, cells=cells)), launcher, calibrate=False)
    assert f"Warning: arms {first} and {last} have equal settings" in " ".join(text.split())


def test_arms_and_words_in_brackets_are_shown(tmp_path: Path) -> None:
    """`[andes]` is a list of regions, and no style of the console."""
    found = planned(tmp_path)
    names = {one.name: one.name.replace("augmentation=", "x.y=[").replace("none", "none]") for one in found.arms}
    names = {old: new.replace("standard", "standard]") for old, new in names.items()}
    cells = tuple(replace(cell, arm=names[cell.arm]) for cell in found.plan.cells)
    plan = replace(found.plan, question="Is [andes] enough?", arms=tuple(names.values()), cells=cells)
    arms = tuple(replace(one, arm=replace(one.arm, name=names[one.name])) for one in found.arms)
    _, text = shown(replace(found, plan=plan, arms=arms), LauncherConfig(slots=2, gpus=0), calibrate=False)
    assert "mobilenetv3, [none]" in text and "Is [andes] enough?" in text


def test_hours_come_from_finished_runs_and_finished_cells_cost_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = planned(tmp_path)
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").touch()
    done = past(found.baseline)
    done.run.tags["glidexp.config_id"] = found.plan.cells[0].key
    asked: list[str | None] = []

    def trainings(store: object, experiment: str, data_hash: str | None) -> list[PastRun]:
        asked.append(data_hash)
        return [done]

    monkeypatch.setattr(plan_show, "open_store", lambda *_: SimpleNamespace())
    monkeypatch.setattr(plan_show, "trainings", trainings)
    monkeypatch.setattr(plan_show, "course", lambda *_: Course(epoch_s=10.6, ends_s=30.0))
    monkeypatch.setattr(plan_power, "of_history", lambda *_: plan_power.Spread(0.01, 0.02, 0.01, "as in 6 runs"))
    launcher = LauncherConfig(slots=2, gpus=0, cores=1)
    hours, text = shown(found, launcher, calibrate=True)
    # 7 of 8 runs: 5 of 2 epochs, 2 of 3, with 30 s besides; two at once, so that one place has four of them
    short, long = 30 + 2 * 10.6, 30 + 3 * 10.6
    assert hours == pytest.approx((3 * short + long) / 3600)
    assert "for 7 runs, 2 at once; from finished runs." in " ".join(text.split()) and "1/2" in text
    assert "as in 6 runs" in " ".join(text.split()) and asked == ["d"]
    elsewhere = LauncherConfig(kind=LauncherKind.slurm, slots=4)
    done.run.params["backbone.name"] = "resnet50"
    hours, text = shown(found, elsewhere, calibrate=True)
    assert hours is None and "Time: not known before some runs are finished" in " ".join(text.split())


def test_hours_in_words() -> None:
    said = [plan_hours.about(hours) for hours in (0.004, 0.015, 0.4, 1.99, 2.0, 31.26)]
    assert said == [
        "less than a minute", "about 1 minute", "about 24 minutes", "about 119 minutes", "about 2.0 hours",
        "about 31.3 hours",
    ]  # fmt: skip


def test_places_are_those_that_the_launcher_will_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A study on SLURM was said to take as long as its runs one after the other."""
    monkeypatch.setattr(plan_hours, "cores", lambda: 16)
    slurm, ray = LauncherConfig(kind=LauncherKind.slurm), LauncherConfig(kind=LauncherKind.ray)
    assert [plan_hours.places_of(slurm, cells, Config())[0] for cells in (0, 5, 500)] == [1, 5, 32]
    assert plan_hours.places_of(replace(slurm, slots=100), 60, Config()) == (60, None)
    assert plan_hours.places_of(ray, 500, Config()) == (4, None)
    assert plan_hours.places_of(replace(ray, ray_address="auto"), 500, Config()) == (1, None)
    one_by_one = plan_hours.time_told(5.0, 3, 1, [Speed(1.0, 1.0, 1.0, 1)], replace(ray, ray_address="auto"))
    assert "for 3 runs, one after the other (only the cluster knows how many fit at once) as in" in one_by_one


def test_of_a_study_only_what_is_chosen_is_tried_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned(tmp_path)
    arms = tuple(
        replace(one, config=changed(one.config, backbone={"name": one.name.split("=")[1].split()[0]}))
        for one in found.arms
    )
    source, *others = found.plan.cells
    cells = (source, *(replace(cell, needs=source.key) if cell.name.endswith("none|0") else cell for cell in others))
    found = replace(found, arms=arms, plan=replace(found.plan, cells=cells))
    networks: list[str] = []

    def tried(config: Config, store: object) -> Speed:
        networks.append(config.backbone.name)
        return Speed(10.0, 30.0, 30.0, 1_000_000, tried=True)

    monkeypatch.setattr(plan_cost, "tried", tried)
    launcher = LauncherConfig(slots=1, gpus=0, cores=1)
    hours, text = shown(found, launcher, calibrate=True, only="*mobilenetv3*none*")
    said = " ".join(text.split())
    assert networks == ["mobilenetv3"] and hours is not None
    assert "only=*mobilenetv3*none*: 2 of 8 runs, of 1 of 4 arms, are carried out." in said
    assert f"They start from runs of {source.arm}, to be carried out first." in said
    assert "for 2 runs, 1 at once; from trial steps on this machine." in said
    assert f"Disk: about {2 * (4e6 + 4e6) / 1e9:.1f} GB" in said
    networks.clear()
    whole, text = shown(found, launcher, calibrate=True)
    assert networks == ["efficientnet_b0", "mobilenetv3"] and "only=" not in text
    assert whole is not None and whole > 3 * hours
    with pytest.raises(ConfigError, match="only=vgg names no run"):
        shown(found, launcher, calibrate=True, only="vgg")


def test_disk_has_room_for_the_masks_and_predictions_of_all_of_glid(tmp_path: Path) -> None:
    """A study of 2,367 test tiles of 512 px was said to need 4 MB a run and no predictions, of which there is 1 GB."""
    speed, sizes = Speed(1.0, 1.0, 1.0, 2_000_000), Sizes(14400, 1600, 2367)
    config = changed(Config(), tile_size={"px": 512})
    assert plan_cost.run_bytes(speed, config, sizes) == 4_000_000 + int(0.03 * 2367 * 512**2) + 8_000_000
    light = changed(config, tracking={"log_masks": False, "log_model": False})
    assert plan_cost.run_bytes(speed, light, sizes) == 4_000_000
    assert plan_cost.passing_bytes(speed, config, sizes) == 3 * 4 * 8_000_000 + 3967 * 512**2
    found = planned(tmp_path)
    found = replace(
        found,
        sizes=tuple(sizes for _ in found.arms),
        arms=tuple(replace(one, config=changed(one.config, tile_size={"px": 512})) for one in found.arms),
    )
    told = plan_hours.disk_told(found, [speed] * len(found.arms), found.plan.cells, 2)
    assert told == ("Disk: about 0.2 GB for good, and up to 2.3 GB of checkpoints and predictions while runs go.")


def test_an_outline_names_what_would_be_made() -> None:
    found = Outline(
        StudyConfig(name="s", seeds=[0, 1]), (arm("a"), arm("b")), (0, 1), "Ground: g.", ("x, data/stores/1",)
    )
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        plan_show.show_outline(found, console)
    text = console.export_text()
    assert "s: 2 arms x 2 seeds = 4 runs" in text
    assert "Data that is not there, and that plan=true or the study itself would make: x, data/stores/1." in text
    with pytest.raises(ConfigError, match=r"^only=c names no run: give a pattern of arms, a, b, or of ARM\|SEED\.$"):
        plan_show.show_outline(found, console, only="c")


def test_a_score_without_an_interval_is_warned_of_before_anything_is_trained() -> None:
    assert plan_show._decided("test/size/0.01-0.05km2/lake_recall") == (
        "Decided by test/size/0.01-0.05km2/lake_recall."
    )
    for primary in ("test/ece", "test/lake_iuo_pooled"):
        said = plan_show._decided(primary)
        assert said.startswith(f"Decided by {primary}. Warning: ") and "compares test/lake_iou_pooled instead" in said


def test_a_typed_grid_is_called_by_what_varies_and_keeps_its_id() -> None:
    cells = tuple(Cell(arm, seed, (arm,), f"{arm}{seed}") for arm in ("loss=bce", "loss=dice") for seed in (0, 1))
    grid = Plan("grid", "", "test/lake_iou_pooled", ("loss=bce", "loss=dice"), (0, 1), cells)
    assert grid.title == "grid loss" and study_id(grid) == "b38fb17dd694", (
        "a study from before it had this name goes on"
    )
    assert replace(grid, arms=("baseline", "loss=dice train.epochs=2", "size=[1, 2]")).title == (
        "grid loss x train.epochs x size"
    )
    assert replace(grid, arms=("baseline",)).title == "grid seed"
    assert grid.label == "grid loss: bce, dice" and replace(grid, name="losses").label == "losses"
    assert replace(grid, arms=("loss=bce size=1", "loss=bce size=2")).label == "grid loss x size: bce x 1, 2"
    assert replace(grid, arms=("baseline",)).label == "grid seed: 0, 1"
    many = replace(grid, arms=tuple(f"loss=number{place}" for place in range(40))).label
    assert len(many) <= 120 and many.endswith(", number10, ...")
    assert replace(grid, name="losses").title == "losses" and replace(grid, identity="a search").title == "grid"


def test_short_names_of_arms() -> None:
    assert short_names(["backbone=a loss=x", "backbone=b loss=x"]) == (
        "backbone", {"backbone=a loss=x": "a", "backbone=b loss=x": "b"},
    )  # fmt: skip
    assert short_names(["dataset.buffer_m=1", "dataset.buffer_m=2"])[0] == "buffer_m"
    assert short_names(["a.lr=1 b.lr=2", "a.lr=2 b.lr=1"])[0] == "a.lr, b.lr"
    assert short_names(["baseline", "loss=x"]) == ("arm", {"baseline": "baseline", "loss=x": "loss=x"})
    assert short_names(["d=1 a=1", "d=1 b=2"])[1] == {"d=1 a=1": "a=1", "d=1 b=2": "b=2"}
    assert short_names(["all runs"]) == ("arm", {"all runs": "all runs"})
    assert short_names(["d=1", "d=1 b=2"])[1] == {"d=1": "d=1", "d=1 b=2": "d=1 b=2"}
