"""When a reaper may act."""

from __future__ import annotations

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from jobq.errors import StoreUnavailable
from jobq.settings import Settings
from jobq.store.store import Store
from jobq.task import Registry
from jobq.worker.duties import Duties, ReapGuard

LEASE = 15.0
UPTIME = 3600.0
SERVER = 1_795_488_299.0
"""The server's clock when our monotonic one reads 0."""


def asked(
    guard: ReapGuard,
    monotonic: float,
    *,
    jump: float = 0.0,
    uptime: float = UPTIME,
    run: str = "a",
    took: float = 0.01,
) -> bool:
    return guard.allows(monotonic, SERVER + monotonic + jump, uptime, run, took)


@pytest.fixture
def guard() -> ReapGuard:
    """Of a process that has looked at the server before."""
    guard = ReapGuard(LEASE)
    asked(guard, -10.0)
    return guard


@pytest.mark.parametrize(("lease", "patience"), [(LEASE, 1.5), (1.5, 1.0)])
def test_a_fresh_process_waits_for_a_heartbeat(lease: float, patience: float) -> None:
    """The clock may have jumped just before the first look: it reaps once every live worker has renewed, not before."""
    guard = ReapGuard(lease)
    assert [False, False, True] == [asked(guard, at) for at in (0.0, patience - 0.1, patience)]


@pytest.mark.parametrize(("uptime", "wait"), [(0.0, 15.0), (5.0, 10.0), (14.0, 1.5), (3600.0, 1.5), (-3000.0, 15.0)])
def test_a_fresh_process_after_the_server_s_start(uptime: float, wait: float) -> None:
    """It waits until the server has been up for a lease; when its clock was set back since, for a whole one."""
    guard = ReapGuard(LEASE)
    assert [False, False, True] == [asked(guard, at, uptime=uptime + at) for at in (0.0, wait - 0.1, wait)]


def test_after_the_server_s_restart(guard: ReapGuard) -> None:
    """Workers get one lease to renew what they hold after the server came back, whatever its clock says then."""
    answers = [asked(guard, at, run="b", uptime=UPTIME) for at in (0.5, 0.5 + LEASE - 0.1, 0.5 + LEASE)]
    assert [False, False, True] == answers


def test_after_a_reading_that_failed(guard: ReapGuard) -> None:
    """While nobody could read the clock, nobody may have been able to renew: workers get a lease from the next one."""
    guard.unanswered()
    assert [False, False, True] == [asked(guard, at) for at in (5.0, 5.0 + LEASE - 0.1, 5.0 + LEASE)]


def test_an_uptime_below_zero(guard: ReapGuard) -> None:
    """A clock that was set back by more than the server has been up holds the reaper back no longer than any jump."""
    answers = [asked(guard, at, jump=-3600.0, uptime=-3000.0) for at in (0.5, 0.5 + LEASE - 0.1, 0.5 + LEASE)]
    assert [False, False, True] == answers


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 1.5, -1.5])
def test_after_a_jump_of_the_server_s_clock(guard: ReapGuard, jump: float) -> None:
    """A jump in either direction holds it back for one lease, and no longer."""
    answers = [asked(guard, at, jump=jump) for at in (0.5, 1.0, 0.5 + LEASE - 0.1, 0.5 + LEASE)]
    assert [False, False, False, True] == answers


def test_a_second_jump_begins_anew(guard: ReapGuard) -> None:
    """One lease is counted from the last jump."""
    assert not asked(guard, 0.5, jump=100.0)
    assert not asked(guard, 10.0, jump=-100.0)

    assert [False, True] == [asked(guard, at, jump=-100.0) for at in (0.5 + LEASE, 10.0 + LEASE)]


@pytest.mark.parametrize("drift", [0.9, -0.9])
def test_a_little_drift_does_no_harm(guard: ReapGuard, drift: float) -> None:
    """Up to a second between two looks is the network, not a jump."""
    assert [True, True] == [asked(guard, 0.5, jump=drift), asked(guard, 1.0, jump=drift)]


def test_after_a_slow_call(guard: ReapGuard) -> None:
    """A server that took more than a second may have kept heartbeats waiting as well: one lease of patience."""
    assert not asked(guard, 2.0, took=1.1)
    assert [False, True] == [asked(guard, at) for at in (2.0 + LEASE - 0.1, 2.0 + LEASE)]


def test_a_call_of_a_second_is_not_slow(guard: ReapGuard) -> None:
    """The limit itself is allowed."""
    assert asked(guard, 1.0, took=1.0)


def test_a_slow_first_call() -> None:
    """A fresh process whose first look was slow waits for a lease, too."""
    guard = ReapGuard(LEASE)
    assert [False, False, True] == [
        asked(guard, 0.0, took=5.0), asked(guard, 0.5), asked(guard, LEASE),
    ]  # fmt: skip


class Scrubbed(Store):
    """A store whose scrubber has found things."""

    def __init__(self, *repaired: tuple[str, str]) -> None:
        self.repaired = list(repaired)

    async def scrub(self, longest: int, lease: int, pace: int) -> list[tuple[str, str]]:
        return self.repaired


async def test_repairs_are_logged() -> None:
    """One warning for each kind of repair, with the ids: nothing is mended in silence."""
    store = Scrubbed(("a", "listed"), ("b", "let go"), ("c", "listed"))
    with capture_logs() as logs:
        assert 0 == await Duties(store, Settings(), (), Registry()).scrub()

    assert [("warning", "listed", 2, ["a", "c"]), ("warning", "let go", 1, ["b"])] == [
        (line["log_level"], line["repaired"], line["count"], line["job_ids"]) for line in logs
    ]


class Refusing(Store):
    """A server that can be read, and takes writes only while `writable`."""

    def __init__(self) -> None:
        self.writable = True
        self.latest: list[int] = []

    async def uptime(self) -> tuple[int, int, str]:
        return 3600, 1_795_488_299_000 + round(time.monotonic() * 1000), "a"

    async def reap(self, max_lost: int, latest: int = 0) -> list[tuple[str, str]]:
        self.latest.append(latest)
        if not self.writable:
            raise StoreUnavailable("no")
        return []


async def test_after_writes_were_refused() -> None:
    """While nobody can write nobody can renew: the reaper sees it, also while it waits, and lets workers go first."""
    store, lease = Refusing(), 1.0
    duties = Duties(store, Settings(lease=lease), (), Registry())
    await duties.reap()
    await asyncio.sleep(0.9)
    await duties.reap()
    store.writable = False
    with pytest.raises(StoreUnavailable):
        await duties.reap()
    store.writable = True
    await duties.reap()
    await asyncio.sleep(lease + 0.05)
    await duties.reap()
    assert [False, True, True, False, True] == [latest > 0 for latest in store.latest]
