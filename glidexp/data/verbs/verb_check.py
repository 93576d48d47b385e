"""`glidexp data check`: what may be wrong with a store, as a table, as pictures and as check.json."""

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glidexp.beside import write_text
from glidexp.options import Parser, data_option, out_folder
from glidexp.wording import many

if TYPE_CHECKING:
    import pandas as pd

    from glidexp.data.check.faults import Finding, Survey
    from glidexp.data.steps import Step
    from glidexp.data.store import TileStore
    from glidexp.data.verbs import Compose

ACCOUNT, MASKS = "check.json", "masks.csv"
"""the first is written last: it vouches for the pictures that it names"""
SHOWN = 1500
"""pictures of pairs that are drawn for a finding"""
WORST = 24
"""masks on the sheet of those that contradict their picture"""
SIDE_PX = 256


def options() -> Parser:
    """What the verb takes."""
    parser = Parser(
        prog="glidexp data check",
        description="Reads every tile of a store and tells what may be wrong: damage, odd tiles, masks that contradict "
        "the picture, copies (flipped, turned, moved) and overlapping ground between sides. Exit code 1: test ground "
        "was trained on, or tiles are damaged.",
    )
    parser.add_argument("store", metavar="STORE", help="folder of a store, or its id below paths.data/stores")
    parser.add_argument(
        "--against",
        metavar="STORE",
        help="another store, as of a pre-training: ground of its train side must not be test here, nor the reverse",
    )
    parser.add_argument("--out", metavar="FOLDER", help="pictures and tables (default: outputs/check/ID)")
    data_option(parser)
    return parser


