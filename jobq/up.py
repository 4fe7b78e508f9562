"""`python -m jobq up`: server, API and worker in one terminal. It starts them, shows what they say, stops them.

API and worker are in sessions of their own, so that Ctrl-C reaches this process alone and it can stop them in order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from jobq.demo import Api, demo
from jobq.errors import ConfigError
from jobq.http.auth import check_bind
from jobq.http.server import PROTOCOL
from jobq.launch import free_port, load_app, load_settings, reach
from jobq.settings import Settings
from jobq.store.connect import Server
from jobq.store.supervisor import tie_to_parent
from jobq.task import Registry

READY_LIMIT = 60.0
KILL_AFTER = 5.0
"""Seconds beyond the drain limit that a process has to end."""
RELOAD_DRAIN = 1.0
"""Seconds that running jobs have to finish before a reload gives them back."""
LONGEST_LINE = 1 << 24
IGNORED = frozenset({"__pycache__", "tests", "outbox", "node_modules", "site-packages"})
"""Folders whose changes reload nothing, besides hidden ones."""

COLOURS = {"api": 36, "worker": 35}
ASKED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
"""Where to ask what listens everywhere."""


@dataclass(frozen=True)
class Plan:
    """What was asked of one `up`."""

    processes: int = 1
    reload: bool = False
    demo: bool = False
    once: bool = False
    insecure: bool = False


def up(plan: Plan) -> int:
    """Run everything until told to stop, or with `once` until the demo is over. The exit code.

    Raises ConfigError, and StoreUnavailable when there is no server.
    """
    settings = load_settings()
    check_bind(settings, plan.insecure)
    if plan.reload and find_spec("watchfiles") is None:
        raise ConfigError("--reload needs the package watchfiles: install it")
    # With a reload the code may be broken now and repaired later: only the children import it.
    registry = Registry() if plan.reload else load_app(settings)
    settings = settings.having(port=free_port(settings.host, settings.port))
    server = reach(settings)
    try:
        return asyncio.run(Up(settings, registry, server, plan).run())
    finally:
        server.close()


class Up:
    """The processes of one `up`."""

    def __init__(self, settings: Settings, registry: Registry, server: Server, plan: Plan) -> None:
        self._settings = settings
        self._registry = registry
        self._server = server
        self._plan = plan
        key = settings.api_key.get_secret_value() if settings.api_key else None
        self._api = Api(ASKED_AT.get(settings.host, settings.host), settings.port, key)
        self._commands = commands(settings, plan)
        self._processes: dict[str, Process] = {}
        self._stopping = False
        """What ends now was asked to."""
        self._ending = asyncio.Event()
        self._exit_code = 0

    async def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._interrupted)
        async with asyncio.TaskGroup() as logs:
            try:
                await self._start(logs)
                await self._attend(logs)
            finally:
                await self._stop(self._settings.drain_timeout)
        killed = any(process.returncode == -signal.SIGKILL for process in self._processes.values())
        return self._exit_code or int(killed)

    async def _start(self, logs: asyncio.TaskGroup) -> None:
        self._stopping = False
        for name, command in self._commands.items():
            process = self._processes[name] = await start(command, self._settings, quiet=self._plan.demo)
            logs.create_task(self._show_log(name, process))
            logs.create_task(self._notice_end(name, process))

    async def _attend(self, logs: asyncio.TaskGroup) -> None:
        """Until this is to end."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._present())]
            if self._plan.reload:
                tasks.append(group.create_task(self._reload(logs)))
            await self._ending.wait()
            for task in tasks:
                task.cancel()

    async def _present(self) -> None:
        """Show how it is used, once it can be."""
        try:
            async with asyncio.timeout(None if self._plan.reload else READY_LIMIT):
                while (await self._api.get("/readyz"))[0] != 200:  # noqa: ASYNC110  # it is another process
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return self._finish(1, f"the API does not answer at {self._api.url}")
        if self._plan.reload:
            with suppress(ConfigError):
                self._registry = load_app(self._settings)
        self._say(welcome(self._api, self._registry, self._server))
        if self._plan.demo:
            well = await demo(self._api, self._registry, self._say)
            if self._plan.once:
                self._finish(0 if well else 1)

    async def _notice_end(self, name: str, process: Process) -> None:
        code = await process.wait()
        if self._stopping:
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if self._plan.reload:
            self._say(f"the {name} {how}: waiting for a change of the code")
        else:
            self._finish(1, f"the {name} {how}: stopping the rest")

    async def _reload(self, logs: asyncio.TaskGroup) -> None:
        """Start API and worker again with each change of the code. What ends by itself waits for the next one."""
        try:
            async for changed in changes(self._settings.project):
                names = ", ".join(sorted(str(path.relative_to(self._settings.project)) for path in changed))
                if wrong := syntax_error(changed):
                    self._say(f"{wrong}{names} changed and is no Python now: waiting for the next change")
                    continue
                self._say(f"{names} changed: starting again")
                await self._stop(RELOAD_DRAIN)
                await self._start(logs)
        except ConfigError as error:
            self._finish(1, str(error))

    async def _stop(self, drain: float) -> None:
        """Ask all to end, those that take longer than `drain` to hurry, and then kill them."""
        self._stopping = True
        for _ in range(2):
            self._terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(drain):
                    await self._ended()
                    break
            # A worker that is asked once more gives back what still runs.
            limit, drain = drain + KILL_AFTER, KILL_AFTER
        else:
            self._say(f"not everything stopped within {limit:g} s: killing it")
        # Also whatever a task has left running: it would hold the pipe of the log open.
        self._kill()
        await self._ended()

    def _terminate(self) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.terminate()

    async def _ended(self) -> None:
        await asyncio.gather(*(process.wait() for process in self._processes.values()))

    def _kill(self) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _interrupted(self) -> None:
        if self._ending.is_set():
            self._kill()
        else:
            self._finish(0, "stopping; once more to kill")

    def _finish(self, code: int, why: str = "") -> None:
        if self._ending.is_set():
            return
        self._exit_code = code
        self._ending.set()
        if why:
            self._say(why)

    async def _show_log(self, name: str, process: Process) -> None:
        stream = process.stdout
        assert stream is not None
        prefix = f"{name:<6} |"
        if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
            prefix = f"\x1b[{COLOURS[name]}m{prefix}\x1b[0m"
        while line := await stream.readline():
            self._say(f"{prefix} {line.decode(errors='replace').rstrip()}")

    def _say(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:
            # The terminal or the reader is gone. What is buffered must not be tried again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._finish(1)


async def changes(project: Path) -> AsyncIterator[set[Path]]:
    """The .py files below the project that changed, time after time. Raises ConfigError."""
    from watchfiles import awatch  # noqa: PLC0415  # only --reload needs it

    def is_code(_: object, file: str) -> bool:
        path = Path(file).relative_to(project)
        return path.suffix == ".py" and not any(part in IGNORED or part.startswith(".") for part in path.parts)

    try:
        async for changed in awatch(project, watch_filter=is_code):
            yield {Path(file) for _, file in changed}
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"cannot watch {project} ({error}): start without --reload") from None


