"""Plans of transfer studies: arms, what they start from, names of runs that are known before any is trained."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from runs import SMALL

from glidexp import door
from glidexp.config.study import AxisConfig, Design, StudyConfig
from glidexp.config.transfer import By, Rung, TransferConfig, Unit
from glidexp.errors import ConfigError
from glidexp.scoring.confusion import rows_of, strata
from glidexp.study.comparison.measures import measure_of
from glidexp.study.execution.cells import Cell, Plan, take_ready
from glidexp.study.plan.arms import Arm
from glidexp.study.plan.budget import spent
from glidexp.study.plan.check import checked
from glidexp.study.plan.making import Planned, make_plan, outline
from glidexp.study.plan.transfer import Present, primary, transfer_arms
from glidexp.study.plan.words import Words, split

NOTHING = Words((), ())
THERE = Present(("alaska", "andes", "greenland"), scenes=4)


def arms(design: Design, there: Present = THERE, **settings: object) -> dict[str, tuple[str, ...]]:
    study = StudyConfig(design=design, transfer=TransferConfig(**settings))
    return {arm.name: arm.words for arm in transfer_arms(study, NOTHING, there)}


def test_a_matrix_trains_on_each_on_all_and_on_all_but_one() -> None:
    found = arms(Design.matrix)
    assert list(found) == ["all", *THERE.names, "all but alaska", "all but andes", "all but greenland"]
    assert found["all but andes"] == ("subset.regions=[alaska,greenland]", "subset.val_from=source")
    assert found["all"][0] == "subset.regions=[alaska,andes,greenland]"
    by_sensor = arms(Design.matrix, by=By.sensor, sources=["andes", "alaska"], together=False)
    assert by_sensor == {
        name: (f"sensor_mix.sensors=[{name}]", "subset.val_from=source") for name in ("andes", "alaska")
    }
    two = arms(Design.matrix, sources=["andes", "alaska"])  # all but one of two is the other, which is there already
    assert list(two) == ["all", "andes", "alaska"]


def test_a_ladder_trains_only_where_it_learns() -> None:
    found = arms(Design.ladder, target="greenland", budgets=[1, 2, 10])
    assert next(iter(found)) == "zero-shot"
    source = found["zero-shot"]
    assert source == ("subset.regions=[alaska,andes]", "subset.val_from=source")
    for rung in ("threshold", "normalise", "histogram", "batch_norm"):
        assert found[rung][:2] == source
        assert all(word.startswith("eval.") for word in found[rung][2:]) and len(found[rung]) == 4
        assert found[rung][3] == "eval.fit_regions=[greenland]"
    assert found["longer"] == (*source, "init=run", "init.run=arm:zero-shot", "optimizer=adamw_finetune")
    assert found["self_training"] == (
        *source, "init=run", "init.run=arm:zero-shot", "self_training.regions=[greenland]", "optimizer=adamw_finetune",
    )  # fmt: skip
    assert "style" not in found
    assert arms(Design.ladder, target="greenland", rungs=[Rung.style], budgets=[1])["style"] == (
        *source, "init=run", "init.run=arm:zero-shot", "style.regions=[greenland]", "optimizer=adamw_finetune",
    )  # fmt: skip
    assert found["full 2 scenes"] == (
        "subset.regions=[greenland]", "subset.val_from=source", "subset.scenes=2", "init=run",
        "init.run=arm:zero-shot", "optimizer=adamw_finetune",
    )  # fmt: skip
    assert found["scratch 1 scene"] == ("subset.regions=[greenland]", "subset.val_from=source", "subset.scenes=1")
    assert found["lora 2 scenes"] == (*found["full 2 scenes"], "train.lora_rank=8")
    assert "full 4 scenes" in found and "full 10 scenes" not in found  # there are 4
    lakes = arms(Design.ladder, target="greenland", rungs=[Rung.full], unit=Unit.lakes, budgets=[0.05, 0.25])
    assert list(lakes) == ["zero-shot", "full 5 % of lakes", "full 25 % of lakes"]
    assert "subset.lakes=0.25" in lakes["full 25 % of lakes"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "study.transfer.target is not given: name the region .* of alaska, andes, greenland"),
        ({"target": "grenland"}, "study.transfer.target.*grenland.*greenland"),
        ({"target": "andes", "sources": ["tibet"]}, "study.transfer.sources.*tibet"),
    ],
)
def test_a_ladder_that_is_not_possible(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        arms(Design.ladder, **settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"target": "andes", "sources": ["andes"]}, "andes is the target"),
        ({"budgets": [1.5]}, "1.5 is not possible: whole scenes"),
        ({"unit": Unit.lakes, "budgets": [2]}, "2 is not possible: shares"),
        ({"budgets": [1, 1]}, "names something twice"),
        ({"budgets": []}, "budgets is empty"),
    ],
)
def test_settings_that_are_not_possible(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TransferConfig(**settings)


def test_one_region_is_no_matrix() -> None:
    with pytest.raises(ConfigError, match="two regions or more, there is andes"):
        arms(Design.matrix, Present(("andes",)))
    with pytest.raises(ConfigError, match=r"several values do not go with study\.design=matrix"):
        transfer_arms(StudyConfig(design=Design.matrix), split(["loss=dice,bce"]), THERE)


def test_a_ladder_is_decided_on_its_target() -> None:
    def of(score: str) -> str:
        cfg = TransferConfig(by=By.sensor, target="landsat8")
        return primary(StudyConfig(design=Design.ladder, transfer=cfg, primary=score))

    assert of("test/lake_iou_pooled") == "test/sensor/landsat8/lake_iou_pooled"
    assert of("test/at_0.5/f1_per_scene") == "test/at_0.5/sensor/landsat8/f1_per_scene"
    assert of("test/lake_recall") == "test/sensor/landsat8/lake_recall"
    with pytest.raises(ConfigError, match="a ladder is scored on its target"):
        of("test/region/andes/f1_pooled")
    for score in ("assd_m", "area_error_percent", "area_bias_percent"):  # gains would be losses, metres points
        with pytest.raises(ConfigError, match=f"study.primary=test/{score}: more of it is not better"):
            of(f"test/{score}")


@pytest.mark.parametrize("target", ["Khumbu/west", "Perú (sur)", "andes"])
def test_the_score_on_a_target_is_one_that_runs_have_whatever_its_name(target: str) -> None:
    """Runs log it under a name that tracking takes, and a report finds the target's tiles by it."""
    cfg, keys = TransferConfig(by=By.region, target=target), pd.Series(["alps", target, "alps"])
    for score in ("lake_iou_pooled", "at_0.5/f1_per_scene", "lake_recall"):
        decides = primary(StudyConfig(design=Design.ladder, transfer=cfg, primary=f"test/{score}"))
        measure = measure_of(decides)
        assert measure.stratum is not None and measure.stratum[1] in strata(keys)
        assert rows_of(keys, measure.stratum[1]).tolist() == [1]
        whole = measure_of(f"test/{score}")
        assert whole.within("region", target).everywhere() == measure.everywhere() == whole


