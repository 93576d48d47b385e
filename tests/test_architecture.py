"""The house holds: floors import downwards, one owner for each outside library, small files, no drawers."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "glidexp"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = [
    "errors",
    "wording",
    "beside",
    "options",
    "config",
    "identity",
    "signals",
    "tracking",
    "data",
    "scoring",
    "models",
]
FLOORS += ["models", "mapping", "serving", "training", "study", "release", "composing", "explaining"]
FLOORS += ["own_yaml", "door", "cli"]
"""bottom to top; a module may import its own floor and those before it"""

RUN = ["check", "device", "watch", "distance", "losses", "optim", "freezing", "averages", "parts", "checkpoint"]
RUN += ["progress", "loop", "bands", "evaluate", "final", "judge", "record", "land_cover"]
"""bottom to top, what a run is made of: modules at the top of training/"""

ROOMS = {
    "training": ["processes", "augmentation", *RUN, "beginning", "run", "multirun", "rescoring", "doctor"],
    "study": ["names", "execution", "comparison", "plan", "tune", "report", "validity"],
}
"""bottom to top, of a floor that has rooms; its verbs stand on all of them"""

OWNERS = {
    "mlflow": {"tracking"},
    "hydra": {"config", "composing", "explaining", "door", "cli", "tracking", "training/multirun", "study/plan/words"},
    "rasterio": {"data", "mapping", "serving"},
    "geopandas": {"data", "mapping", "serving"},
    "pyogrio": {"data", "mapping"},
    "scipy": {"data", "scoring", "mapping"},
    "segmentation_models_pytorch": {"models"},
    "timm": {"models"},
    "peft": {"models/adapters"},
    "kornia": {"training"},
    "optuna": {"study/tune/trials"},
    "ray": {"study/execution/launchers/ray"},
    "submitit": {"study/execution/launchers/slurm"},
    "onnxruntime": {"release"},
    "fastapi": {"serving"},
    "fastapi_offline": {"serving"},
    "starlette": {"serving"},
    "uvicorn": {"serving"},
    "python_multipart": {"serving"},
    "matplotlib": {"scoring", "data", "tracking"},
}
"""outside libraries and the rooms that may know them"""

LATE_DOORS = {
    "training/multirun": {"glidexp.door", "glidexp.cli"},
    "study/execution/work": {"glidexp.door", "glidexp.cli"},
    "study/execution/provide": {"glidexp.door"},
}
"""modules that stand for many calls of a door, and what they may import of it, late"""

NO_DRAWERS = {"utils", "common", "helpers", "base", "misc"}
LONGEST = 330
LONGEST_FUNCTION = 60
"""lines, without its docstring"""
WHOLE = {"training/loop.fit"}
"""written out in one piece, so that a training can be read from top to bottom"""


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names a module imports at run time, late imports included, type-checking blocks left out."""
    found: set[str] = set()

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                walk(child)
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(tree_of(path))
    return frozenset(found)


def floor(dotted: str) -> int | None:
    parts = dotted.split(".")
    return FLOORS.index(parts[1]) if parts[0] == "glidexp" and len(parts) > 1 and parts[1] in FLOORS else None


@pytest.mark.parametrize("floor_name", ROOMS)
def test_rooms_of_a_floor_import_downwards(floor_name: str) -> None:
    order, here = ROOMS[floor_name], PACKAGE / floor_name
    assert {folder.parent.name for folder in here.glob("*/__init__.py")} <= set(order)
    assert set(order) <= {path.stem for path in here.iterdir()}
    for path in here.rglob("*.py"):
        room = path.relative_to(here).with_suffix("").parts[0]
        found = {name.split(".")[2] for name in imports(path) if name.startswith(f"glidexp.{floor_name}.")}
        if room in order:
            above = found - set(order[: order.index(room) + 1])
            assert not above, f"{path.relative_to(PACKAGE)} reaches up to {above}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_knows_its_room(path: Path) -> None:
    room = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    own = floor(room)
    place = "/".join(path.relative_to(PACKAGE).with_suffix("").parts)
    if own is not None:
        above = {name for name in imports(path) if (floor(name) or 0) > own}
        late_doors = LATE_DOORS.get(place, set())
        above = {name for name in above if not any(name.startswith(door) for door in late_doors)}
        if place in (
            "tracking/pyfunc_model",
            "tracking/pyfunc_release",
        ):  # run by MLflow in a process of its own; nothing here imports it
            above = set()
        assert not above, f"{room} reaches up to {above}"
    for library, owners in OWNERS.items():
        if any(name.split(".")[0] == library for name in imports(path)):
            assert place.split("/")[0] in owners or place in owners, f"{room} imports {library}, which {owners} own"
    assert path.stem not in NO_DRAWERS
    assert len(path.read_text().splitlines()) <= LONGEST
    tree = tree_of(path)
    assert path.stat().st_size == 0 or ast.get_docstring(tree), f"{room} has no docstring"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            small = isinstance(node, ast.ClassDef) and len(node.body) <= 1
            assert small or ast.get_docstring(node) or node.name in ENUMS, f"{room}.{node.name} has no docstring"


ENUMS = {
    node.name
    for path in (PACKAGE / "config").glob("*.py")
    for node in tree_of(path).body
    if isinstance(node, ast.ClassDef)
}  # fmt: skip
"""the classes of glidexp/config document their fields"""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_function_is_read_at_a_glance(path: Path) -> None:
    place = "/".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or f"{place}.{node.name}" in WHOLE:
            continue
        assert node.end_lineno is not None
        lines = node.end_lineno - node.lineno + 1
        if ast.get_docstring(node):
            text = node.body[0]
            lines -= (text.end_lineno or text.lineno) - text.lineno + 1
        assert lines <= LONGEST_FUNCTION, f"{place}.{node.name} has {lines} lines: split it where it does another thing"


def test_every_folder_is_a_floor() -> None:
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert names - set(FLOORS) == {"__init__", "__main__"}


@pytest.mark.parametrize(
    ("place", "function", "calls"),
    [
        ("cli", "train_one", "run"),
        ("training/run", "run", "fit"),
        ("training/loop", "fit", "scaler.scale(loss / together).backward"),
    ],
)
def test_three_calls_from_the_door_to_the_gradient(place: str, function: str, calls: str) -> None:
    """Each stands in the function itself: not in one inside it, nor in one that it calls."""
    (found,) = [
        node
        for node in tree_of(PACKAGE / f"{place}.py").body
        if isinstance(node, ast.FunctionDef) and node.name == function
    ]

    def own(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
                yield child
                yield from own(child)

    called = [ast.unparse(node.func) for node in own(found) if isinstance(node, ast.Call)]
    assert called.count(calls) == 1
