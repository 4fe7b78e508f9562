"""`python -m tests.chaos.table docs/faults`: the tables of docs/faults.md, from the lines of the long runs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.chaos.faults import FAULTS
from tests.chaos.report import Report

HEAD = (
    "| | what is done | rounds | jobs | lost | run again | failed by their limits | back after (p99 / max) | wrong"
    " | command |"
)
PEERS_HEAD = (
    "| | settings | rounds | jobs | hit by a kill | not back | back after (first / median / last) | others run twice |"
)


def main(folder: Path) -> None:
    """Print both tables."""
    names = sorted(FAULTS, key=lambda name: (int(re.findall(r"\d+", name)[0]), name))
    print(_table(HEAD, [_fault(name, folder) for name in names if (folder / f"{name}.jsonl").exists()]))
    peers = folder / "peers.jsonl"
    if peers.exists():
        print()
        print(_table(PEERS_HEAD, [_peer(json.loads(line)) for line in peers.read_text().splitlines()]))


def _table(head: str, rows: list[list[str]]) -> str:
    rule = "|---" * (head.count("|") - 1) + "|"
    return "\n".join([head, rule, *(f"| {' | '.join(row)} |" for row in rows)])


def _fault(name: str, folder: Path) -> list[str]:
    report = Report(FAULTS[name], folder)
    report.read()
    command = f"`python -m tests.chaos --fault {name} --rounds {report.rounds} --seed {report.seed}`"
    return [
        name, report.fault.title, f"{report.rounds:,}", f"{report.jobs:,}", f"{report.lost:,}",
        f"{report.duplicated:,}", f"{report.failed:,}", report.back(), f"{len(report.wrong)}", command,
    ]  # fmt: skip


def _peer(line: dict[str, Any]) -> list[str]:
    back = " / ".join(f"{seconds:.0f} s" for seconds in line["back after"] or ()) or "–"
    left = f"{line['not back']} within {line['patience']:.0f} s" if line["not back"] else "0"
    return [
        line["peer"], line["settings"], f"{line['rounds']}", f"{line['jobs']}", f"{line['hit']}", left, back,
        f"{line['others twice']}",
    ]  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
