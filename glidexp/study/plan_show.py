"""The plan as it is printed: arms by seeds, what is equal in all of them, and what the design can and cannot tell."""

from rich.console import Console
from rich.table import Table

from glidexp.study.plan import Planned


def show(planned: Planned, console: Console | None = None) -> None:
    """Prints a plan."""
    plan = planned.plan
    console = console or Console()
    if plan.question:
        console.print(plan.question, highlight=False)
    table = Table(title=f"{plan.name}: {len(plan.arms)} arms x {len(plan.seeds)} seeds = {len(plan.cells)} runs")
    for heading in ("arm", "settings", "seeds"):
        table.add_column(heading, overflow="fold")
    for one in planned.arms:
        own = " ".join(one.arm.words)
        table.add_row(one.name, own or "-", ", ".join(map(str, plan.seeds)))
    console.print(table)
    console.print(f"Decided by {plan.primary} at alpha {plan.alpha:g} over {max(len(plan.arms) - 1, 1)} comparisons.")
    if plan.budget:
        console.print(plan.budget, highlight=False)
