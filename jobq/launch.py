"""What a command starts with: settings, a registry, a free port."""

from __future__ import annotations

import socket
import sys
from errno import EADDRINUSE
from importlib import import_module
from pathlib import Path
from types import ModuleType

from jobq.errors import ConfigError
from jobq.settings import Settings
from jobq.task import Registry

NAME_IT = "name yours as module:attribute, such as mytasks:registry, with --app or JOBQ_APP"


def load_settings() -> Settings:
    """The `settings` of a config.py in the current folder, or the engine's own. Raises ConfigError."""
    here = Path.cwd()
    if not (here / "config.py").is_file():
        return Settings.load()
    _make_importable(here)
    settings = getattr(import_module("config"), "settings", None)
    return settings if isinstance(settings, Settings) else Settings.load()


def load_app(settings: Settings) -> Registry:
    """The registry that `app` names as module:attribute. Raises ConfigError."""
    module, _, attribute = settings.app.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise ConfigError(f"{settings.app!r} is no place of a registry: {NAME_IT}")
    registry = getattr(_import_app(module, settings.project), attribute, None)
    if not isinstance(registry, Registry):
        raise ConfigError(f"there is no jobq.Registry at {settings.app}: {NAME_IT}")
    return registry


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


def _import_app(module: str, folder: Path) -> ModuleType:
    _make_importable(folder)
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if f"{module}.".startswith(f"{error.name}."):
            raise ConfigError(f"there is no module {module} in {folder}: {NAME_IT}") from None
        raise ConfigError(f"{module} imports {error.name}, which is not installed here: install it") from None


def _make_importable(folder: Path) -> None:
    if sys.path[0] != str(folder):
        sys.path.insert(0, str(folder))
