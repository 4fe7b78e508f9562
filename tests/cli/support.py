"""The command line as a person and as a script meet it: through a terminal of our own, and through pipes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from jobq.cli import main
from tests.support.processes import ROOT, eventually

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

TASKS = """
import asyncio
from jobq import Registry, current

registry = Registry()

@registry.task
async def hello(name: str = "world") -> str:
    "Say hello."
    return f"Hello, {name}"

@registry.task
async def echo(value: object = None, other: object = None) -> object:
    return [value, other]

@registry.task
async def broken() -> None:
    raise ValueError("as always")

@registry.task
async def resize(seconds: float = 1.0) -> str:
    current().progress(0.4, "reading")
    await asyncio.sleep(seconds)
    return "done"

@registry.task(queue="mail")
async def send(to: str) -> None:
    pass
"""


def environment(**changes: str) -> dict[str, str]:
    """That of the tests, without what would steer jobq or its colours."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JOBQ_") and k not in ("REDIS_URL", "NO_COLOR")}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONUNBUFFERED": "1", **changes}


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Shell:
    """Runs commands in a folder, with some variables set."""

    folder: Path
    env: dict[str, str]

    def pipe(self, *arguments: str, stdin: str = "", **env: str) -> Done:
        """In this process, which is ten times as fast as a new one; with no terminal in sight."""
        out, err = StringIO(), StringIO()
        path, modules = [*sys.path], {*sys.modules}
        # Other tests import the service's own.
        others = {name: sys.modules.pop(name) for name in ("config", "tasks", "models") if name in sys.modules}
        with ExitStack() as undo:
            undo.enter_context(patch.dict(os.environ, environment(**self.env, **env), clear=True))
            undo.enter_context(patch.object(sys, "argv", ["jobq", *arguments]))
            undo.enter_context(patch.object(sys, "stdin", StringIO(stdin)))
            undo.enter_context(chdir(self.folder))
            undo.enter_context(redirect_stdout(out))
            undo.enter_context(redirect_stderr(err))
            try:
                main()
                code: object = 0
            except SystemExit as end:
                code = end.code or 0
            finally:
                sys.path[:] = path
                for name in {*sys.modules} - modules:
                    if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == self.folder:
                        del sys.modules[name]
                for name in ("config", "tasks", "models"):
                    sys.modules.pop(name, None)
                sys.modules.update(others)
        assert isinstance(code, int), code
        return Done(code, out.getvalue(), err.getvalue())

    def process(self, *arguments: str) -> Done:
        """As `pipe`, in a process of its own and through real pipes."""
        command = [sys.executable, "-m", "jobq", *arguments]
        env = environment(**self.env)
        run = subprocess.run(command, cwd=self.folder, env=env, input="", capture_output=True, text=True, timeout=30)
        return Done(run.returncode, run.stdout, run.stderr)

    def terminal(self, *arguments: str, **env: str) -> Terminal:
        return Terminal(["-m", "jobq", *arguments], self.folder, environment(**self.env, **env))


class Terminal:
    """A command in a pseudo terminal of 120 columns: what it shows, what is typed, how it ends."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            # So that Ctrl-C, when typed, reaches it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def raw(self) -> str:
        """All that was written, with the escapes."""
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    @property
    def text(self) -> str:
        return ESCAPE.sub("", self.raw)

    def wait_for(self, text: str) -> None:
        eventually(lambda: text in self.text or self._process.poll() is not None, 15, lambda: self.text)
        assert text in self.text, self.text

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait(self) -> int:
        code = self._process.wait(20)
        self._reader.join(5)
        os.close(self._master)
        return code

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        # On Linux the end of the other side is an error here.
        with suppress(OSError):
            while chunk := os.read(self._master, 65536):
                self._shown += chunk
