"""`train -m`: one parent, children named by what differs, a failing job leaves the others alone."""

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from runs import small_config, words

from glidexp import door
from glidexp.errors import ConfigError
from glidexp.tracking.liveness import PROCESS_TAG
from glidexp.tracking.multirun import OVERRIDES_TAG
from glidexp.tracking.store import open_store, tracking_uri
from glidexp.training.multirun import check_combinations, compose_first, run_multirun

pytestmark = pytest.mark.usefixtures("plain_figures")


class OwnLauncher(BasicLauncher):
    """As one that somebody has installed beside Hydra."""

    launched: ClassVar[list[Sequence[str]]] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        self.launched.extend(job_overrides)
        return super().launch(job_overrides, initial_job_idx)


@pytest.fixture
def own_launcher(monkeypatch: pytest.MonkeyPatch) -> str:
    """The word that chooses it. Hydra takes launchers from packages of this name alone."""
    package, module = ModuleType("hydra_plugins"), ModuleType("hydra_plugins.own_launcher")
    vars(package)["own_launcher"], vars(module)["OwnLauncher"] = module, OwnLauncher
    for one in (package, module):
        monkeypatch.setitem(sys.modules, one.__name__, one)
    monkeypatch.setattr(OwnLauncher, "__module__", module.__name__)
    Plugins.instance().register(OwnLauncher)
    ConfigStore.instance().store(
        group="hydra/launcher", name="own", node={"_target_": "hydra_plugins.own_launcher.OwnLauncher"}, provider="own"
    )
    return "hydra/launcher=own"


@pytest.mark.slow
def test_parent_children_and_exit_code(
    small_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    own_launcher: str,
) -> None:
    sweep = words(small_data, tmp_path, "train.epochs=1", "seed=0,1", "train.batch_size=4,5000", own_launcher, "-m")
    monkeypatch.chdir(tmp_path)
    assert run_multirun(sweep) == 1
    batches = [[word for word in one if word.startswith("train.batch_size")] for one in OwnLauncher.launched]
    assert batches == [["train.batch_size=4"]] * 2 + [["train.batch_size=5000"]] * 2
    config = small_config(small_data, tmp_path)
    store = open_store(tracking_uri(config.tracking, config.paths), tmp_path).client
    runs = store.search_runs([store.get_experiment_by_name("glidexp").experiment_id])
    parents = [found for found in runs if "mlflow.parentRunId" not in found.data.tags]
    assert len(parents) == 1
    children = [found for found in runs if found.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    status = {found.info.run_name: found.info.status for found in children}
    assert {name for name, value in status.items() if value == "FINISHED"} == {
        "train.batch_size=4 seed=0",
        "train.batch_size=4 seed=1",
    }
    assert len(status) == 2, "what was refused before it began leaves no run"
    assert parents[0].info.status == "FAILED"
    told = capsys.readouterr()
    assert "/#/compare-runs?runs=" in told.out
    assert "train.batch_size=5000 is more than" in told.err
    assert "Traceback" not in told.err
    tags = {OVERRIDES_TAG: "seed=0,1", PROCESS_TAG: f"{platform.node()}:1:0"}
    killed = store.create_run(store.get_experiment_by_name("glidexp").experiment_id, tags=tags).info.run_id
    again = words(small_data, tmp_path, "train.epochs=1", "seed=0,1", "-m")
    assert run_multirun(again) == 0
    assert store.get_run(killed).info.status == "KILLED", "the parent of a multirun that was killed"
    after = store.search_runs([store.get_experiment_by_name("glidexp").experiment_id])
    assert len(after) == len(runs) + 1, "finished runs were repeated, or an empty parent was left"
    assert "/#/compare-runs?runs=" in capsys.readouterr().out


def test_a_sweep_with_an_unknown_option_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resnet19"):
        run_multirun(words(tmp_path, tmp_path / "mlruns", "backbone=resnet18,resnet19", "-m"))


def test_an_impossible_combination_is_told_before_anything_is_started(tmp_path: Path) -> None:
    sweep = words(tmp_path, tmp_path / "mlruns", "backbone=resnet18,vit_small", "decoder=pspnet,dpt", "seed=0,1", "-m")
    with pytest.raises(
        ConfigError, match=r"4 of 8 combinations .*backbone=resnet18 decoder=dpt seed=0: decoder.name=dpt"
    ):
        run_multirun(sweep)
    assert not (tmp_path / "mlruns").exists()
    check_combinations(["backbone=resnet18,resnet34", "decoder=unet", "seed=range(0,3)"])
    with pytest.raises(ConfigError, match=r"^tile_size.px=250 does not suit"):
        check_combinations(["tile_size.px=250"])


def test_a_sweep_over_ones_own_yaml(small_data: Path, tmp_path: Path) -> None:
    own = tmp_path / "own" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\n# Mine.\ntrain:\n  epochs: 7\n")
    config = compose_first(["experiment=mine", "seed=0,1"], own.parent)
    assert config.train.epochs == 7
    with pytest.raises(ConfigError, match=r"experiment='nobodys' is not known.*mine.*smoke"):
        compose_first(["experiment=nobodys"], own.parent)


@pytest.mark.parametrize("words", [["--config-dir", "own", "-m"], ["-m", "--config-dir=own"], ["-cd", "own"]])
def test_where_ones_own_yaml_is_told(words: list[str]) -> None:
    assert door.config_dir(words) == Path("own").absolute()
    assert door.config_dir(["-m", "seed=1"]) is None
