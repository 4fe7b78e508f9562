"""The faults by name, as in docs/faults.md: F1 and on. Each is a function that does the harm, and heals it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.chaos.checker import Limits
from tests.chaos.run import Fault, Hurt

FAULTS: dict[str, Fault] = {}


def fault(
    name: str, title: str, limits: Callable[[float], Limits] | Limits | None = None, **options: Any
) -> Callable[[Hurt], Hurt]:
    """Make this function the fault of that name. `limits` may depend on the lease."""
    fixed = limits if isinstance(limits, Limits) else Limits()

    def named(hurt: Hurt) -> Hurt:
        FAULTS[name] = Fault(name, title, hurt, limits if callable(limits) else lambda _: fixed, **options)
        return hurt

    return named


# Each module adds its own.
from tests.chaos.faults import api, clocks, network, poison, records, server, workers  # noqa: E402, F401
