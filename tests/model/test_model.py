"""The machine against the model. Deeper: `JOBQ_MODEL_EXAMPLES=2000 python -m pytest tests/model -n 0 --timeout 0`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from tests.model.machine import Machine

examples = int(os.environ.get("JOBQ_MODEL_EXAMPLES", "30"))

TestModel = Machine.TestCase
TestModel.settings = settings(
    max_examples=examples,
    stateful_step_count=30 if examples <= 100 else 50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
