"""The docs: links lead somewhere, pictures are small, command lines are possible, the page of settings is complete."""

import ast
import functools
import re
import shlex
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ValidationError

from glidexp import cli, door
from glidexp.config import Config, DatasetConfig, evaluation, flat, load
from glidexp.config.unread import refuse_unread
from glidexp.data import verbs
from glidexp.data.store import COLUMNS, INVENTORY_SCHEMA, TileStore
from glidexp.errors import ConfigError, DataError
from glidexp.mapping import verb_assess, verb_inventory, verb_predict, verb_sample, verb_series
from glidexp.release import verb_qgis, verb_release, verb_verify
from glidexp.serving import verb_serve
from glidexp.study import verb_compare, verb_transfer, verb_validity
from glidexp.study.comparison.compare import measure_of
from glidexp.study.plan.making import all_checked
from glidexp.study.plan.words import split
from glidexp.training.check import SELECTABLE, check, check_data

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
PLACE = re.compile(r"`((?:docs|glidexp|conf|tests|bench|\.ci)/[\w./*-]*[\w/])`")
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]{2,}|<[^>]+>|\.\.\.")
"""A word in capitals, in angle brackets or three dots stands for something of the reader's own."""
SMALL = 200 * 1024
GIVEN = ("root", "lakes", "glaciers", "manifest", "sensors_file")
"""keys of `dataset` that name files"""
FILES = tuple(f"dataset.{key}=" for key in GIVEN)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def anchors(path: Path) -> list[str]:
    """Names of a page's headings as GitHub makes them: lower case, no signs, spaces to hyphens."""
    prose = FENCE.sub("", path.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+)$", prose, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        at = f"{path.name} links to {target}"
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), at
        # of two headings of one name a link takes the first, which the writer may not have meant
        assert not heading or anchors(file).count(heading) == 1, f"{at}: no such heading, or two"


def test_every_page_is_reached_from_the_readme() -> None:
    seen, ahead = set(), [PAGES[0]]
    while ahead:
        path = ahead.pop()
        seen.add(path)
        names = {target.partition("#")[0] for target in LINK.findall(path.read_text(encoding="utf-8"))}
        files = {(path.parent / name).resolve() for name in names if name.endswith(".md") and ":" not in name}
        ahead += [file for file in files if file not in seen]
    assert not [path.name for path in PAGES if path not in seen]


def test_pages_named_in_the_code_are_there() -> None:
    """Messages and docstrings send a reader to a page; one that was moved must take them along."""
    folders = [ROOT / name for name in ("glidexp", "tests", "bench", "conf")]
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".yaml", ".html")]
    named = 0
    for file in files:
        for name, heading in re.findall(r"\bdocs/(\w+\.md)(?:#([\w-]+))?", file.read_text(encoding="utf-8")):
            page_of = ROOT / "docs" / name
            assert page_of.exists(), f"{file.relative_to(ROOT)} names docs/{name}"
            assert not heading or heading in anchors(page_of), f"{file.relative_to(ROOT)} names docs/{name}#{heading}"
            named += 1
    assert named > 5


LONG = 2000
"""words from which on a page says at its beginning what is on it"""
READ_THROUGH = ("README.md", "LOG.md", "DESIGN.md")
"""the way in, a diary by date, and a page for those who build"""


