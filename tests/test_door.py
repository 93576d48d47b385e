"""What a person types wrong is answered in one line with what is allowed, with exit code 2, without a trace."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glidexp import cli, door
from glidexp.errors import ConfigError, GlidexpError, RunFailed
from glidexp.signals import sigterm_as_ctrl_c
from glidexp.study import verb_sweep

ROOT = Path(__file__).resolve().parent.parent

WRONG = {
    "backbone=resnet19": ["backbone", "resnet19", "resnet18", "resnet34"],
    "backbone.nam=x": ["backbone.nam", "backbone.name"],
    "trian.epochs=3": ["trian.epochs", "Did you mean 'train.epochs'"],
    "train.lr=1e-3": ["train.lr", "Did you mean 'optimizer.lr'"],
    "train.seed=3": ["train.seed", "Did you mean 'seed'"],
    "dataset.tile_size=128": ["dataset.tile_size", "Did you mean 'tile_size'"],
    "train.epochs=abc": ["train.epochs=abc is not possible: give a whole number."],
    "train.epochs=1.5": ["train.epochs=1.5 is not possible: give a whole number."],
    "train.epochs=null": ["train.epochs=null is not possible: it needs a value. Leave it out to have its default."],
    "dataset.split=null": ["dataset.split=null is not possible: it needs a value."],
    "tile_size=null": ["tile_size=null is not possible: it needs a value.", "Allowed: 1024, 128, 256"],
    "dataset=scenes dataset.lakes=null dataset.root=.": ["dataset.lakes is not given"],
    "optimizer.lr=fast": ["optimizer.lr=fast is not possible: give a number."],
    "tracking.system_metrics=maybe": ["tracking.system_metrics=maybe is not possible: give true or false."],
    "train.epochs=0": ["train.epochs=0", "at least 1"],
    "train.precision=int8": ["int8", "auto, fp32, bf16, fp16"],
    "resume=maybe": ["maybe", "auto, never"],
    "backbone=resnet18 decoder=dpt": ["dpt", "resnet18", "unet", "vit_small"],
    "backbone=vit_small decoder=pspnet": ["vit_small", "pspnet", "unet", "dpt"],
    "tile_size.px=10000000000000000000": ["tile_size.px=10000000000000000000 is outside 32 to 16384"],
    "tile_size.px=100": ["100", "32", "96 or 128"],
    "tile_size=200": ["200", "128", "256", "512", "1024", "Another one is set as tile_size.px=200."],
    "sensor_mix=lansat8": ["Did you mean 'landsat8'"],
    "sensor_mix.sensors=landsat8": ["it is a list, written sensor_mix.sensors=[A,B] without spaces"],
    "sensor_mix.sensors={a:1}": ["it is a list, written sensor_mix.sensors=[A,B] without spaces"],
    "self_training.regions=[null]": ["self_training.regions=[null] is not possible: null is no name: leave it out"],
    "subset.regions=[[a]]": ["subset.regions is not possible: a list stands in it: write names alone"],
    "dataset.synthetic.sensors=[]": ["dataset.synthetic.sensors=[] makes no scenes: name at least one"],
    "sensor_mix.region_weights=[1]": ["it holds values by name, written 'sensor_mix.region_weights={NAME: VALUE}'"],
    "dataset.stretch=5": ["it holds values by name, written 'dataset.stretch={NAME: VALUE}'"],
    "sensor_mix.sensors=[landsat7]": ["landsat7", "gaofen2, landsat8, sentinel2, worldview2"],
    "experiment=nope": ["nope", "smoke", "glid_paper"],
    "+foo=1": ["foo"],
    "nonsense": ["nonsense", "KEY=VALUE"],
    "seed=[1": ["[1"],
    "optimizer.lr=-1": ["optimizer.lr", "-1"],
    "loss.bce=0 loss.dice=0": ["loss.bce", "above 0"],
    "augmentation.hue=0.9": ["augmentation.hue", "0.9"],
    "--epochs 3": ["there is no option --epochs, but a setting train.epochs=VALUE"],
    "--nonsense=1": ["there is no option --nonsense", "KEY=VALUE"],
    "--cfg jobs": ["--cfg", "invalid choice: 'jobs'"],
    "init=checkpoint": ["init.checkpoint"],
    "dataset=scenes": ["dataset.root"],
    "dataset.split.test=0": ["dataset.split.test=0", "above 0"],
    "seed=-1": ["seed=-1", "outside 0"],
    "sensor_mix.weights.sentinel2=[a]": ["sensor_mix.weights.sentinel2=[a] is not possible: give a number."],
    "sensor_mix.weights={a:b}": ["sensor_mix.weights={a:b} is not possible: give a number."],
    "sensor_mix.weigths.a=3": ["there is no setting 'sensor_mix.weigths.a'"],
    "-m --cfg job seed=0,1": ["--cfg shows one config, and -m runs several"],
    "--config-dir conf train.epochs=x": ["train.epochs=x is not possible: give a whole number."],
    "~seed": ["~seed is not possible", "give seed=VALUE"],
    "~loss": ["~loss is not possible", "give loss=VALUE"],
    "-m ~train.epochs seed=0,1": ["~train.epochs is not possible"],
    "hydra.launcher=foo": ["hydra.launcher=foo is not possible", "hydra/launcher=NAME"],
    "-m hydra/launcher=foo seed=0,1": ["hydra/launcher='foo' is not known", "basic"],
    "train.threads=100000": ["train.threads=100000", "outside 1 to 1024"],
    "decoder.name=unett": ["unett", "Did you mean 'unet'"],
}


@pytest.mark.parametrize("typed", WRONG)
def test_one_line_exit_code_two(typed: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", *typed.split(), f"paths.data={tmp_path}", f"paths.mlruns={tmp_path}"])
    told = capsys.readouterr().err.strip()
    assert stop.value.code == 2
    assert told.count("\n") == 0, told
    assert all(part in told for part in WRONG[typed]), told
    assert not list(tmp_path.iterdir()), "a wrong setting must not leave anything behind"


def test_a_folder_that_was_deleted_under_a_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for verb in ("train", "data", "doctor", "predict"):
        with pytest.raises(SystemExit) as stop:
            cli.main([verb])
        assert stop.value.code == 2
        told = capsys.readouterr().err
        assert told.startswith("glidexp: the current folder is not there any more") and told.count("\n") == 1


def test_models_are_given_in_one_way(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("model=other", "others=[other]"):
        with pytest.raises(SystemExit) as stop:
            cli.main(["evaluate", "1a2b3c4d", word])
        assert stop.value.code == 2
        assert f"{word} does not go with the models 1a2b3c4d: give all as words" in capsys.readouterr().err


def test_wrong_settings_are_told_without_torch_or_mlflow() -> None:
    """Imports are what costs seconds: none of the heavy ones may be loaded by help or by a wrong setting."""
    code = (
        "import sys\nfrom glidexp import cli\n"
        "def attempt(*words):\n"
        "    try: cli.main(['train', *words])\n"
        "    except SystemExit: pass\n"
        "attempt('--help')\nattempt('backbone=resnet18', 'decoder=dpt')\nattempt('sensor_mix.sensors=[x]')\n"
        "heavy = {'torch', 'mlflow', 'timm', 'kornia', 'pandas', 'rasterio', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


def test_help_explains_every_group_and_lists_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--help"])
    page = capsys.readouterr().out
    assert stop.value.code == 0
    for group, meaning in door.GROUPS.items():
        assert f"{group}: {meaning}" in page
        assert all(f"  {name}" in page for name in door.options(group))
    assert {path.name for path in door.conf_dir().iterdir() if path.is_dir()} == {*door.GROUPS, *door.SWEEP_GROUPS}
    page = verb_sweep.help_text(door.SWEEP_GROUPS, door.options)
    for group, meaning in door.SWEEP_GROUPS.items():
        assert f"{group}: {meaning}" in page
        assert all(sentence and f"  {name}" in page for name, sentence in door.options(group).items())


def test_cfg_shows_the_result() -> None:
    shown = subprocess.run(
        [sys.executable, "train.py", "tile_size=512", "seed=3", "--cfg", "job"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "px: 512" in shown.stdout
    assert "seed: 3" in shown.stdout


@pytest.mark.parametrize(
    ("typed", "quoted"),
    [
        ("tile_size=512", "tile_size='512'"),
        ("tile_size=256,512", "tile_size='256','512'"),
        ("seed=0,1", "seed=0,1"),
        ("backbone=resnet18", "backbone=resnet18"),
        ("-m", "-m"),
        ("paths.data=/home/jürgen/a b#1", "paths.data='/home/jürgen/a b#1'"),
        ("+dataset.root=湖", "+dataset.root='湖'"),
        ("paths.data=\udcfc", "paths.data=\udcfc"),  # a byte that is no UTF-8, which not every library takes
        ("dataset.name='ü'", "dataset.name='ü'"),
        ("dataset.bands=[ü]", "dataset.bands=[ü]"),
        ("~paths", "~paths"),
    ],
)
def test_numbers_that_are_names(typed: str, quoted: str) -> None:
    assert door.quoted([typed]) == [quoted]


def test_a_path_of_any_letters_needs_no_quotes_and_a_home_folder_is_told() -> None:
    assert door.compose(["paths.data=/home/jürgen/湖#1"]).paths.data == "/home/jürgen/湖#1"
    with pytest.raises(ConfigError, match=r"^paths\.data=~/x cannot be read: .* write \$HOME\.$"):
        door.compose(["paths.data=~/x"])


def test_a_mistake_found_while_running_keeps_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    def verb(argv: list[str]) -> int:
        raise ConfigError("first\nsecond")

    assert cli.guarded(verb, []) == 2
    assert capsys.readouterr().err == "glidexp: first second\n"


def test_names_that_are_not_utf8_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.guarded(lambda argv: len(argv[0].encode()), ["d\udce4/x"]) == 2, "of whatever library it is"
    assert capsys.readouterr().err == "glidexp: 'd\\udce4/x' is not in UTF-8, as names of files must be: rename it.\n"
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", "m", "s.tif", "--out", "m\udce4ps"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and "--out: 'm\\udce4ps' is not in UTF-8: give a name that is" in said


def test_what_a_disk_refuses_is_told_in_one_line_wherever_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    def verb(argv: list[str]) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

    assert cli.guarded(verb, []) == 1
    assert capsys.readouterr().err.startswith("glidexp: the disk refuses /data/x (No space left on device): free some")
    with pytest.raises(ConnectionResetError):
        cli.guarded(lambda _: (_ for _ in ()).throw(ConnectionResetError()), [])


def test_sigterm_ends_a_verb_as_ctrl_c_does_with_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    def verb(argv: list[str]) -> int:
        with sigterm_as_ctrl_c():
            os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert cli.guarded(verb, []) == 143 and capsys.readouterr().err == "glidexp: stopped by SIGTERM.\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(unbuffered: str) -> None:
    """As behind `| head`: no traceback, and the exit code of a program that SIGPIPE ends."""
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "glidexp", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=ROOT) as ours:
        assert ours.stdout is not None and ours.stderr is not None
        ours.stdout.close()
        told = ours.stderr.read()
    assert ours.returncode == 128 + signal.SIGPIPE and told == b""


def test_output_that_was_closed_is_not_missed() -> None:
    command = 'exec "$0" -m glidexp --help >&-'
    ended = subprocess.run(["sh", "-c", command, sys.executable], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_no_disk_takes_is_told_in_one_line(unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "glidexp", "--help"],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered}, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr == (
        "glidexp: the output cannot be written (No space left on device): free some room, or send it elsewhere.\n"
    )


def test_other_errors_are_not_hidden() -> None:
    def task(composed: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        door.run_hydra(task, [])


def test_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    views = ["predict", "MODEL", "SCENE", "--out", "maps", "--tta", "d8"]
    for words, code in ((["--help"], 0), ([], 2), (["trian"], 2), (["sweep", "--help"], 0), (["sweep"], 2), (views, 2)):
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
        assert stop.value.code == code
    told = capsys.readouterr()
    assert "--tta: invalid choice: 'd8'" in told.err and "<" not in told.err
    assert "no such verb. Did you mean 'train'? Allowed: train, sweep" in told.err
    assert "train, sweep, data, ui, evaluate" in told.err


def test_sweep_without_anything_to_vary() -> None:
    with pytest.raises(GlidexpError, match="nothing varies"):
        cli.sweep(["backbone=resnet18"])


def test_environment_of_hydra_is_put_back() -> None:
    assert sys.argv[0] != "train"
    assert os.environ.get("HYDRA_FULL_ERROR") in (None, "1")


def test_timm_without_a_name_asks_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "backbone=timm"])
    assert stop.value.code == 2
    assert "backbone.name=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "sorted_words"),
    [
        (["seed=0", "-m", "backbone=a,b"], ["seed=0", "backbone=a,b", "-m"]),
        (["--config-dir", "own", "seed=0"], ["seed=0", "--config-dir", "own"]),
        (["--cfg", "job", "seed=0", "--resolve"], ["seed=0", "--cfg", "job", "--resolve"]),
    ],
)
def test_overrides_may_stand_anywhere(typed: list[str], sorted_words: list[str]) -> None:
    assert door.overrides_first(typed) == sorted_words


def test_a_run_that_failed_by_itself_is_no_mistake_of_the_user() -> None:
    def verb(argv: list[str]) -> int:
        raise RunFailed("the loss is nan")

    assert cli.guarded(verb, []) == 1
