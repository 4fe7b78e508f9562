"""One server and one worker for all tests of a module."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.support import TASKS, Shell
from tests.support.processes import Process
from tests.support.servers import Valkey


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a tasks file, and nothing else."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "mytasks.py").write_text(TASKS)
    return folder


@pytest.fixture(scope="module")
def shared_valkey() -> Iterator[Valkey]:
    server = Valkey().start()
    yield server
    server.kill()
    shutil.rmtree(server.dir)


@pytest.fixture(scope="module")
def shell(folder: Path, shared_valkey: Valkey) -> Shell:
    """In a folder without a running worker's app being named: it is the worker that knows the tasks."""
    return Shell(folder, {"JOBQ_REDIS_URL": shared_valkey.url, "JOBQ_RETRY_BACKOFF": "0"})


@pytest.fixture(scope="module")
def worker(shell: Shell) -> Iterator[Process]:
    process = Process(
        "-m", "jobq", "worker", "--app", "mytasks:registry", "--queues", "default,mail", cwd=shell.folder, env=shell.env
    )
    process.wait_for("worker serves")
    yield process
    process.kill()
