"""The command line: `python -m jobq up|worker|api`.

The top of this file imports what parsing needs and no more, so that `--help` answers at once; each command imports the
rest. A flag becomes a JOBQ_ variable of this process: settings, a config.py and child processes all see it there.
"""

# ruff: noqa: PLC0415  # imports inside of functions, for the reason above

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from jobq.errors import ConfigError

App = Annotated[str | None, typer.Option(help="Where your registry is, as module:attribute.", show_default=False)]
Host = Annotated[str | None, typer.Option(help="The address to listen on.", show_default=False)]
Port = Annotated[int | None, typer.Option(help="The port to listen on; 0 takes any free one.", show_default=False)]
RedisUrl = Annotated[
    str | None, typer.Option(help="The Redis or Valkey to use, instead of the embedded server.", show_default=False)
]
DataDir = Annotated[
    Path | None, typer.Option(help="The folder of the embedded server.", show_default=False, resolve_path=True)
]
Concurrency = Annotated[int | None, typer.Option(help="How many jobs a worker runs at once.", show_default=False)]
Queues = Annotated[
    str | None, typer.Option(help="The queues to serve, separated by commas, the first one first.", show_default=False)
]
DrainTimeout = Annotated[
    float | None, typer.Option(help="Seconds that running jobs have to finish when told to stop.", show_default=False)
]
Burst = Annotated[bool, typer.Option("--burst", help="End as soon as there is nothing to do.")]
Demo = Annotated[bool, typer.Option("--demo", help="Submit one job of each task and show how they end.")]
Once = Annotated[bool, typer.Option("--once", help="Stop everything when the jobs of --demo are over.")]


def _typer(**about: Any) -> typer.Typer:
    # Without rich: its import alone takes longer than all the rest, and its tracebacks show local variables.
    return typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, **about)


app = _typer(no_args_is_help=True, help="An async job queue.")


@app.command()
def up(
    app: App = None,
    host: Host = None,
    port: Port = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    concurrency: Concurrency = None,
    demo: Demo = False,
    once: Once = False,
) -> None:
    """Run everything in this terminal: the server, the API and a worker."""
    if once and not demo:
        raise ConfigError("--once ends with the jobs of the demo: use it as up --demo --once")
    _set(app=app, host=host, port=port, redis_url=redis_url, data_dir=data_dir, concurrency=concurrency)
    from jobq.up import up

    sys.exit(up(with_demo=demo, once=once))


@app.command()
def worker(
    app: App = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    concurrency: Concurrency = None,
    queues: Queues = None,
    drain_timeout: DrainTimeout = None,
    burst: Burst = False,
) -> None:
    """Run jobs until told to stop."""
    _set(app=app, redis_url=redis_url, data_dir=data_dir)
    _set(concurrency=concurrency, queues=queues, drain_timeout=drain_timeout)
    from jobq.launch import load_app, load_settings
    from jobq.worker import Worker, run

    settings = load_settings()
    sys.exit(run(Worker(settings, load_app(settings), burst=burst)))


@app.command()
def api(
    app: App = None, host: Host = None, port: Port = None, redis_url: RedisUrl = None, data_dir: DataDir = None
) -> None:
    """Serve the HTTP API."""
    _set(app=app, host=host, port=port, redis_url=redis_url, data_dir=data_dir)
    import asyncio

    import uvicorn

    from jobq import telemetry
    from jobq.http.app import create_app
    from jobq.launch import free_port, load_app, load_settings
    from jobq.store.connect import connect

    settings = load_settings()
    application = create_app(settings, load_app(settings))
    port = free_port(settings.host, settings.port)
    # It is opened again when the application starts; but here a failure is one line.
    asyncio.run(connect(settings)).close()
    telemetry.configure(settings)
    uvicorn.run(application, host=settings.host, port=port)


def run_command(function: Callable[..., None]) -> None:
    """Run a function as the only command of a program, as `main` runs ours."""
    command = _typer()
    command.command()(function)
    _run(command)


def main() -> None:
    _run(app)


def _run(command: typer.Typer) -> None:
    """What is set wrongly ends the process with the one line that says so."""
    try:
        command()
    except ConfigError as error:
        sys.exit(f"jobq: {error}")


def _set(**flags: object) -> None:
    os.environ.update({f"JOBQ_{name.upper()}": str(value) for name, value in flags.items() if value is not None})
