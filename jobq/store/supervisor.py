"""The process behind the embedded server: starts it, watches it, stops it when the last user is gone.

It is run by path with `python -I -S` and so imports the standard library only: it starts in milliseconds, stays small,
and depends neither on a current folder nor on PYTHONPATH.

Four lock files in the data directory say who is there. The kernel drops a lock with its last holder, however that one
dies, so no lock is ever stale:

    users.lock       shared by every process that uses the server
    fsync.lock       shared by those of them that want each write on disk
    supervisor.lock  the supervisor, from before the server starts until after it is gone; holds its pid
    server.lock      the server, inherited from the supervisor and so free only when both are gone; holds its pid
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

if sys.platform != "win32":
    import fcntl

USERS, FSYNC, SUPERVISOR, SERVER = "users.lock", "fsync.lock", "supervisor.lock", "server.lock"
LOG = "valkey.log"

DIES_WITH_PARENT = sys.platform == "linux"
"""Linux ends the server when its supervisor dies. Elsewhere the next supervisor does it."""

SOCKET_PATH_LIMIT = 107 if sys.platform == "linux" else 103
"""Bytes of a socket's path that the kernel accepts."""

TICK = 0.5
READY_LIMIT = 60.0
STOP_LIMIT = 30.0
LOG_LIMIT = 1 << 20


class Address(NamedTuple):
    """Where a server listens: the path of a socket, or a port of the loopback interface and its password."""

    path: str = ""
    port: int = 0
    password: str = ""

    def answers(self) -> bool:
        """Whether a server is there that answers within a second and has loaded its data."""
        commands = [f"AUTH {self.password}", "PING"] if self.password else ["PING"]
        try:
            with self._connect() as connection, connection.makefile("rb") as replies:
                connection.sendall("".join(f"{command}\r\n" for command in commands).encode())
                return [replies.readline() for _ in commands][-1] == b"+PONG\r\n"
        except OSError:
            return False

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX if self.path else socket.AF_INET)
        connection.settimeout(1.0)
        try:
            connection.connect(self.path or ("127.0.0.1", self.port))
        except OSError:
            connection.close()
            raise
        return connection


def find_address(data_dir: Path) -> Address | None:
    """Where the server of `data_dir` is to be found, or None when it needs a port and was never started."""
    path = str(data_dir / "valkey.sock")
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return Address(path)
    try:
        port, password = (data_dir / "port").read_text().split()
        return Address(port=int(port), password=password)
    except (FileNotFoundError, ValueError):
        return None


def try_lock(file: Path, operation: int) -> int | None:
    """A new descriptor holding the flock `operation` on `file`, or None when another holder is in the way."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


def wait_lock(file: Path, operation: int, limit: float) -> int | None:
    """As `try_lock`, for at most `limit` seconds."""
    deadline = time.monotonic() + limit
    while (lock := try_lock(file, operation)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return lock


def is_held(file: Path, operation: int) -> bool:
    """Whether some holder stands in the way of `operation` on `file`."""
    lock = try_lock(file, operation)
    if lock is not None:
        os.close(lock)
    return lock is None


def is_file(descriptor: int, file: Path) -> bool:
    """Whether `descriptor` is what `file` names now: after an `rm -r`, a lock on the old file locks nothing."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except OSError:
        return False


def tie_to_parent() -> Callable[[], None]:
    """For `preexec_fn`: Linux sends the new process SIGTERM when the thread that started it dies."""
    parent = os.getpid()
    libc = ctypes.CDLL(None) if DIES_WITH_PARENT else None

    def tie() -> None:
        if libc:
            libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before it had been asked to take us along
            os._exit(1)

    return tie


def supervise(data_dir: Path, binary: str, grace: float) -> None:
    """Run the server of `data_dir` until nobody has used it for `grace` seconds; exit with one line if it fails."""
    supervisor_lock = _become_supervisor(data_dir)
    if supervisor_lock is None:
        return
    server_lock = _outlive_predecessor(data_dir)
    address = _choose_address(data_dir)
    with _open_log(data_dir / LOG) as log:
        begin = log.tell()
        server = _start(binary, _config(data_dir, address), server_lock, log)
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        _await_ready(server, address, log, begin)
        # The user that started us reads until this pipe is closed: from here on the log gets what we have to say.
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    _watch(server, supervisor_lock, data_dir, grace)


def _become_supervisor(data_dir: Path) -> int | None:
    """The supervisor's lock, or None when another one is up and its server answers."""
    deadline = time.monotonic() + READY_LIMIT
    while (lock := try_lock(data_dir / SUPERVISOR, fcntl.LOCK_EX)) is None:
        address = find_address(data_dir)
        if address and address.answers():
            return None
        if time.monotonic() > deadline:
            sys.exit("another process has been starting or stopping it for a minute")
        time.sleep(0.05)
    _write_pid(lock)
    return lock


