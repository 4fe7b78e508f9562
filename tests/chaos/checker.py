"""The verdict on a round, from its history alone. Pure.

The letters are those of the invariants in docs/faults.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.chaos.history import Line

OVER = ("completed", "failed", "cancelled")
UNWRITTEN = 1.0
"""Seconds that may lie between the end of a task's body and the outcome being stored."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fault may cost. Seconds."""

    rerun: float | None = None
    """From a fault to the next attempt of a job it hit. None: no limit, but then `consume` has one."""
    consume: float | None = None
    """From `healed` to the first start of a job."""
    accept: float | None = None
    """From `healed` to the first submit that is answered."""
    delay: float | None = None
    """From a submit to the first start, of 99 in 100 jobs that complete."""
    duplicates: float = 1.0
    """How many runs again there may be, as a share of the jobs, of jobs that were running at the fault. No other job
    ever may run again."""
    losses: bool = True
    """Whether leases may run out."""
    fails: frozenset[str] = frozenset()
    """Reasons for which jobs may have failed."""
    retries: bool = False
    """Whether errors may have spent retries."""
    unanswered: bool = True
    """Whether submits may go without an answer."""
    refused: bool = False
    """Whether submits may be answered that there is no room."""


@dataclass(slots=True)
class Verdict:
    """What a round came to. It is fine while nothing is `wrong`."""

    jobs: int = 0
    lost: int = 0
    duplicated: int = 0
    """Attempts beyond the first that ran, all of jobs that a fault had hit."""
    failed: int = 0
    reruns: list[float] = field(default_factory=list)
    """Seconds from the fault to the next attempt."""
    consume: float | None = None
    """Seconds from `healed` to the first start."""
    wrong: list[str] = field(default_factory=list)


def check(lines: Sequence[Line], limits: Limits) -> Verdict:
    """Judge one round."""
    round_ = _Round(lines)
    verdict = Verdict(jobs=len(round_.accepted))
    for job in sorted(round_.accepted):
        verdict.wrong += _fate(job, round_, limits, verdict)
        verdict.wrong += _attempts(job, round_, limits, verdict)
    verdict.wrong += [f"{job} ran, but nobody submitted it" for job in sorted(round_.starts.keys() - round_.asked)]
    verdict.wrong += [f"left behind: {line['text']}" for line in lines if line["what"] == "left"]
    verdict.wrong += _repeated(limits, verdict)
    verdict.wrong += _consuming(round_, limits, verdict)
    verdict.wrong += _submits(round_, limits)
    return verdict