def test_a_target_is_not_decided_on_another_that_tracking_calls_alike() -> None:
    there = ("Khumbu/west", "Khumbu_west", "alps")
    for place, target in enumerate(there):
        cfg = StudyConfig(design=Design.ladder, transfer=TransferConfig(by=By.region, target=target))
        measure = measure_of(primary(cfg, there))
        assert measure.stratum is not None and measure.stratum[1] in strata(pd.Series(there))
        assert rows_of(pd.Series(there), measure.stratum[1]).tolist() == [place]


def test_words_of_scoring_are_checked_and_kept_apart() -> None:
    base = [word for word in SMALL if not word.startswith("tracking")]
    (one,) = checked([Arm("a", ("eval.adapt=histogram",))], base, door.compose)
    assert one.scoring == ("eval.adapt=histogram",) and "eval.adapt=histogram" not in one.words
    for words, says in (("eval.adpt=none", "adpt"), ("eval.adapt=magic", "magic"), ("eval.threshold=2", "threshold=2")):
        with pytest.raises(ConfigError, match=says):
            checked([Arm("a", (words,))], base, door.compose)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """A real plan, on generated scenes of two regions."""
    place = tmp_path_factory.mktemp("ladder")
    words = [
        *SMALL, f"paths.data={place}", f"paths.mlruns={place}", "dataset.synthetic.regions=[andes,greenland]",
        "dataset.synthetic.scenes_per_sensor=8", "dataset.split.val=0.25", "dataset.split.test=0.25", "train.epochs=8",
        "train.compile=off", "train.batch_size=5",
    ]  # fmt: skip
    typed = split([*words, "study=transfer_ladder", "study.transfer.budgets=[1,2,5]", "study.seeds=[0,1]"])
    study = door.compose_sweep(list(typed.own)).study
    return make_plan(study, typed, door.compose)


@pytest.fixture(scope="module")
def ladder(planned: Planned) -> Plan:
    return planned.plan


def test_rungs_are_no_equal_arms_before_their_data_is_made(tmp_path: Path) -> None:
    """What head and staged hold fixed follows from the budget: without it they had the settings of full."""
    typed = split(["study=transfer_ladder", *SMALL, f"paths.data={tmp_path}", f"paths.mlruns={tmp_path}"])
    found = outline(door.compose_sweep(list(typed.own)).study, typed, door.compose)
    assert {"head 1 scene", "staged 1 scene", "full 1 scene"} <= {one.name for one in found.arms}
    assert found.equal == ()


