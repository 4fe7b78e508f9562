"""The checker is checked with histories written by hand: each promise can be broken, and then it says so."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.checker import Limits, Verdict, check
from tests.chaos.history import Line

STRICT = Limits(duplicates=0, losses=False, unanswered=False)
FINE = [
    (0.0, "accepted", {}),
    (0.1, "start", {"attempt": 1, "pid": 1}),
    (0.5, "end", {"attempt": 1, "pid": 1}),
    (0.6, "over", {"status": "completed"}),
    (9.0, "final", {"status": "completed", "attempt": 1, "result": 1, "retries": 0, "lost": 0}),
]
"""A job that completes as it should."""
AGAIN = [
    (0.0, "accepted", {}),
    (0.1, "start", {"attempt": 1, "pid": 1}),
    (0.3, "fault", {"pid": 1}),
    (2.3, "start", {"attempt": 2, "pid": 2}),
    (2.5, "end", {"attempt": 2, "pid": 2}),
    (2.6, "over", {"status": "completed"}),
    (9.0, "final", {"status": "completed", "attempt": 2, "result": 2, "retries": 0, "lost": 1}),
]
"""A job whose worker was killed, and that ran again."""

Entry = tuple[float, str, dict[str, Any]]


def lines(entries: list[Entry], job: str = "a") -> list[Line]:
    """The history that these entries, each of one job, make."""
    made: list[Any] = [
        {"t": t, "what": what, **({} if what in ("fault", "healed", "left") else {"job": job}), **fields}
        for t, what, fields in entries
    ]
    return sorted(made, key=lambda line: line["t"])


def without(entries: list[Entry], what: str) -> list[Entry]:
    return [entry for entry in entries if entry[1] != what]


def changed(entries: list[Entry], what: str, /, **fields: Any) -> list[Entry]:
    """With other fields in the entry of that kind."""
    there = next(place for place, entry in enumerate(entries) if entry[1] == what)
    t, _, old = entries[there]
    t = fields.pop("t", t)
    return [*entries[:there], (t, what, {**old, **fields}), *entries[there + 1 :]]


def judged(entries: list[Entry], limits: Limits = STRICT) -> Verdict:
    return check(lines(entries), limits)


def test_a_job_that_completes() -> None:
    verdict = judged(FINE)

    assert verdict.wrong == []
    assert (1, 0, 0) == (verdict.jobs, verdict.lost, verdict.duplicated)


def test_a_job_that_a_fault_hit_runs_again() -> None:
    verdict = judged(AGAIN, Limits(rerun=3.0))

    assert verdict.wrong == []
    assert (1, [pytest.approx(2.0)]) == (verdict.duplicated, verdict.reruns)


LOST = [*without(FINE, "final"), (9.0, "final", {"status": "processing", "attempt": 1, "retries": 0, "lost": 0})]
FAILED = changed(changed(FINE, "final", status="failed", reason="error", result=None), "over", status="failed")
TWICE: list[Entry] = [*FINE, (0.2, "start", {"attempt": 1, "pid": 2})]
HEALED: list[Entry] = [*AGAIN, (0.4, "healed", {})]
LATE: list[Entry] = [*HEALED, (3.0, "accepted", {})]


@pytest.mark.parametrize(
    ("entries", "limits", "text"),
    [
        pytest.param(without(FINE, "final"), STRICT, "lost: a is gone", id="gone"),
        pytest.param(LOST, STRICT, "lost: a is processing", id="never over"),
        pytest.param(without(FINE, "over"), STRICT, "announced as nothing", id="not announced"),
        pytest.param([*FINE, (0.7, "over", {"status": "completed"})], STRICT, "announced as", id="announced twice"),
        pytest.param(changed(FINE, "over", status="failed"), STRICT, "announced as ['failed']", id="announced wrong"),
        pytest.param(changed(FINE, "final", result=2), STRICT, "the result of attempt 2", id="another's result"),
        pytest.param(without(FINE, "end"), STRICT, "never came to its end", id="completed without an end"),
        pytest.param(FAILED, STRICT, "a is failed: error", id="failed"),
        pytest.param(FAILED, Limits(fails=frozenset({"lost"})), "a is failed: error", id="failed otherwise"),
        pytest.param(changed(FINE, "final", retries=1), STRICT, "spent 1 retries", id="retries"),
        pytest.param(changed(FINE, "final", lost=1), STRICT, "lost 1 leases", id="losses"),
        pytest.param(TWICE, STRICT, "attempt 1 began 2 times", id="an attempt twice"),
        pytest.param(changed(AGAIN, "start", t=2.4), Limits(), "in the order [2, 1]", id="attempts out of order"),
        pytest.param(changed(AGAIN, "final", attempt=1), Limits(), "one of 1 attempts", id="more attempts than told"),
        pytest.param(without(AGAIN, "fault"), Limits(), "no fault had hit attempt 1", id="again without a fault"),
        pytest.param(changed(AGAIN, "fault", pid=3), Limits(), "no fault had hit", id="a fault of another"),
        pytest.param(changed(AGAIN, "fault", t=2.4), Limits(), "no fault had hit", id="a fault too late"),
        pytest.param(AGAIN, Limits(duplicates=0), "1 of 1 jobs ran twice, none may", id="again although none may"),
        pytest.param(AGAIN, Limits(duplicates=0.5), "ran twice, 50% may", id="again more than may"),
        pytest.param(AGAIN, Limits(rerun=1.5), "after 2.00 s, the limit is 1.50 s", id="again too late"),
        pytest.param(
            changed(AGAIN, "start", what="claim"), Limits(rerun=1.5), "after 2.00 s", id="handed out, too late"
        ),
        pytest.param(
            [*changed(AGAIN, "fault", t=2.0, pid=None), (0.2, "end", {"attempt": 1})],
            Limits(),
            "had ended 1.8 s earlier",
            id="again after its end",
        ),
        pytest.param(without(FINE, "accepted"), STRICT, "nobody submitted it", id="nobody's job"),
        pytest.param([*FINE, (9.0, "left", {"text": "a lease"})], STRICT, "left behind: a lease", id="left behind"),
        pytest.param(HEALED, Limits(consume=1.0), "first job began 1.90 s after", id="consuming too late"),
        pytest.param([*FINE, (0.4, "healed", {})], Limits(consume=1.0), "shows nothing", id="nothing consumed"),
        pytest.param(LATE, Limits(accept=2.0), "answered 2.60 s after", id="accepting too late"),
        pytest.param(HEALED, Limits(accept=2.0), "shows nothing", id="nothing accepted"),
        pytest.param([*FINE, (0.0, "unknown", {})], STRICT, "1 submits got no answer", id="no answer"),
        pytest.param([*FINE, (0.0, "refused", {})], Limits(), "1 submits were refused", id="no room"),
        pytest.param(changed(FINE, "start", t=0.4), Limits(delay=0.3), "one began 0.40 s after", id="began late"),
        pytest.param(FAILED, Limits(delay=1.0, fails=frozenset({"error"})), "shows nothing", id="nothing to time"),
    ],
)
def test_a_broken_promise_is_told(entries: list[Entry], limits: Limits, text: str) -> None:
    assert text in "\n".join(judged(entries, limits).wrong)


@pytest.mark.parametrize(
    ("entries", "limits"),
    [
        pytest.param(FAILED, Limits(fails=frozenset({"error"})), id="failed as it may"),
        pytest.param(changed(FINE, "final", retries=1), Limits(retries=True), id="retries"),
        pytest.param(AGAIN, Limits(rerun=2.5), id="again in time"),
        pytest.param(HEALED, Limits(consume=2.5), id="consuming in time"),
        pytest.param(LATE, Limits(accept=3.0), id="accepting in time"),
        pytest.param([*FINE, (0.0, "unknown", {})], Limits(), id="no answer at first"),
        pytest.param([*FINE, (0.0, "refused", {})], Limits(refused=True), id="no room at first"),
        pytest.param(FINE, Limits(delay=0.3), id="began soon"),
    ],
)
def test_what_is_within_the_limits(entries: list[Entry], limits: Limits) -> None:
    assert judged(entries, limits).wrong == []


def test_a_few_may_run_again() -> None:
    """A share of all jobs, not of those that were hit."""
    entries = [line for job in "bcdefghijk" for line in lines(FINE, job)] + lines(AGAIN)

    assert check(entries, Limits(duplicates=0.1)).wrong == []
    assert check(entries, Limits(duplicates=0.05)).wrong == ["1 of 11 jobs ran twice, 5% may"]


def test_a_job_that_was_refused_and_runs_all_the_same() -> None:
    entries = lines(FINE) + lines([(1.0, "refused", {}), (1.1, "start", {"attempt": 1, "pid": 1})], "b")

    assert check(entries, Limits(refused=True)).wrong == ["b ran, but nobody submitted it"]
