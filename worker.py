"""The worker of this service: `python worker.py`. As many as you like, on any machines; `--help` shows the options."""

import sys

from config import settings
from jobq.cli import Burst, Concurrency, DrainTimeout, Processes, Queues, run_command
from jobq.supervise import in_processes
from jobq.worker import Worker, run
from tasks import registry, simulate_failure


def main(
    concurrency: Concurrency = None,
    queues: Queues = None,
    drain_timeout: DrainTimeout = None,
    processes: Processes = 1,
    burst: Burst = False,
) -> None:
    """Run jobs until told to stop."""
    chosen = settings.having(concurrency=concurrency, queues=queues, drain_timeout=drain_timeout)

    def work() -> int:
        return run(Worker(chosen, registry, burst=burst, before=simulate_failure))

    sys.exit(in_processes(processes, chosen, work))


if __name__ == "__main__":
    run_command(main)
