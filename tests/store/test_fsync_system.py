"""What JOBQ_DURABILITY promises, seen from the kernel: strace watches the server's reads, writes and fsyncs."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobq import Client, ConfigError, Settings, SyncClient
from jobq.settings import Durability
from jobq.store import supervisor
from jobq.store.supervisor import SERVER, SUPERVISOR
from tests.support.servers import Valkey

GROUPS = 25
SIZE = 3
"""Jobs in a group: one call of the client, one answer."""


CALLS = "fsync,fdatasync,read,recvfrom,write,writev,sendto,sendmsg"
SENT = ("write", "writev", "sendto", "sendmsg")
CALL = re.compile(r"^(?P<thread>\d+) +(?P<name>\w+)\((?P<file>\d+<[^>]*(?:->[^>]*)?>)(?P<rest>.*)$")
RESUMED = re.compile(r"^(?P<thread>\d+) +<\.\.\. \w+ resumed>(?P<rest>.*)$")


class Trace:
    """System calls of a process, in the order of the kernel."""

    def __init__(self, pid: int, file: Path) -> None:
        self._pid = pid
        self._file = file

    @contextmanager
    def running(self) -> Iterator[None]:
        command = f"strace -f -y -s 64 -e trace={CALLS} -o {self._file} -p {self._pid}"
        tracer = subprocess.Popen(command.split(), stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while not self._attached():
                assert tracer.poll() is None, "strace ended: is ptrace allowed here?"
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(10)

    def letters(self) -> str:
        """`r` a submit was read, `a` the AOF was written, `F` that is on the disk, `w` the submit was answered.

        Whoever else talks to the server is passed over.
        """
        letters, client = "", ""
        for name, file, rest in self._calls():
            if name in ("read", "recvfrom"):
                if "EVALSHA" in rest:
                    letters, client = letters + "r", file
            elif name in ("fsync", "fdatasync"):
                assert rest.endswith("= 0"), rest
                letters += "F"
            elif ".aof>" in file:
                letters += "a"
            elif file == client:
                letters, client = letters + "w", ""
        return letters

    def _calls(self) -> Iterator[tuple[str, str, str]]:
        """Name, file and what follows. What sends counts from its beginning, the rest from its end."""
        unfinished: dict[str, re.Match[str]] = {}
        for line in self._file.read_text().splitlines():
            if call := CALL.match(line):
                sends, goes_on = call["name"] in SENT, "<unfinished" in line
                if goes_on and not sends:
                    unfinished[call["thread"]] = call
                else:
                    yield call["name"], call["file"], call["rest"]
            elif (resumed := RESUMED.match(line)) and resumed["thread"] in unfinished:
                call = unfinished.pop(resumed["thread"])
                yield call["name"], call["file"], resumed["rest"]

    def _attached(self) -> bool:
        threads = Path(f"/proc/{self._pid}/task").glob("*/status")
        return all("\nTracerPid:\t0\n" not in status.read_text() for status in threads)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """For an embedded server, which does not outlive the test."""
    folder = tmp_path / ".jobq"
    yield folder
    if (lock := folder / SUPERVISOR).exists() and supervisor.is_held(lock, fcntl.LOCK_EX):
        os.kill(int(lock.read_text()), signal.SIGTERM)
        server = supervisor.wait_lock(folder / SERVER, fcntl.LOCK_EX, 10)
        assert server is not None, "a server is left"
        os.close(server)


@pytest.fixture
def always() -> Iterator[Valkey]:
    server = Valkey("--appendfsync", "always").start()
    yield server
    server.kill()
    shutil.rmtree(server.dir)


def settings(monkeypatch: pytest.MonkeyPatch, durability: str, data_dir: Path, url: str | None = None) -> Settings:
    """From the environment, as a service reads them."""
    monkeypatch.setenv("JOBQ_DURABILITY", durability)
    monkeypatch.setenv("JOBQ_DATA_DIR", str(data_dir))
    if url:
        monkeypatch.setenv("JOBQ_REDIS_URL", url)
    return Settings.load()


async def submits(settings: Settings, trace: Path, data_dir: Path, external: Valkey | None = None) -> tuple[str, float]:
    """What the server did for GROUPS groups, one after the other, and the seconds that took."""
    async with Client(settings=settings) as client:
        await client.submit("note")  # so that the script is there
        pid = external.process.pid if external and external.process else int((data_dir / SERVER).read_text())
        traced = Trace(pid, trace)
        with traced.running():
            began = time.monotonic()
            for _ in range(GROUPS):
                handles = await client.submit_many([client.spec("note", {"n": n}) for n in range(SIZE)])
                assert all(handle.created for handle in handles)
            took = time.monotonic() - began
    return traced.letters(), took


@pytest.mark.system
@pytest.mark.parametrize("where", ["embedded", "external"])
async def test_with_fsync_no_answer_leaves_before_its_jobs_are_on_the_disk(
    where: str, always: Valkey, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    external = always if where == "external" else None
    chosen = settings(monkeypatch, "fsync", data_dir, external.url if external else None)
    letters, _ = await submits(chosen, tmp_path / "trace", data_dir, external)
    assert re.fullmatch(rf"F*(?:ra+F+w[aF]*){{{GROUPS}}}", letters), letters
    assert letters.count("F") >= GROUPS


@pytest.mark.system
async def test_fast_answers_at_once_and_writes_through_every_second(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The AOF is written before the answer, unless another thread is just fsyncing it: see below."""
    letters, took = await submits(settings(monkeypatch, "fast", data_dir), tmp_path / "trace", data_dir)
    assert re.fullmatch(rf"a*(?:ra*wa*){{{GROUPS}}}", letters.replace("F", "")), letters
    assert letters.count("raw") > GROUPS / 2
    assert letters.count("F") <= took + 2 < GROUPS


@pytest.mark.system
async def test_a_fast_server_that_is_killed_while_the_disk_is_slow_loses_what_it_had_not_written(
    own_valkey: Valkey,
) -> None:
    """A limit of `appendfsync everysec`, not a promise: with an fsync under way the server puts writing off, for up to
    2 s, and answers all the same."""
    assert own_valkey.process
    slow = "strace -f -o /dev/null -e trace=fdatasync,fsync -e inject=fdatasync,fsync:delay_enter=1900000 -p"
    async with Client(own_valkey.url) as client:
        await client.submit("note")
        tracer = subprocess.Popen([*slow.split(), str(own_valkey.process.pid)], stderr=subprocess.DEVNULL)
        with own_valkey.client() as admin:
            deadline = time.monotonic() + 10
            while not admin.info("persistence")["aof_pending_bio_fsync"]:
                assert time.monotonic() < deadline
                await client.submit("note")
        accepted = [(await client.submit("note")).job_id for _ in range(20)]
        own_valkey.kill()
        tracer.wait(10)
    with own_valkey.start().client() as admin:
        assert admin.exists(*(f"job:{job_id}" for job_id in accepted)) < len(accepted)


@pytest.mark.parametrize("option", [("appendfsync", "everysec"), ("appendonly", "no")])
async def test_fsync_is_refused_of_a_server_that_does_not_do_it(option: tuple[str, str], always: Valkey) -> None:
    chosen = Settings(redis_url=always.url, durability=Durability.FSYNC)
    async with Client(settings=chosen) as client:
        await client.submit("note")
    with always.client() as admin:
        admin.config_set(*option)
    with pytest.raises(ConfigError, match="appendfsync always"):
        await Client(settings=chosen).open()
    with pytest.raises(ConfigError, match="appendfsync always"):
        SyncClient(settings=chosen).open()
