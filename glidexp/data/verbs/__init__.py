"""`glidexp data VERB`: a table of verbs. Each is a module of this room, imported when it is called.

A verb's module has a function `run(argv, compose)`: its own options, then what it does, then the exit code. `compose`
turns Hydra overrides into the whole Config, as `python train.py` does.
"""

from collections.abc import Callable
from importlib import import_module

from glidexp.config import Config
from glidexp.data.verbs.verb_suspects import AnswerOf
from glidexp.errors import unknown_name

Compose = Callable[[list[str]], Config]
VERBS = {
    "build": ("verb_build", "scenes and outlines to a store: cut, stretched, rasterised, shared out"),
    "import": ("verb_import", "ready tiles to a store: the published GLID, folders, archives, COCO"),
    "show": ("verb_show", "what a store is, and a sheet of its tiles"),
    "check": ("verb_check", "a store's damage, odd tiles, doubtful masks, and ground on two sides"),
    "suspects": ("verb_suspects", "lakes where picture, mask and a model disagree, for QGIS"),
    "diff": ("verb_diff", "what changed between two versions of outlines or of a store"),
    "export": ("verb_export", "a store to PNG folders, COCO, GeoTIFF or Croissant"),
}
"""name: (module of this room, what it does)"""


def main(argv: list[str], compose: Compose, answer_of: AnswerOf | None = None) -> int:
    """Calls one verb and gives its exit code.

    Args:
        argv: the verb and its words
        compose: overrides to the whole config
        answer_of: asks a network about tiles, which this room cannot

    Raises:
        ConfigError: no such verb
    """
    if not argv or argv[0] in ("-h", "--help"):
        width = max(len(verb) for verb in VERBS)
        print("Usage: glidexp data VERB [...]\n")
        print("\n".join(f"  {verb:<{width}}  {meaning}" for verb, (_, meaning) in VERBS.items()))
        print("\nEach verb explains itself with --help.")
        return 0 if argv else 2
    if argv[0] not in VERBS:
        raise unknown_name("glidexp data", argv[0], VERBS)
    module = import_module(f"glidexp.data.verbs.{VERBS[argv[0]][0]}")
    code: int = module.run(argv[1:], compose, *([answer_of] if argv[0] == "suspects" else []))
    return code