def _outlive_predecessor(data_dir: Path) -> int:
    """Wait until the last server is gone; two of them must never share a data directory. The server's lock."""
    if not DIES_WITH_PARENT:
        _end_orphan(data_dir / SERVER)
    lock = wait_lock(data_dir / SERVER, fcntl.LOCK_EX, STOP_LIMIT)
    if lock is None:
        sys.exit(f"an earlier server (process {(data_dir / SERVER).read_text()}) does not end")
    os.ftruncate(lock, 0)
    return lock


def _end_orphan(file: Path) -> None:
    # While the lock is held the pid is that of the holder: it wrote it before all else, so it is not a reused one.
    # Never on Linux: there it may come from another container that shares the directory and numbers its own processes.
    if is_held(file, fcntl.LOCK_EX):
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(file.read_text()), signal.SIGTERM)


def _choose_address(data_dir: Path) -> Address:
    known = find_address(data_dir)
    if known and known.path:
        return known
    port = _free_port(preferred=known.port if known else 0)
    if known and known.port == port:
        return known
    # A new port gets a new password: whoever took the old port may have been sent the old one.
    address = Address(port=port, password=os.urandom(32).hex())
    draft = data_dir / "port.new"
    draft.touch(mode=0o600)
    draft.write_text(f"{address.port} {address.password}\n")
    draft.replace(data_dir / "port")
    return address


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    sys.exit("no port of 127.0.0.1 is free")


def _config(data_dir: Path, address: Address) -> str:
    data = data_dir / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    options = {
        "bind": "127.0.0.1",
        "protected-mode": "yes",
        "port": str(address.port),
        "enable-debug-command": "no",
        "daemonize": "no",
        "logfile": str(data_dir / LOG),
        "loglevel": "notice",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "always" if is_held(data_dir / FSYNC, fcntl.LOCK_EX) else "everysec",
        "aof-load-truncated": "yes",
        "aof-use-rdb-preamble": "yes",
        "auto-aof-rewrite-min-size": "64mb",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    if address.path:
        options |= {"unixsocket": address.path, "unixsocketperm": "700"}
    else:
        options |= {"requirepass": address.password}
    return "".join(f"{name} {_quoted(value)}\n" for name, value in options.items())


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _open_log(file: Path) -> BinaryIO:
    with suppress(FileNotFoundError):
        if file.stat().st_size > LOG_LIMIT:
            file.replace(file.with_suffix(".log.1"))
    return file.open("ab+")


def _start(binary: str, config: str, server_lock: int, log: BinaryIO) -> subprocess.Popen[bytes]:
    tie = tie_to_parent()

    def before_exec() -> None:
        _write_pid(server_lock)
        tie()

    # The configuration goes through a pipe: a command line would show the password to everybody.
    # `preexec_fn` is safe here, as the supervisor has no threads; and the server dies with the thread that started it.
    server = subprocess.Popen(
        [binary, "-"], stdin=subprocess.PIPE, stdout=log, stderr=log, pass_fds=[server_lock], preexec_fn=before_exec
    )
    assert server.stdin is not None
    with suppress(BrokenPipeError), server.stdin as pipe:
        pipe.write(os.fsencode(config))
    return server


def _write_pid(lock: int) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)


def _await_ready(server: subprocess.Popen[bytes], address: Address, log: BinaryIO, begin: int) -> None:
    deadline = time.monotonic() + READY_LIMIT
    while not address.answers():
        if server.poll() is not None:
            log.seek(begin)
            sys.exit(_last_words(log.read().decode(errors="replace")) or f"it ended with code {server.returncode}")
        if time.monotonic() > deadline:
            print(f"it has been loading its data for {READY_LIMIT:.0f} s and goes on; try again later", flush=True)
            return
        time.sleep(0.01)


def _last_words(log: str) -> str:
    """The last line, without the server's pid and time."""
    line = log.strip().rpartition("\n")[2]
    return line.partition(" # ")[2] or line


def _watch(server: subprocess.Popen[bytes], supervisor_lock: int, data_dir: Path, grace: float) -> None:
    # A signal that arrives just before `pause` is made good by the timer's next one.
    for wake_up in (signal.SIGCHLD, signal.SIGALRM):
        signal.signal(wake_up, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
    idle_since = math.inf
    while server.poll() is None:
        if not is_file(supervisor_lock, data_dir / SUPERVISOR):
            # Somebody removed the directory. A clean shutdown could remove the socket of the next server there.
            server.kill()
        elif (alone := try_lock(data_dir / USERS, fcntl.LOCK_EX)) is None:
            idle_since = math.inf
        else:
            idle_since = min(idle_since, time.monotonic())
            if time.monotonic() - idle_since >= grace:
                # `alone` stays locked until we exit: a user that comes now waits, and then finds no server at all.
                return _stop(server)
            # Not kept meanwhile: a user that comes during the grace gets in at once, to this server.
            os.close(alone)
        signal.pause()


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def main(data_dir: str, binary: str, grace: str) -> None:
    """Leave the family of the user that started us, so that what ends its children does not end the server."""
    if os.fork():
        os._exit(0)
    # A thread that blocks signals passes that on: the server could never be asked to stop.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.umask(0o077)
    supervise(Path(data_dir), binary, float(grace))


if __name__ == "__main__":
    main(*sys.argv[1:])