@pytest.mark.parametrize("path", [path for path in PAGES if path.name not in READ_THROUGH], ids=lambda path: path.name)
def test_a_page_shows_a_command_first_and_a_long_one_its_contents(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    top, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    assert FENCE.search(top), f"{path.name}: no command above the first heading"
    if len(text.split()) > LONG:
        inside = [target for target in LINK.findall(top) if target.startswith("#")]
        assert len(inside) >= len(sections) / 2, f"{path.name} is long and does not say what is on it"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_places_in_the_tree_exist(path: Path) -> None:
    # conf/GROUP/OPTION.yaml and the like stand for many files
    for place in PLACE.findall(path.read_text(encoding="utf-8")):
        if not PLACEHOLDER.search(place):
            assert list(ROOT.glob(place.rstrip("/"))), f"{path.name} names {place}"


def test_the_page_of_the_house_names_modules_that_are_there() -> None:
    rooms = page("DESIGN.md").split("## The rooms")[1].split("\n## ")[0]
    named = set(re.findall(r"`(?:\w+/)*(\w+\*?)`", rooms))
    there = [path.stem for path in (ROOT / "glidexp").rglob("*.py")]
    assert len(named) > 200
    assert not [name for name in named if not any(fnmatch(stem, name) for stem in there)]


def test_pictures_are_small() -> None:
    pictures = [file for file in (ROOT / "docs" / "img").iterdir() if file.is_file()]
    assert pictures
    assert {file.name: file.stat().st_size for file in pictures if file.stat().st_size > SMALL} == {}


def command_lines() -> list[tuple[str, str]]:
    """(page, line) of every command that ours answer, comments left out."""
    found = []
    for path in PAGES:
        for _, block in FENCE.findall(path.read_text(encoding="utf-8")):
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                words = line.split("#")[0].strip()
                if re.match(r"(python (train|sweep)\.py|glidexp)( |$)", words):
                    found.append((path.name, words))
    return found


COMMANDS = command_lines()


def test_there_are_commands_on_every_page_of_the_guide() -> None:
    assert {"first_run.md", "configs.md", "data.md", "scenes.md"} <= {name for name, _ in COMMANDS}
    assert len(COMMANDS) > 20


@pytest.mark.parametrize(("name", "line"), COMMANDS, ids=[f"{name}: {line}"[:90] for name, line in COMMANDS])
def test_a_command_line_is_possible(name: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It composes and passes `check`, nothing runs.

    The rule for a reader's own files, which are in capitals: the line is composed as it stands, then data that is not
    here is replaced by generated scenes, and a sensor of the reader's own by `unknown`.
    """
    program, *words = shlex.split(line)
    if program == "python":
        words = [words[0].removesuffix(".py"), *words[1:]]
    verb, arguments = words[0], words[1:]
    if {"--help", "-h"} & {*arguments} or verb in ("ui", "doctor", "sync"):
        with pytest.raises(SystemExit) as ended:
            cli.main([verb, *(word for word in arguments if word not in ("--help", "-h")), "--help"])
        assert ended.value.code == 0
        assert capsys.readouterr().out
        return
    if verb == "data":  # options and settings are possible
        module = import_module(f"glidexp.data.verbs.{verbs.VERBS[arguments[0]][0]}")
        given = module.options().parse_intermixed_args(arguments[1:])
        composed(door.quoted([word for word in getattr(given, "words", []) if "=" in word]))
        return
    if verb == "compare":
        assert measure_of(verb_compare.options().parse_args(arguments).score)
        return
    if verb == "predict":
        assert verb_predict.options().parse_intermixed_args(arguments).out
        return
    if verb == "serve":
        assert verb_serve.options().parse_args(arguments).model
        return
    if verb == "inventory":
        module = {"diff": verb_inventory, "series": verb_series, "sample": verb_sample, "assess": verb_assess}[
            arguments[0]
        ]
        given = module.options().parse_args(arguments[1:])
        assert getattr(given, "old", None) or len(given.maps) > (arguments[0] == "series")
        return
    if verb == "release":
        given = verb_release.options().parse_args(arguments)
        assert re.fullmatch(verb_release.NAME, given.name) and (given.score is None or measure_of(given.score))
        assert given.rollback != bool(given.runs)
        return
    if verb == "qgis":
        assert verb_qgis.options().parse_intermixed_args(arguments).out.endswith(verb_qgis.ENDING)
        return
    if verb == "verify":
        assert verb_verify.options().parse_args(arguments).bundle
        return
    if verb == "transfer":
        assert measure_of(verb_transfer.options().parse_args(arguments).score)
        return
    if verb == "validity":
        given = verb_validity.options().parse_intermixed_args(arguments)
        assert given.model and door.compose_evaluation([word for word in given.things if "=" in word])
        return
    if verb == "audit":  # reads nothing and writes nothing
        assert cli.audit(arguments) == 0 and capsys.readouterr().out
        return
    if verb == "evaluate":
        models, overrides = door.models_and_overrides(arguments)
        scored = door.compose_evaluation(overrides)
        assert models
        asked = scored.dataset
        if asked.kind != "synthetic" and any(PLACEHOLDER.search(str(getattr(asked, key))) for key in GIVEN):
            refuse_unread(asked)
            asked = DatasetConfig(split=asked.split)
        check_data(asked, scored.tile_size.px, scored.sensor_mix)
        return
    if verb == "sweep":  # every arm is composed and checked
        files = [word for word in arguments if word.startswith(FILES) and PLACEHOLDER.search(word)]
        if files:
            asked = composed(door.quoted([word for word in arguments if re.match(r"dataset[.=]", word)])).dataset
            assert asked.kind != "synthetic" and asked.root, f"{name}: {line} names files that its data does not read"
            arguments = [word for word in arguments if word not in files and not word.startswith("dataset=")]
        typed = split(arguments)
        study = door.compose_sweep(list(typed.own)).study
        assert all_checked(study, typed, door.compose, 0)
        return
    assert verb == "train", f"{name}: glidexp has no verb {verb}"
    folders = own_folder(tmp_path) if "--config-dir" in arguments else None
    overrides = [word for word in door.quoted(arguments) if "=" in word]
    for single in combinations(overrides):
        config = composed(single, folders)
        data = config.dataset
        if data.kind != "synthetic" and any(PLACEHOLDER.search(str(getattr(data, key))) for key in GIVEN):
            assert data.root, f"{name}: {line} reads data and names none"
            refuse_unread(data)
            config.dataset = DatasetConfig(split=data.split, classes="generated" if data.classes else None)
        check(config)


def combinations(overrides: list[str]) -> list[list[str]]:
    """What a multirun makes of overrides: every combination of their options."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    out: list[list[str]] = [[]]
    for item in OverridesParser.create().parse_overrides(overrides):
        if item.is_sweep_override():
            values = [f"{item.get_key_element()}={value}" for value in item.sweep_string_iterator()]
            out = [[*words, value] for words in out for value in values]
        else:
            out = [[*words, str(item.input_line)] for words in out]
    return out


def own_folder(tmp_path: Path) -> Path:
    """A folder of somebody's own, filled with the YAML that the guide shows."""
    (block,) = [text for kind, text in FENCE.findall(page("first_run.md")) if kind == "yaml"]
    path = tmp_path / "experiment" / "khumbu.yaml"
    path.parent.mkdir()
    path.write_text(block)
    return tmp_path


def composed(overrides: list[str], own: Path | None = None) -> Config:
    more = [f"hydra.searchpath=[file://{own}]"] if own else []
    return door.compose([*more, *overrides])


# --- configs.md -------------------------------------------------------------------------------------------------------


def rows(text: str, head: str) -> dict[str, list[str]]:
    """Cells of all tables whose first column is called `head`, by the first cell."""
    found: dict[str, list[str]] = {}
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        inside = bool(cells) and (inside or cells[0] == head)
        if inside and cells[0].startswith("`"):
            assert cells[0] not in found, f"{cells[0]} stands twice"
            found[cells[0].strip("`")] = [cell.strip("`") for cell in cells[1:]]
    return found


KEYS = rows(page("configs.md"), "key")


@functools.cache
def defaults() -> dict[str, Any]:
    """What `python train.py` composes."""
    return flat(OmegaConf.to_object(OmegaConf.structured(composed([]))))


def test_every_key_is_explained_with_its_default() -> None:
    assert set(KEYS) == set(flat(Config()))
    told = {key: yaml.safe_load(cells[0]) for key, cells in KEYS.items()}
    assert told == defaults()


def test_settings_of_evaluate_are_explained_with_their_defaults() -> None:
    told = {key: yaml.safe_load(cells[0]) for key, cells in rows(page("evaluate.md"), "setting").items()}
    of_training = [f"{group}." for group in ("dataset", "sensor_mix", "tile_size", "tracking", "paths")]
    known = flat(evaluation.EvaluateConfig())
    own = {key for key in known if not key.startswith(tuple(of_training)) and key not in ("model", "others", "resume")}
    assert told == {key: known[key] for key in own}


def test_every_option_is_listed_with_its_sentence() -> None:
    text = page("configs.md")
    for group, meaning in door.GROUPS.items():
        part = text.split(f"\n### {group}\n")[1].split("\n### ")[0].split("\n## ")[0]
        told = {option: cells[0].replace("\\|", "|") for option, cells in rows(part, "option").items()}
        assert told == door.options(group), f"{group}: {meaning}"


def outside(cell: str, default: Any) -> list[Any]:
    """Values just outside a range as the page writes it; "-" promises nothing."""
    number = r"(-?[\d.]+)"
    if found := re.fullmatch(rf"{number} or more", cell):
        return [int(found[1]) - 1]
    if found := re.fullmatch(rf"above {number}", cell):
        return [float(found[1])]
    if found := re.fullmatch(rf"{number} to {number}", cell):
        if isinstance(default, int):
            return [int(found[1]) - 1, int(found[2]) + 1]
        return [float(found[1]) - 0.01, float(found[2]) + 0.01]
    if found := re.fullmatch(rf"\[{number}, {number}\]", cell):
        return [[float(found[1]) - 0.01, float(found[2])], [float(found[1]), float(found[2]) + 0.01]]
    assert cell == "-" or ", " in cell, f"'{cell}' is no range"
    return [] if cell == "-" or isinstance(default, bool) else ["nothing_of_these"]


def inside(cell: str, default: Any) -> list[Any]:
    """Values at the ends of a range."""
    number = r"(-?[\d.]+)"
    if found := re.fullmatch(rf"{number} or more", cell):
        return [int(found[1])]
    if found := re.fullmatch(rf"{number} to {number}", cell):
        return [int(end) if isinstance(default, int) else float(end) for end in found.groups()]
    if found := re.fullmatch(rf"\[{number}, {number}\]", cell):
        return [[float(found[1]), float(found[2])]]
    return cell.split(", ") if ", " in cell and not isinstance(default, bool) else []


def settings(values: dict[str, Any]) -> dict[str, Any]:
    """All settings of the section that these belong to, checked as `load` checks them, at a tenth of its time."""
    (section,) = {key.split(".")[0] for key in values}
    if "." not in next(iter(values)):
        schema: DictConfig = OmegaConf.structured(Config)
        OmegaConf.update(schema, section, values[section])
        return flat(load(schema))
    schema = OmegaConf.structured(type(getattr(Config(), section)))
    for key, value in values.items():
        OmegaConf.update(schema, key.partition(".")[2], value)
    return {f"{section}.{name}": value for name, value in flat(OmegaConf.to_object(schema)).items()}


# a share of 1 leaves nothing to train, a checkpoint needs its path, and a loss needs a term above 0
NEEDS: dict[tuple[str, Any], dict[str, Any]] = {
    ("init.kind", "checkpoint"): {"init.checkpoint": "x.safetensors"},
    ("init.kind", "external"): {"init.checkpoint": "x.pth", "init.scope": "encoder"},
    ("init.kind", "run"): {"init.run": "0123abcd"},
    ("loss.bce", 0): {"loss.dice": 1.0},
    ("loss.dice", 0): {"loss.bce": 1.0},
}
NOT_AT_ITS_END = ("dataset.split.val", "dataset.split.test")


@pytest.mark.parametrize("key", [key for key, cells in KEYS.items() if cells[1] != "-"])
def test_ranges_are_those_of_the_code(key: str) -> None:
    cell = KEYS[key][1]
    for value in inside(cell, defaults()[key]):
        if key in NOT_AT_ITS_END and value == 1:
            continue
        more = NEEDS.get((key, value), {}) if not isinstance(value, list) else {}
        assert settings({**more, key: value})[key] == value
    for value in outside(cell, defaults()[key]):
        with pytest.raises((ConfigError, ValidationError)):
            settings({key: value})


def test_scores_that_choose_are_told() -> None:
    text = page("configs.md").split("`train.select` takes")[1].split("\n\n")[0]
    for name in SELECTABLE:
        score = name.removeprefix("val/").removeprefix("at_0.5/")
        for how in ("_pooled", "_per_image", "_per_scene"):
            score = score.removesuffix(how)
        assert score in text, name


def test_what_the_paper_gives_is_what_the_experiment_says() -> None:
    """Values on the page are those of the file, and "given" means the same."""
    lines = (ROOT / "conf" / "experiment" / "glid_paper.yaml").read_text().splitlines()
    given = {line.split("/")[1].split(":")[0] for line in lines if "override /" in line and "# given" in line}
    assert given == {"dataset", "tile_size", "backbone", "decoder"}
    table = page("configs.md").split("## What the paper gives")[1].split("\n## ")[0]
    yes = [line for line in table.splitlines() if re.search(r"\| yes[^|]*\|$", line)]
    assert len(yes) == len(given)


# --- store.md and data.md ---------------------------------------------------------------------------------------------


def test_the_store_is_explained_whole(small_data: Path) -> None:
    """Every column, every key of a manifest, every sensor of the registry."""
    from glidexp.data import sensors

    text = page("store.md")
    columns = re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in section(text, "**Columns of the index**")))
    assert columns == list(COLUMNS)
    rows = section(text, "**Columns of the inventory**")
    assert sorted(re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in rows))) == sorted(
        INVENTORY_SCHEMA.names
    )
    keys = re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in section(text, "**Keys of the manifest**")))
    assert set(keys) == set(opened(small_data).manifest)
    known = page("data.md").split("Known are")[1].split("(")[0].replace("`", "").split()
    assert sorted(known) == sensors.names()


def section(text: str, title: str) -> list[str]:
    """Rows of the table below a title, its head left out."""
    lines = text.split(title)[1].lstrip("\n").splitlines()
    table = lines[: next(i for i, line in enumerate(lines) if not line.startswith("|"))]
    return table[2:]


def opened(data: Path) -> TileStore:
    for path in sorted((data / "stores").iterdir()):
        if path.is_dir():
            return TileStore.open(path)
    raise DataError(f"{data} holds no store")


def test_python_on_the_pages_is_python() -> None:
    for path in PAGES:
        for kind, block in FENCE.findall(path.read_text(encoding="utf-8")):
            if kind == "python":
                ast.parse(block)
                # without it MLflow looks for the name in a database that it makes in the current folder
                assert "load_model(" not in block or "mlflow.set_tracking_uri(" in block, path
