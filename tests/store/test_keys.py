"""Key names: the given contract, and no two alike."""

from __future__ import annotations

import pytest

from jobq.store import keys


@pytest.mark.parametrize(
    ("queue", "priority", "expected"),
    [
        ("default", 0, "job_queue"),
        ("mail", 0, "job_queue:mail"),
        ("mail", 9, "job_queue:mail:9"),
        ("default", 1, "job_queue:default:1"),
    ],
)
def test_the_list_of_a_queue(queue: str, priority: int, expected: str) -> None:
    """The default queue is the contract's list; others and priorities follow a colon."""
    assert expected == keys.ready(queue, priority)


def test_the_keys_of_a_job() -> None:
    """All that belongs to a job begins with the contract's `job:<id>`."""
    names = [keys.job("x"), keys.payload("x"), keys.result("x"), keys.attempts("x"), keys.emitted("x")]
    assert ["job:x", "job:x:payload", "job:x:result", "job:x:attempts", "job:x:events"] == names


def test_the_mark_of_a_queue() -> None:
    """Each queue has its own mark."""
    assert "job_wake:mail" == keys.wake("mail")


def test_no_two_alike() -> None:
    """No name is another's, and none but jobs and queues could be mistaken for a job or a queue."""
    names = list(keys.NAMES.values())
    assert len(set(names)) == len(names)
    assert ["job:"] == [name for name in names if name.startswith("job:")]
    assert ["job_queue"] == [name for name in names if f"{name}:".startswith("job_queue:")]
