"""What a run came to: a line per round in a file, and one line for people."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from tests.chaos.run import Fault, Round


class Report:
    """Collects the rounds of one fault."""

    def __init__(self, fault: Fault, folder: Path | None) -> None:
        self.fault = fault
        self.rounds = self.jobs = self.lost = self.duplicated = self.failed = 0
        self.reruns: list[float] = []
        self.consumes: list[float] = []
        self.wrong: list[str] = []
        self.seed = ""
        """Of the first round."""
        self._file = folder / f"{fault.name}.jsonl" if folder else None

    def read(self) -> int:
        """Count what the file has already. How many rounds."""
        if self._file and self._file.exists():
            for line in self._file.read_text().splitlines():
                self._count(json.loads(line))
        return self.rounds

    def add(self, played: Round) -> None:
        verdict = played.verdict
        line = {
            "fault": played.fault, "round": played.number, "seed": played.seed, "seconds": round(played.seconds, 2),
            "jobs": verdict.jobs, "lost": verdict.lost, "duplicated": verdict.duplicated, "failed": verdict.failed,
            "reruns": [round(seconds, 2) for seconds in sorted(verdict.reruns)],
            "consume": None if verdict.consume is None else round(verdict.consume, 2),
            "wrong": verdict.wrong[:20],
        }  # fmt: skip
        self._count(line)
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a") as file:
                file.write(json.dumps(line) + "\n")
        for text in verdict.wrong[:5]:
            print(f"  {played.fault} round {played.seed}: {text}", file=sys.stderr)

    def back(self) -> str:
        """How soon jobs ran again, or ran at all; p99 and the longest."""
        seconds = self.consumes or self.reruns
        return f"{p99(seconds):.2f} / {max(seconds):.2f} s" if seconds else "–"

    def text(self) -> str:
        """Rounds, jobs, lost, duplicated, and the slowest recovery."""
        slow = [f"re-run {p99(self.reruns):.2f}/{max(self.reruns):.2f} s (p99/max)"] if self.reruns else []
        slow += [f"consuming again after {max(self.consumes):.2f} s at most"] if self.consumes else []
        bad = f"  WRONG: {len(self.wrong)}" if self.wrong else ""
        failed = f", {self.failed} failed as they should" if self.failed else ""
        return (
            f"{self.fault.name:4} {self.fault.title}: {self.rounds} rounds, {self.jobs} jobs, {self.lost} lost,"
            f" {self.duplicated} run again{failed}; {'; '.join(slow) or 'nothing to recover'}{bad}"
        )

    def _count(self, values: dict[str, Any]) -> None:
        self.rounds += 1
        self.seed = self.seed or str(values["seed"]).partition(".")[0]
        self.jobs += values["jobs"]
        self.lost += values["lost"]
        self.duplicated += values["duplicated"]
        self.failed += values["failed"]
        self.reruns += values["reruns"]
        self.consumes += [] if values["consume"] is None else [values["consume"]]
        self.wrong += values["wrong"]


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]
