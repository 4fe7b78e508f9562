"""A short round of every fault: `pytest -m chaos -n 2`. Longer runs: `python -m tests.chaos --help`."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import pytest

from tests.chaos.checker import Limits, Verdict
from tests.chaos.faults import FAULTS
from tests.chaos.run import play
from tests.chaos.sabotage import SABOTAGES

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

SLACK = 2.0
"""Seconds by which everything may be late here, for the machine may have other work. Long runs have no such slack."""
LEASE = 1.5
JOBS = 60


def with_slack(limits: Limits) -> Limits:
    times = {name: getattr(limits, name) for name in ("rerun", "consume", "accept", "delay")}
    return replace(limits, **{name: seconds + SLACK for name, seconds in times.items() if seconds is not None})


async def verdict_of(name: str, sabotage: str | None = None, first: int = 1) -> Verdict:
    """Of one round."""
    fault = FAULTS[name]
    if fault.missing:
        pytest.skip(fault.missing)
    jobs = min(fault.load.jobs, JOBS)
    patient = replace(fault, limits=lambda lease: with_slack(fault.limits(lease)))
    rounds = play(patient, seed=1, first=first, rounds=1, lease=LEASE, sabotage=sabotage, jobs=jobs)
    async with aclosing(rounds) as playing:
        return (await anext(playing)).verdict


@pytest.mark.parametrize("name", FAULTS)
async def test_every_promise_is_kept(name: str) -> None:
    """In one of two rounds at least: a shared machine can spoil one. Long runs count every round."""
    wrong = (await verdict_of(name)).wrong
    if wrong:
        print("played again:", *wrong[:5], sep="\n")
        wrong = (await verdict_of(name, first=2)).wrong

    assert not wrong, "\n".join(wrong[:5])


async def test_a_broken_guard_is_found_out() -> None:
    """Outcomes are stored when jobs are claimed: those that a kill hits then never come to their end."""
    verdict = await verdict_of(SABOTAGES["early-ack"].fault, "early-ack")

    assert any("which never came to its end" in text for text in verdict.wrong), verdict.wrong
