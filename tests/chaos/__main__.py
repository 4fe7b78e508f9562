"""`python -m tests.chaos --fault F1 --rounds 1000 --seed 7`: rounds, jobs, lost, duplicated, slowest recovery."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from tests.chaos.faults import FAULTS
from tests.chaos.report import Report
from tests.chaos.run import Fault, play
from tests.chaos.sabotage import SABOTAGES

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    fault: Annotated[list[str] | None, typer.Option(help="F1, F2, …; more than once for several. See --list.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every fault there is.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Say which faults there are.")] = False,
    rounds: Annotated[int, typer.Option(help="How many rounds of each.")] = 3,
    seed: Annotated[int, typer.Option(help="Makes the same choices again.")] = 1,
    first: Annotated[int, typer.Option(help="The number of the first round: to repeat one that went wrong.")] = 1,
    lease: Annotated[float, typer.Option(help="Seconds.")] = 2.0,
    jobs: Annotated[int | None, typer.Option(help="Jobs in a round; as the fault says otherwise.")] = None,
    sabotage: Annotated[str | None, typer.Option(help=f"Break a guard: {', '.join(SABOTAGES)}.")] = None,
    report: Annotated[Path | None, typer.Option(help="A folder for a line per round: <fault>.jsonl.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on where the report ends, up to --rounds in all.")] = False,
    keep_going: Annotated[bool, typer.Option(help="Go on after a round that went wrong.")] = False,
) -> None:
    """Break jobq on purpose, and say what became of it. Exits with 1 when a promise was broken."""
    if list_:
        for each in FAULTS.values():
            typer.echo(f"{each.name:4} {each.title}")
        return
    names = list(FAULTS) if all_ else fault or ([SABOTAGES[sabotage].fault] if sabotage else ["F1"])
    unknown = [name for name in names if name not in FAULTS]
    if unknown or (sabotage and sabotage not in SABOTAGES):
        raise typer.BadParameter(f"there is no {', '.join(unknown) or sabotage}: see --list and --help")
    told = [
        asyncio.run(_run(FAULTS[name], rounds, seed, first, lease, jobs, sabotage, report, resume, keep_going))
        for name in names
    ]
    raise typer.Exit(1 if any(each.wrong for each in told) else 0)


async def _run(
    fault: Fault, rounds: int, seed: int, first: int, lease: float, jobs: int | None, sabotage: str | None,
    folder: Path | None, resume: bool, keep_going: bool,
) -> Report:  # fmt: skip
    report = Report(fault, folder)
    if resume:
        first += report.read()
        rounds -= first - 1
    rounds_to_play = play(fault, seed=seed, first=first, rounds=rounds, lease=lease, sabotage=sabotage, jobs=jobs)
    async with aclosing(rounds_to_play) as playing:
        async for played in playing:
            report.add(played)
            if played.verdict.wrong and not keep_going:
                break
    typer.echo(report.text())
    return report


if __name__ == "__main__":
    app()
