"""Stores that an earlier version built from the same settings and files: told, not taken, as their tiles are others."""

import json
from pathlib import Path
from typing import Any

VERSIONS = ("build", "read", "copies", "places", "generator")
"""keys of a recipe that say in which way settings and files become tiles"""
COPIES_VERSION = 2
"""bumped when other ready tiles are taken for the same ground, and so put on one side; not of the published set.
2: their grain has to agree"""
PLACES_VERSION = 2
"""bumped when ready tiles whose places are known are taken for the same ground otherwise; of those that may lie in
several CRSs. 2: they are compared across these"""
FIRST = 1
"""of a recipe that does not say its own"""


def differs(earlier: dict[str, Any], recipe: dict[str, Any]) -> str:
    """In which versions alone two recipes differ, such as `read 1 -> 2`; empty where they are equal or differ in more.

    Args:
        earlier: of a store that is there
        recipe: that is wanted
    """
    if {key: value for key, value in earlier.items() if key not in VERSIONS} != {
        key: value for key, value in recipe.items() if key not in VERSIONS
    }:
        return ""
    changed = [key for key in VERSIONS if earlier.get(key, FIRST) != recipe.get(key, FIRST)]
    return ", ".join(f"{key} {earlier.get(key, FIRST)} -> {recipe.get(key, FIRST)}" for key in changed)


def built_before(stores: Path, recipe: dict[str, Any]) -> list[str]:
    """A sentence for each store of a folder that is of the same settings and files, but of an earlier version."""
    wanted, said = json.loads(json.dumps(recipe)), []
    for path in sorted(stores.glob("*/manifest.json")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["recipe"]
            changed = differs(found, wanted)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no store; whoever opens it is told
            continue
        if changed:
            said.append(
                f"{path.parent} is of the same settings and files, built by an earlier version whose tiles may be "
                f"others ({changed}): they are built anew beside it, and runs on them are new runs. It stays; delete "
                "it once no run on it is to be gone on with."
            )
    return said
