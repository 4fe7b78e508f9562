"""A worker as the whole of a process: signals, exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from jobq.errors import ConfigError
from jobq.telemetry import configure
from jobq.worker.capture import let_info_through
from jobq.worker.worker import Worker


def run(worker: Worker) -> int:
    """Run in this process until SIGTERM or SIGINT; the exit code. A configuration error is told in one line."""
    configure(worker.settings)
    let_info_through()

    async def main() -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        code = await worker.run()
        if worker.unfinished:
            # asyncio and the threading module would wait for it.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code

    try:
        return asyncio.run(main())
    except ConfigError as error:
        print(f"jobq: {error}", file=sys.stderr)
        return 2
