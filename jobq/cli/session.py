"""A client for the time of one command."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

from jobq import Client, Registry, Settings
from jobq.cli.frame import INTERRUPTED
from jobq.errors import BadRequest, ConfigError, StoreUnavailable
from jobq.launch import load_settings


def run(act: Callable[..., Awaitable[int]], *arguments: object) -> None:
    """Do `act(client, *arguments)` and end the process with the exit code it answers."""
    settings = load_settings()
    if settings.redis_url is None and not settings.data_dir.is_dir():
        # To look into a folder must not leave a server's data there.
        raise StoreUnavailable(
            f"there is no server: {settings.data_dir} does not exist; start one with `jobq up`,"
            " go to the folder where it runs, or set JOBQ_REDIS_URL or JOBQ_DATA_DIR"
        )
    sys.exit(asyncio.run(with_client(settings, None, act, *arguments)))


async def with_client(
    settings: Settings, registry: Registry | None, act: Callable[..., Awaitable[int]], *arguments: object
) -> int:
    client = Client(settings=settings, registry=registry)
    try:
        await client.open()
    except ConfigError as error:
        raise StoreUnavailable(str(error)) from None
    try:
        return await act(client, *arguments)
    finally:
        await client.close()


def confirm(question: str, yes: bool) -> None:
    """Ask, unless `yes`. Ends the process when the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadRequest(f"{question} Say so with --yes: there is no terminal to ask on")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        print("nothing was done", file=sys.stderr)
        sys.exit(INTERRUPTED)
