"""`--processes N`, with children that die, are told to stop, and do not listen."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from jobq import Settings
from jobq.errors import StoreUnavailable
from jobq.supervise import Supervisor, in_processes
from tests.cli.support import Shell
from tests.support.processes import ROOT, Process, eventually
from tests.support.servers import Valkey


def started(shell: Shell, *command: str, **env: str) -> Process:
    process = Process(*command, cwd=shell.folder, env={**shell.env, **env})
    eventually(lambda: process.output.count("worker serves") == 2, 15, lambda: process.output)
    return process


def children(process: Process) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(process.popen.pid).children()
    return found


def test_a_killed_child_is_replaced_and_sigterm_ends_all(shell: Shell) -> None:
    """Jobs are run meanwhile and after; a signal is handed on, and the end is a good one."""
    process = started(shell, "-m", "jobq", "worker", "--app", "mytasks:registry", "--processes", "2")
    first, second = children(process)
    first.kill()
    process.wait_for("worker process died, another is started")
    eventually(lambda: process.output.count("worker serves") == 3, 15, lambda: process.output)
    assert second in children(process)
    assert shell.pipe("submit", "hello", "--wait").out == '"Hello, world"\n'
    family = children(process)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0, process.output
    assert process.output.count('"worker stopped"') == 2
    assert not any(child.is_running() for child in family)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_children_die_with_their_supervisor(shell: Shell, tmp_path: Path) -> None:
    """However it died. Also of `python worker.py`, which takes the same flag."""
    outbox = str(tmp_path / "out")
    process = started(shell, str(ROOT / "worker.py"), "--processes", "2", OUTBOX=outbox)
    family = children(process)
    assert len(family) == 2
    process.signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(family, 10)
    assert not alive


def supervised(script: str, valkey: Valkey, count: int = 1, drain_timeout: float = 0.0) -> int:
    """Run children of this script in this process' supervisor."""
    settings = Settings(redis_url=valkey.url, drain_timeout=drain_timeout)
    return asyncio.run(Supervisor([sys.executable, "-c", script], count, settings).run())


def test_a_child_that_ends_well_is_not_started_again(shared_valkey: Valkey, tmp_path: Path) -> None:
    """It had nothing left to do, as with --burst."""
    log = tmp_path / "log"
    assert supervised(f"open({str(log)!r}, 'a').write('x')", shared_valkey, count=2) == 0
    assert log.read_text() == "xx"


def test_how_soon_a_child_is_started_again(shared_valkey: Valkey, tmp_path: Path) -> None:
    """At once when it asks for that with 75, else after a pause that doubles."""
    log = tmp_path / "log"
    script = f"""
import os, sys, time
log = {str(log)!r}
open(log, 'a').write(f'{{time.time()}}\\n')
sys.exit([75, 1, 1, 0][len(open(log).readlines()) - 1])
"""
    assert supervised(script, shared_valkey) == 0
    at = [float(line) for line in log.read_text().splitlines()]
    at_once, after, later = (b - a for a, b in pairwise(at))
    assert at_once < after < later
    assert after >= 0.1
    assert later >= 0.2


def test_a_child_that_does_not_listen_is_killed(
    shared_valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the drain limit and a few seconds more; then the exit code says that not all went well."""
    monkeypatch.setattr("jobq.supervise.KILL_AFTER", 0.2)
    ready = tmp_path / "ready"
    script = f"""
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path({str(ready)!r}).touch()
time.sleep(60)
"""

    def stop() -> None:
        eventually(ready.exists)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    began = time.monotonic()
    assert supervised(script, shared_valkey) == 1
    assert time.monotonic() - began < 10


def test_without_a_server_nothing_is_started() -> None:
    """One line, as for a worker alone."""
    settings = Settings(redis_url="redis://127.0.0.1:1")
    with pytest.raises(StoreUnavailable, match="cannot use the Redis"):
        in_processes(2, settings, lambda: pytest.fail("not in this process"))


def test_one_process_needs_no_supervisor() -> None:
    """The work is done here."""
    assert in_processes(1, Settings(), lambda: 7) == 7
