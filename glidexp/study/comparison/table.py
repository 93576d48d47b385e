"""A comparison as a table of numbers, for CSV."""

import pandas as pd

from glidexp.study.comparison.compare import Comparison, Row, verdict


def _bootstrap(row: Row, comparison: Comparison) -> dict[str, float]:
    """Columns of that interval, where it was asked for."""
    if not any(one.bootstrap for one in comparison.rows):
        return {}
    low, high = row.bootstrap or (float("nan"), float("nan"))
    return {"bootstrap_low": low, "bootstrap_high": high}


def as_table(comparison: Comparison) -> pd.DataFrame:
    """A row an arm, for CSV: name, seeds, mean, sd, difference with bounds, p values, verdict. Scores as 0-1."""
    found = []
    for place, row in enumerate(comparison.rows):
        effect = row.effect
        found.append(
            {
                "arm": row.arm.name,
                "n_seeds": len(row.values),
                f"n_{comparison.ground.kind}s": comparison.clusters,
                "mean": row.mean,
                "sd_seeds": row.sd,
                "difference": effect.value if effect else float("nan"),
                "low": effect.low if effect else float("nan"),
                "high": effect.high if effect else float("nan"),
                "level": comparison.level,
                **_bootstrap(row, comparison),
                "p": effect.p if effect else float("nan"),
                "p_holm": row.p_holm,
                "p_sign_flips": row.p_flips,
                "share_best": float(comparison.ranks[place, 0]),
                "detectable": row.detectable,
                **{f"variance_{part}": row.shares.get(part, float("nan")) for part in ("seed", "cluster", "rest")},
                "verdict": verdict(row, comparison),
            }
        )
    return pd.DataFrame(found)