def run(argv: list[str], compose: "Compose") -> int:
    """Checks, writes, prints; gives the exit code."""
    given = options().parse_args(argv)
    from glidexp.data.check import faults, near, pairs
    from glidexp.data.steps import shown_steps
    from glidexp.data.store import opened

    store = opened(given.store, Path(given.data))
    other = opened(given.against, Path(given.data)) if given.against else None
    out = Path(given.out or Path("outputs") / "check" / store.path.name)
    with out_folder(out):  # before minutes are spent
        out.mkdir(parents=True, exist_ok=True)
    with shown_steps(len(store) + (len(other) if other else 0), "tiles", True) as step:
        seen = faults.survey(store, step)
        theirs = near.look_at(other, other.every, step=step) if other else None
    findings = faults.odd_tiles(store, seen) + faults.inventory(store)
    balance, odd = faults.balance(store)
    with shown_steps(len(store), "masks", True, what="masks against pictures") as step:
        masks, doubted = faults.masks(store, seen, step)
    findings += odd + doubted + faults.scenes_on_two_sides(store) + faults.lakes_on_two_sides(store)
    where = f" with {other.path.name}" if other else ""
    looked_up = len(store) + (len(store) + len(other) if other else 0)
    with shown_steps(looked_up, "tiles", True, what="ground", late=True) as step:
        within = pairs.overlaps(store, None, step)
        between = pairs.overlaps(store, other, step, where=where) if other else []
    parts = near.parts(len(store)) + (near.parts(len(store), len(other)) if other else 0)
    with shown_steps(parts, "comparisons", True) as step:
        findings += pairs.copies(seen.looks, None, step) + within
        if theirs is not None:
            findings += pairs.copies(seen.looks, theirs, step, where=where) + between
    findings.sort(key=lambda f: list(faults.Severity).index(f.severity))
    _forget(out)
    with shown_steps(sum(map(_sheets, findings)), "pictures", True, what="pictures", late=True) as step:
        for number, finding in enumerate(findings):
            second = other if " with " in finding.what and other is not None else store
            _draw(finding, number, store, second, masks, out, step)
    write_text(out / MASKS, masks.drop(columns="row").to_csv(index=False, float_format="%.4f"))
    content = _content(store, other, findings, balance, seen, masks)
    write_text(out / ACCOUNT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    _say(store, findings, balance, seen, out)
    return int(any(f.severity is faults.Severity.leak or f.kind == "damaged" for f in findings))


def _forget(out: Path) -> None:
    """Removes an earlier check's pictures and account, which would be taken for those of this one."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        for finding in json.loads((out / ACCOUNT).read_text(encoding="utf-8"))["findings"]:
            for name in finding["pictures"]:
                (out / Path(name).name).unlink(missing_ok=True)
    (out / ACCOUNT).unlink(missing_ok=True)


def _sheets(finding: "Finding") -> int:
    """How many pictures are drawn of a finding."""
    return int(bool(finding.tiles)) if finding.pairs is None else min(len(finding.pairs), SHOWN)


def _draw(
    finding: "Finding", number: int, store: "TileStore", other: "TileStore", masks: "pd.DataFrame", out: Path,
    step: "Step",
) -> None:  # fmt: skip
    """Both pictures of each pair; a sheet of the masks that are doubted most. `step` is told of each."""
    from glidexp.data.show.gallery import picture, save, sheet

    if finding.pairs is not None:
        for place, pair in enumerate(finding.pairs.head(SHOWN).to_dict("records")):
            a, b = int(pair["a"]), int(pair["b"])
            captions = [
                f"{tiles.index['split'].iat[row]}: {tiles.index['tile'].iat[row]}"
                for tiles, row in ((store, a), (other, b))
            ]
            name = f"{number:02d}-{finding.severity}-{finding.kind}-{place:03d}.png"
            both = [picture(store, a, SIDE_PX), picture(other, b, SIDE_PX)]
            save(sheet(both, captions, columns=2), out / name)
            finding.pictures.append(name)
            step("")
    elif finding.kind == "mask":
        worst = masks.head(WORST).to_dict("records")
        captions = [f"{row['doubt']:.2f} {row['tile']}" for row in worst]
        pictures = [picture(store, int(row["row"]), SIDE_PX) for row in worst]
        save(sheet(pictures, captions, columns=6, title="Masks that contradict their picture most"), out / "masks.png")
        finding.pictures.append("masks.png")
        step("")
    elif finding.tiles:
        rows = store.index.index[store.index["tile"].isin(finding.tiles)][:WORST]
        pictures = [picture(store, int(row), SIDE_PX // 2) for row in rows]
        name = f"{number:02d}-{finding.severity}-{finding.kind}.png"
        save(sheet(pictures, store.index["tile"].iloc[rows].tolist(), columns=6, title=finding.what), out / name)
        finding.pictures.append(name)
        step("")


def _content(
    store: "TileStore",
    other: "TileStore | None",
    findings: "list[Finding]",
    balance: "pd.DataFrame",
    seen: "Survey",
    masks: "pd.DataFrame",
) -> dict[str, Any]:
    def pairs(finding: "Finding") -> list[dict[str, Any]]:
        if finding.pairs is None:
            return []
        second = other if other is not None and " with " in finding.what else store
        table = finding.pairs.assign(
            a=store.index["tile"].to_numpy()[finding.pairs["a"].to_numpy(int)],
            b=second.index["tile"].to_numpy()[finding.pairs["b"].to_numpy(int)],
        )
        return [{str(key): None if v != v else v for key, v in row.items()} for row in table.to_dict("records")]

    return {
        "store": str(store.path),
        "data_hash": store.data_hash,
        "against": str(other.path) if other else None,
        "findings": [
            {"severity": str(f.severity), "kind": f.kind, "what": f.what, "tiles": f.tiles, "pairs": pairs(f)}
            | {"pictures": f.pictures}
            for f in findings
        ],
        "balance": balance.to_dict("records"),
        "channels": seen.channels,
        "masks": masks.drop(columns="row").head(100).round(4).to_dict("records"),
    }


def _say(store: "TileStore", findings: "list[Finding]", balance: "pd.DataFrame", seen: "Survey", out: Path) -> None:
    bands = ", ".join(store.manifest["bands"])
    print(f"{many(len(store), 'tile')} of {store.tile_px} px ({bands}) in {store.path}\n")
    shown = balance.assign(lake_share=[f"{share:.2%}" for share in balance["lake_share"]])
    print(shown.rename(columns=lambda name: name.replace("_", " ")).to_string(index=False) + "\n")
    for sensor, entry in seen.channels.items():
        mean, std = (" ".join(f"{value:.1f}" for value in entry[key]) for key in ("mean", "std"))
        print(f"{sensor}: mean {mean}, standard deviation {std}")
    print()
    for finding in findings:
        print(f"{finding.severity:<8}  {finding.what}")
        if finding.pictures:
            more = f" and {len(finding.pictures) - 1} more" if len(finding.pictures) > 1 else ""
            print(f"          see {out / finding.pictures[0]}{more}")
    print(f"{'nothing found' if not findings else many(len(findings), 'finding')}; all of it in {out / ACCOUNT}")