def test_names_of_all_runs_are_known_before_the_source_is_trained(ladder: Plan) -> None:
    zero = {cell.seed: cell for cell in ladder.cells if cell.arm == "zero-shot"}
    trained = Counter(cell.key for cell in ladder.cells)
    assert trained[zero[0].key] == 5  # zero-shot and four scorings of the same training
    assert len(trained) == 2 * (3 + 5 * 2)  # with longer and self-training; two scenes are all there are of the target
    for cell in ladder.cells:
        if cell.arm.startswith(("longer", "self_training", "head", "staged", "full", "lora")):
            assert cell.needs == zero[cell.seed].key
            assert f"init.run=config:{cell.needs}" in cell.words
        else:
            assert cell.needs is None
        fits = cell.arm in ("threshold", "normalise", "histogram", "batch_norm")
        assert (cell.scored_on is not None) == fits
    said = next(cell.scored_on for cell in ladder.cells if cell.arm == "batch_norm")
    assert said is not None
    assert said[:3] == ("eval.adapt=batch_norm", "eval.fit_regions=[greenland]", "eval.split=test")
    assert ladder.primary == "test/region/greenland/lake_iou_pooled"
    assert ladder.laid_out["sources"] == ["andes"] and ladder.laid_out["rungs"]["full 2 scenes"] == ["full", 2.0]
    assert Plan.from_json(ladder.to_json()) == ladder


def test_every_rung_learns_as_many_steps_and_frozen_ones_follow(ladder: Plan) -> None:
    def settings(arm: str) -> dict[str, int]:
        cell = next(cell for cell in ladder.cells if cell.arm == arm)
        pairs = [word.split("=", 1) for word in cell.words if word.startswith("train.")]
        return {key: int(value) for key, value in pairs if value.isdigit()}

    assert settings("full 1 scene")["train.epochs"] > settings("full 2 scenes")["train.epochs"] >= 8
    head, staged = settings("head 1 scene"), settings("staged 1 scene")
    assert head["train.freeze_encoder_epochs"] == head["train.epochs"]
    assert staged["train.freeze_encoder_epochs"] == staged["train.epochs"] // 4
    last = staged["train.freeze_encoder_epochs"] + 4 * staged["train.unfreeze_every"]
    assert last < staged["train.epochs"], "the stem never learns"


def test_each_seed_takes_as_many_steps_as_its_source_from_the_scenes_that_it_draws(planned: Planned) -> None:
    steps, tiles = dict[str, int](), dict[str, int]()
    for cell in planned.plan.cells:
        config = door.compose([word for word in cell.words if not word.startswith(("init=", "init.run="))])
        assert config.seed == cell.seed
        tiles[cell.name] = planned.data.train_tiles(config)
        steps[cell.name] = spent(config, tiles[cell.name]).steps
    assert tiles["full 1 scene|0"] // 5 != tiles["full 1 scene|1"] // 5, "else this test is of nothing"
    for cell in planned.plan.cells:
        an_epoch = tiles[cell.name] // 5
        assert abs(steps[cell.name] - steps[f"zero-shot|{cell.seed}"]) <= an_epoch / 2 + 1e-9, cell.name


def test_an_arm_may_start_from_another_one_and_not_from_itself(tmp_path: Path) -> None:
    def planned(**lists: list[str]) -> Plan:
        study = StudyConfig(design=Design.list, arms=lists, seeds=[3])
        typed = split([*SMALL, "train.compile=off", f"paths.data={tmp_path}", f"paths.mlruns={tmp_path}"])
        return make_plan(study, typed, door.compose).plan

    with pytest.raises(ConfigError, match=r"init\.run='arm:surce' is not known.*arm:source"):
        planned(source=[], target=["init=run", "init.run=arm:surce"])
    with pytest.raises(ConfigError, match="target starts from source, whose runs keep no model"):
        planned(source=["tracking.log_model=false"], target=["init=run", "init.run=arm:source"])
    with pytest.raises(ConfigError, match="leads back to itself"):
        planned(a=["init=run", "init.run=arm:b"], b=["init=run", "init.run=arm:a"])


def test_what_starts_from_another_comes_after_it() -> None:
    zero, fitted = Cell("zero", 0, (), "k0"), Cell("fitted", 0, (), "k0", ("eval.adapt=histogram",))
    tuned, other = Cell("tuned", 0, (), "k1", needs="k0"), Cell("other", 0, (), "k2")
    waiting = [fitted, tuned, other]
    assert take_ready([tuned, fitted, zero], []) is fitted
    assert take_ready(waiting, [zero]) is other, "the same training is at work, and what tuned needs"
    assert waiting == [fitted, tuned]
    assert take_ready([tuned, fitted], [zero]) is None
    assert take_ready([tuned], []) is tuned  # its source failed, or is of another sweep: its run will say so


def test_an_arm_of_an_axis_is_started_from_by_its_short_name(tmp_path: Path) -> None:
    levels = {"source": [], "anew": ["init=run", "init.run=arm:source"]}
    study = StudyConfig(axes={"way": AxisConfig(levels=levels)}, seeds=[3])
    typed = split([*SMALL, "train.compile=off", f"paths.data={tmp_path}", f"paths.mlruns={tmp_path}"])
    plan = make_plan(study, typed, door.compose).plan
    source, anew = plan.cells
    assert (source.arm, anew.arm) == ("way=source", "way=anew") and anew.needs == source.key
