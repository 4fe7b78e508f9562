"""When a reaper may act."""

from __future__ import annotations

import pytest

from jobq.worker.duties import ReapGuard

LEASE = 15.0
UPTIME = 3600.0
SERVER = 1_795_488_299.0
"""The server's clock when our monotonic one reads 0."""


def asked(guard: ReapGuard, monotonic: float, *, jump: float = 0.0, uptime: float = UPTIME, took: float = 0.01) -> bool:
    return guard.allows(monotonic, SERVER + monotonic + jump, uptime, took)


@pytest.fixture
def guard() -> ReapGuard:
    """Of a process that has looked at the server before."""
    guard = ReapGuard(LEASE)
    asked(guard, 0.0)
    return guard


def test_a_fresh_process_looks_twice() -> None:
    """The first look only learns the server's clock; the second may reap."""
    guard = ReapGuard(LEASE)
    assert [False, True, True] == [asked(guard, at) for at in (0.0, 0.5, 1.0)]


@pytest.mark.parametrize(("uptime", "expected"), [(0.0, False), (14.0, False), (15.0, True), (3600.0, True)])
def test_after_the_server_s_restart(guard: ReapGuard, uptime: float, expected: bool) -> None:
    """Workers get one lease to renew what they hold after the server came back."""
    assert expected == asked(guard, 0.5, uptime=uptime)


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
    """A fresh process whose first look was slow waits for both."""
    guard = ReapGuard(LEASE)
    assert [False, False, True] == [
        asked(guard, 0.0, took=5.0), asked(guard, 0.5), asked(guard, LEASE),
    ]  # fmt: skip
