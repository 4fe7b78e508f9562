"""The worker: claims jobs, runs them, reports what came of it."""

from jobq.worker.worker import Worker, run

__all__ = ["Worker", "run"]