class _Round:
    """The lines, by what is asked of them."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.accepts = _by_job(lines, "accepted")
        self.accepted = self.accepts.keys()
        self.unknown = sum(line["what"] == "unknown" for line in lines)
        self.refused = sum(line["what"] == "refused" for line in lines)
        self.asked = {line["job"] for line in lines if line["what"] in ("accepted", "unknown")}
        self.finals = {line["job"]: line for line in lines if line["what"] == "final"}
        self.starts = _by_job(lines, "start")
        self.claims = _by_job(lines, "claim")
        self.ends = {(line["job"], line["attempt"]): line for line in lines if line["what"] == "end"}
        self.overs = _by_job(lines, "over")
        self.faults = [line for line in lines if line["what"] == "fault"]
        self.healed = [line["t"] for line in lines if line["what"] == "healed"]

    def hit(self, attempt: Line, until: float) -> Line | None:
        """The first fault that can have hit this attempt before `until`."""
        for fault in self.faults:
            mine = fault.get("pid") in (None, attempt["pid"])
            if mine and attempt["t"] - UNWRITTEN <= fault["t"] <= until:
                return fault
        return None


def _by_job(lines: Iterable[Line], what: str) -> defaultdict[str, list[Line]]:
    found: defaultdict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line["what"] == what:
            found[line["job"]].append(line)
    return found


def _fate(job: str, round_: _Round, limits: Limits, verdict: Verdict) -> Iterator[str]:
    """Accepted means: over in the end, once, and with the outcome of an attempt that happened."""
    final = round_.finals.get(job)
    if final is None or final["status"] not in OVER:
        verdict.lost += 1
        yield f"lost: {job} is {final['status'] if final else 'gone'}"
        return
    overs = [over["status"] for over in round_.overs[job]]
    if overs != [final["status"]]:
        yield f"{job} is {final['status']}, but was announced as {overs or 'nothing'}"
    if final["status"] == "completed":
        attempt = final["attempt"]
        if final.get("result") != attempt:
            yield f"{job} has the result of attempt {final.get('result')} under attempt {attempt}"
        if (job, attempt) not in round_.ends:
            yield f"{job} is completed by attempt {attempt}, which never came to its end"
    elif final.get("reason") in limits.fails:
        verdict.failed += 1
    else:
        yield f"{job} is {final['status']}: {final.get('reason')}"
    if final["retries"] and not limits.retries:
        yield f"{job} has spent {final['retries']} retries"
    if final["lost"] and not limits.losses:
        yield f"{job} has lost {final['lost']} leases of workers that lived"


def _attempts(job: str, round_: _Round, limits: Limits, verdict: Verdict) -> Iterator[str]:
    """An attempt number is used once, rises, and a job runs again only if a fault hit the attempt before."""
    starts = round_.starts[job]
    numbers = [start["attempt"] for start in starts]
    for number, times in Counter(numbers).items():
        if times > 1:
            yield f"{job}: attempt {number} began {times} times"
    if numbers != sorted(numbers):
        yield f"{job}: its attempts began in the order {numbers}"
    if (final := round_.finals.get(job)) and max(numbers, default=0) > final["attempt"]:
        yield f"{job}: attempt {max(numbers)} began, but it ended as one of {final['attempt']} attempts"
    begun = sorted([*starts, *round_.claims[job]], key=lambda line: line["t"])
    for before, after in pairwise(begun):
        fault = round_.hit(before, after["t"])
        if fault is None:
            yield f"{job}: attempt {after['attempt']} began, but no fault had hit attempt {before['attempt']}"
            continue
        verdict.duplicated += before["what"] == "start"
        end = round_.ends.get((job, before["attempt"]))
        if end and end["t"] + UNWRITTEN < fault["t"]:
            yield f"{job} ran again, though attempt {before['attempt']} had ended {fault['t'] - end['t']:.1f} s earlier"
        waited = after["t"] - fault["t"]
        verdict.reruns.append(waited)
        if limits.rerun is not None and waited > limits.rerun:
            yield f"{job} was started again after {waited:.2f} s, the limit is {limits.rerun:.2f} s"


def _repeated(limits: Limits, verdict: Verdict) -> Iterator[str]:
    if verdict.duplicated > limits.duplicates * verdict.jobs and limits.duplicates < 1:
        may = f"{limits.duplicates:.0%} may" if limits.duplicates else "none may"
        yield f"{verdict.duplicated} of {verdict.jobs} jobs ran twice, {may}"


def _consuming(round_: _Round, limits: Limits, verdict: Verdict) -> Iterator[str]:
    if limits.consume is None or not round_.healed:
        return
    healed = round_.healed[-1]
    later = [start["t"] for starts in round_.starts.values() for start in starts if start["t"] > healed]
    if not later:
        yield "no job began after it was healed: the round shows nothing"
        return
    verdict.consume = min(later) - healed
    if verdict.consume > limits.consume:
        yield f"the first job began {verdict.consume:.2f} s after it was healed, the limit is {limits.consume:.2f} s"


def _submits(round_: _Round, limits: Limits) -> Iterator[str]:
    if round_.unknown and not limits.unanswered:
        yield f"{round_.unknown} submits got no answer"
    if round_.refused and not limits.refused:
        yield f"{round_.refused} submits were refused for want of room"
    if limits.accept is not None and round_.healed:
        healed = round_.healed[-1]
        answered = [line["t"] - healed for lines in round_.accepts.values() for line in lines if line["t"] > healed]
        if not answered:
            yield "no submit was answered after it was healed: the round shows nothing"
        elif min(answered) > limits.accept:
            late = f"{min(answered):.2f} s after it was healed, the limit is {limits.accept:.2f} s"
            yield f"the first submit was answered {late}"
    if limits.delay is not None:
        yield from _delays(round_, limits.delay)


def _delays(round_: _Round, limit: float) -> Iterator[str]:
    delays = sorted(
        round_.starts[job][0]["t"] - lines[0]["t"]
        for job, lines in round_.accepts.items()
        if round_.starts[job] and round_.finals.get(job, {}).get("status") == "completed"
    )
    if not delays:
        yield "no job completed: the round shows nothing"
    elif (p99 := delays[(len(delays) - 1) * 99 // 100]) > limit:
        yield f"of 100 jobs, one began {p99:.2f} s after its submit or later, the limit is {limit:.2f} s"
