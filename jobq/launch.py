"""What a command starts with: settings, a registry, a server, a free port."""

from __future__ import annotations

import asyncio
import importlib
import socket
import sys
from errno import EADDRINUSE
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType

from jobq.errors import ConfigError, StoreUnavailable
from jobq.settings import Settings
from jobq.store.connect import Server, connect
from jobq.task import Registry

NAME_IT = "name yours as module:attribute, such as mytasks:registry, with --app or JOBQ_APP"


class AppError(ConfigError):
    """The app, or the config.py beside it, cannot be imported. When its own code raised, that is the cause."""


def load_settings() -> Settings:
    """The `settings` of a config.py in the current folder, or the engine's own. Raises ConfigError."""
    here = Path.cwd()
    if not (here / "config.py").is_file():
        return Settings.load()
    try:
        settings = getattr(_import("config", here), "settings", None)
    except SystemExit as error:  # of Settings.load_or_exit
        raise ConfigError(str(error.code).removeprefix("jobq: ")) from None
    return settings if isinstance(settings, Settings) else Settings.load()


def load_app(settings: Settings) -> Registry:
    """The registry that `app` names as module:attribute. Raises AppError."""
    module, _, attribute = settings.app.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise AppError(f"{settings.app!r} is no place of a registry: {NAME_IT}")
    registry = getattr(_import(module, settings.project), attribute, None)
    if not isinstance(registry, Registry):
        raise AppError(f"there is no jobq.Registry at {settings.app}: {NAME_IT}")
    return registry


def find_app(settings: Settings) -> Registry | None:
    """As `load_app`; but None where nobody named an app, and the project has no tasks.py that could be meant."""
    named = "app" in settings.model_fields_set or settings.app != Settings.model_fields["app"].default
    return load_app(settings) if named or (settings.project / "tasks.py").is_file() else None


def reach(settings: Settings) -> Server:
    """The server of these settings. Raises StoreUnavailable with what to do."""
    try:
        return asyncio.run(connect(settings))
    except ConfigError as error:
        raise StoreUnavailable(str(error)) from None


def free_port(host: str, port: int) -> int:
    """This port, or any free one for 0. Raises ConfigError when nothing can listen there."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == EADDRINUSE:
            what = f"port {port} is taken: stop the program that uses it, or choose another with --port or JOBQ_PORT"
        else:
            what = f"cannot listen on {host}, port {port} ({error.strerror}): correct --host or --port"
        raise ConfigError(what) from None


def _import(module: str, folder: Path) -> ModuleType:
    if sys.path[0] != str(folder):
        sys.path.insert(0, str(folder))
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if f"{module}.".startswith(f"{error.name}."):
            raise AppError(f"there is no module {module} in {folder}: {NAME_IT}") from None
        raise AppError(f"{module} imports {error.name}, which is not installed here: install it") from None
    except Exception as error:
        raise AppError(f"{module} cannot be imported") from error.with_traceback(_theirs(error.__traceback__))


def _theirs(frames: TracebackType | None) -> TracebackType | None:
    """Without the frames of the import itself: what is left is the user's own code."""
    ours = (__file__, importlib.__file__)
    while frames and (frames.tb_frame.f_code.co_filename in ours or "importlib" in frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames
