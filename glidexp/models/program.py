"""A `.pt2` file of somebody else, looked at before PyTorch reads it, which takes more from it than a network.

`torch.export.load` unpickles what a file says is pickled, loads compiled libraries, evaluates sizes as
Python, and calls any function of torch by its name. What `save_program` writes needs none of that. So a file is taken
apart here, and what PyTorch gets to see is made anew of what is data: weights, and a graph of aten operations.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glidexp.errors import DataError

MODEL = "models/model.json"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_PLAIN = re.compile(
    r"archive_format|archive_version|version|byteorder|\.data/(?:version|serialization_id)|"
    r"data/(?:weights/weight|constants/tensor)_\d+"
)
EMPTY = "data/sample_inputs/model.pt"
_TARGET = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b)\w+\.\w+|math\.(?:ceil|floor|trunc|sqrt)|torch\.sym_(?:max|min|not|ite|int|float)|"
    r"_operator\.(?:add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
)
"""what a node may call: operations on tensors and sizes. `from_file` opens files"""
_SIGNS = re.compile(r"(?:[\w\s+\-*/%(),'=<>!&|]|(?<=\d)\.(?=\d))*")
_ARITHMETIC = (
    "Symbol Integer Rational Float Add Mul Pow Mod Max Min And Or Not Eq Ne Lt Le Gt Ge Equality Unequality LessThan "
    "StrictLessThan GreaterThan StrictGreaterThan FloorDiv CleanDiv PythonMod PowByNatural IntTrueDiv FloatTrueDiv "
    "CeilToInt FloorToInt TruncToInt RoundToInt ToFloat ModularIndexing Where precision positive nonnegative nonzero "
    "integer True False true false"
)
"""words in which a size is told, beside symbols such as s30"""
_DATA = (
    "none int ints float floats bool bools string strings name expr device layout memory_format scalar_type tensor "
    "tensors optional_tensor optional_tensors nested_tensors sym_int sym_ints sym_float sym_floats sym_bool sym_bools"
)
"""kinds of arguments that are data"""
_SPECS = ("builtins.tuple", "builtins.list", "builtins.dict", None)


def as_data(path: Path) -> io.BytesIO:
    """The file made anew of its weights and its graph, for `torch.export.load`.

    Raises:
        DataError: it cannot be read, or holds more than a network
    """
    try:
        with zipfile.ZipFile(path) as held:
            return _anew(held, path.stat().st_size)
    except (OSError, zipfile.BadZipFile, NotImplementedError, RecursionError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{path} cannot be read as a program of torch.export: {reason}.") from None
    except _More as error:
        raise DataError(
            f"{path} is not loaded: {error}, which the program of a network does not need and which could run code."
        ) from None


class _More(Exception):
    """More than data; the message says what."""


def _anew(held: zipfile.ZipFile, size: int) -> io.BytesIO:
    infos = [info for info in held.infolist() if not info.is_dir()]
    if any(info.compress_type != zipfile.ZIP_STORED for info in infos) or sum(info.file_size for info in infos) > size:
        raise _More("it holds packed members")
    top = infos[0].filename.partition("/")[0] if infos else ""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as sink:
        for info in infos:
            name = info.filename.removeprefix(f"{top}/")
            content = held.read(info)
            if name == MODEL:
                content = json.dumps(_graph(json.loads(content))).encode()
            elif name in CONFIGS:
                _check_config(json.loads(content))
            elif not (_PLAIN.fullmatch(name) or (name == EMPTY and not content)):
                raise _More(f"it holds {name[:80]!r}")
            sink.writestr(f"model/{name}", content)
    if len(set(sink.namelist())) != len(infos):
        raise _More("it holds two members of one name")
    made.seek(0)
    return made


def _check_config(config: dict[str, Any]) -> None:
    for name, entry in config["config"].items():
        if entry["use_pickle"] is not False or not re.fullmatch(r"(?:weight|tensor)_\d+", entry["path_name"]):
            raise _More(f"{str(name)[:80]!r} is pickled")


def _graph(model: dict[str, Any]) -> dict[str, Any]:
    """The graph without what was noted about where it came from, checked."""
    model["guards_code"] = []  # code of Python; whoever calls it pads to sizes that it takes
    for text in model["range_constraints"]:
        _check_size(text)
    for key, value in _entries(model["graph_module"]):
        if key == "metadata" and isinstance(value, dict):
            value.clear()
        elif key in ("in_spec", "out_spec"):
            _check_spec(json.loads(value)[1])
        elif key == "target" and isinstance(value, str) and "." in value and not _TARGET.fullmatch(value):
            raise _More(f"it calls {value[:80]!r}")
        elif key == "expr_str":
            _check_size(value)
        elif (key.startswith("as_") and key[3:] not in _DATA.split()) or (
            key in ("custom_obj_values", "treespec_namedtuple_fields") and value
        ):
            raise _More(f"it has {key}")
    for node in model["graph_module"]["graph"]["nodes"]:
        if not _TARGET.fullmatch(node["target"]):
            raise _More(f"it calls {str(node['target'])[:80]!r}")
    return model


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, however deep."""
    if isinstance(value, dict):
        for key, inner in list(value.items()):
            yield key, inner
            yield from _entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner)


def _check_size(text: str) -> None:
    """Refuses what is no arithmetic of sizes: PyTorch has it evaluated."""
    words = re.findall(r"[^\W\d]\w*", text)
    if not _SIGNS.fullmatch(text) or any(
        word not in _ARITHMETIC.split() and not re.fullmatch(r"[su]\d+", word) for word in words
    ):
        raise _More(f"a size is told as {text[:80]!r}")


def _check_spec(spec: dict[str, Any]) -> None:
    """Refuses what is put together of more than tuples, lists and dicts: other kinds have modules imported."""
    if spec["type"] not in _SPECS:
        raise _More(f"it takes or gives a {str(spec['type'])[:80]!r}")
    for inner in spec["children_spec"]:
        _check_spec(inner)
