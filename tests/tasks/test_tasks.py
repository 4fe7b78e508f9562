"""What all tasks of this service have in common, and the small ones."""

from __future__ import annotations

import pytest

import tasks
from config import settings
from jobq import InvalidPayload


def test_flaky_fails_as_often_as_asked() -> None:
    assert tasks.flaky(0.0)
    with pytest.raises(tasks.SimulatedFailure):
        tasks.flaky(1.0)


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_a_probability_is_from_0_to_1(probability: float) -> None:
    with pytest.raises(InvalidPayload):
        tasks.flaky.job(probability)


async def test_sleep_tells_how_long() -> None:
    assert await tasks.sleep(0.01) == 0.01
    for seconds in (-1, 3601):
        with pytest.raises(InvalidPayload):
            tasks.sleep.job(seconds)


def test_any_attempt_fails_at_the_simulated_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.settings", settings.having(simulated_failure_rate=0.0))
    tasks.simulate_failure()
    monkeypatch.setattr("tasks.settings", settings.having(simulated_failure_rate=1.0))
    with pytest.raises(tasks.SimulatedFailure):
        tasks.simulate_failure()


def test_every_task_works_without_a_payload_and_has_a_valid_example() -> None:
    for task in tasks.registry:
        assert task.arguments(b"") == {}
        assert task.defaults.example
        task.parameters.model_validate(task.defaults.example)
