"""`python -m jobq up`: server, API and worker in one terminal. It starts them, shows what they say, stops them.

API and worker are in sessions of their own, so that Ctrl-C reaches this process alone and it can stop them in order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from contextlib import suppress

from jobq.demo import Api, demo
from jobq.launch import free_port, load_app, load_settings
from jobq.settings import Settings
from jobq.store.connect import Server, connect
from jobq.store.supervisor import tie_to_parent
from jobq.task import Registry

READY_LIMIT = 60.0
KILL_AFTER = 5.0
"""Seconds beyond the drain limit that a process has to end."""
LONGEST_LINE = 1 << 24

COLOURS = {"api": 36, "worker": 35}
ASKED_AT = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104
"""Where to ask what listens everywhere."""


def up(*, with_demo: bool, once: bool) -> int:
    """Run everything until told to stop, or with `once` until the demo is over. The exit code. Raises ConfigError."""
    settings = load_settings()
    registry = load_app(settings)
    settings = settings.having(port=free_port(settings.host, settings.port))
    server = asyncio.run(connect(settings))
    try:
        return asyncio.run(Up(settings, registry, server).run(with_demo=with_demo, once=once))
    finally:
        server.close()


class Up:
    """The processes of one `up`."""

    def __init__(self, settings: Settings, registry: Registry, server: Server) -> None:
        self._settings = settings
        self._registry = registry
        self._server = server
        self._api = Api(ASKED_AT.get(settings.host, settings.host), settings.port)
        self._processes: dict[str, Process] = {}
        self._ending = asyncio.Event()
        self._exit_code = 0

    async def run(self, *, with_demo: bool, once: bool) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._interrupted)
        async with asyncio.TaskGroup() as logs:
            try:
                for name, command in commands(self._settings).items():
                    self._processes[name] = await start(command, self._settings, quiet=with_demo)
                    logs.create_task(self._show_log(name))
                await self._attend(with_demo=with_demo, once=once)
            finally:
                await self._stop()
        killed = any(process.returncode == -signal.SIGKILL for process in self._processes.values())
        return self._exit_code or int(killed)

    async def _attend(self, *, with_demo: bool, once: bool) -> None:
        """Until this is to end."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._notice_end(name)) for name in self._processes]
            tasks.append(group.create_task(self._present(with_demo=with_demo, once=once)))
            await self._ending.wait()
            for task in tasks:
                task.cancel()

    async def _present(self, *, with_demo: bool, once: bool) -> None:
        """Show how it is used, once it can be."""
        try:
            async with asyncio.timeout(READY_LIMIT):
                while (await self._api.get("/readyz"))[0] != 200:  # noqa: ASYNC110  # it is another process
                    await asyncio.sleep(0.05)
        except TimeoutError:
            return self._finish(1, f"the API does not answer at {self._api.url}")
        self._say(welcome(self._api, self._registry, self._server))
        if with_demo:
            well = await demo(self._api, self._registry, self._say)
            if once:
                self._finish(0 if well else 1)

    async def _notice_end(self, name: str) -> None:
        code = await self._processes[name].wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        self._finish(1, f"the {name} {how}: stopping the rest")

    async def _stop(self) -> None:
        limit = self._settings.drain_timeout + KILL_AFTER
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(limit):
                await self._ended()
        except TimeoutError:
            self._say(f"not everything stopped within {limit:g} s: killing it")
        # Also whatever a task has left running: it would hold the pipe of the log open.
        self._kill()
        await self._ended()

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

    async def _show_log(self, name: str) -> None:
        stream = self._processes[name].stdout
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


def commands(settings: Settings) -> dict[str, list[str]]:
    """What to run, after `python`: the service's own files, or ours where there are none for this registry."""
    own = settings.app == Settings.model_fields["app"].default
    listen = ["--host", settings.host, "--port", str(settings.port)]
    api = ["uvicorn", "api:app"] if own and (settings.project / "api.py").is_file() else ["jobq", "api"]
    worker = ["worker.py"] if own and (settings.project / "worker.py").is_file() else ["-m", "jobq", "worker"]
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
