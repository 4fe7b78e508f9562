"""The worker: claims jobs, runs them, reports what came of it."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobq.worker.main import run
    from jobq.worker.worker import Worker
else:

    def __getattr__(name: str) -> object:
        """Find a public name when it is first asked for: a child process needs none, and is there sooner."""
        if name in __all__:
            return getattr(import_module("jobq.worker.main"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Worker", "run"]