def syntax_error(files: Iterable[Path]) -> str:
    """What is no Python in these files, as Python tells it; empty when nothing is."""
    for file in files:
        try:
            compile(file.read_bytes(), file, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            return "".join(traceback.format_exception_only(error))
        except OSError:  # it was removed
            continue
    return ""


def commands(settings: Settings, plan: Plan) -> dict[str, list[str]]:
    """What to run, after `python`: the service's own files, or ours where there are none for this registry."""
    own = settings.app == Settings.model_fields["app"].default
    listen = ["--host", settings.host, "--port", str(settings.port)]
    own_api = ["uvicorn", "api:app", "--http", PROTOCOL]
    api = own_api if own and (settings.project / "api.py").is_file() else ["jobq", "api"]
    worker = ["worker.py"] if own and (settings.project / "worker.py").is_file() else ["-m", "jobq", "worker"]
    if plan.insecure and api[0] == "jobq":
        listen.append("--insecure")
    if plan.processes > 1:
        worker += ["--processes", str(plan.processes)]
    return {"api": ["-m", *api, *listen], "worker": worker}


async def start(command: list[str], settings: Settings, *, quiet: bool) -> Process:
    """A process that writes its lines as they come, and does not outlive us (on Linux)."""
    extra = {"PYTHONUNBUFFERED": "1"}
    if sys.stdout.isatty() and settings.log_format == "auto":
        extra["JOBQ_LOG_FORMAT"] = "pretty"
    if quiet:
        # The demo asks often, and each time would be a line.
        extra["UVICORN_ACCESS_LOG"] = "false"
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=settings.project,
        env=os.environ | extra,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        limit=LONGEST_LINE,
        start_new_session=True,
        preexec_fn=tie_to_parent(),
    )


def welcome(api: Api, registry: Registry, server: Server) -> str:
    task = next((task.name for task in registry if not task.parameters.model_json_schema().get("required")), None)
    return "\n".join(
        (
            "",
            f"  API     {api.url}",
            f"  docs    {api.url}/docs",
            f"  server  {server.cli}",
            *([f"  try     {api.curl({'task': task})}"] if task else []),
            "  Ctrl-C stops everything; what is queued stays queued.",
            "",
        )
    )
