"""The commands that run something until told to stop: up, worker, api."""

# ruff: noqa: PLC0415  # see jobq.cli

from __future__ import annotations

import sys

import typer

from jobq.cli.frame import NO_SERVER, add_commands
from jobq.cli.options import (
    App,
    Burst,
    Concurrency,
    DataDir,
    Demo,
    DrainTimeout,
    Host,
    Insecure,
    Once,
    Port,
    Processes,
    Queues,
    RedisUrl,
    Reload,
    as_environment,
)
from jobq.errors import ConfigError


def add_to(app: typer.Typer) -> None:
    add_commands(app, up, worker, api)


def up(
    app: App = None,
    host: Host = None,
    port: Port = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    concurrency: Concurrency = None,
    processes: Processes = 1,
    reload: Reload = False,
    demo: Demo = False,
    once: Once = False,
    insecure: Insecure = False,
) -> None:
    """Run everything here: the server, the API and a worker."""
    if once and not demo:
        raise ConfigError("--once ends with the jobs of the demo: use it as up --demo --once")
    if reload and demo:
        raise ConfigError("--demo shows the tasks as they are, --reload waits for them to change: use one of them")
    as_environment(app=app, host=host, port=port, redis_url=redis_url, data_dir=data_dir, concurrency=concurrency)
    from jobq.up import Plan, up

    sys.exit(up(Plan(processes=processes, reload=reload, demo=demo, once=once, insecure=insecure)))


def worker(
    app: App = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    concurrency: Concurrency = None,
    queues: Queues = None,
    drain_timeout: DrainTimeout = None,
    processes: Processes = 1,
    burst: Burst = False,
) -> None:
    """Run jobs until told to stop."""
    as_environment(app=app, redis_url=redis_url, data_dir=data_dir)
    as_environment(concurrency=concurrency, queues=queues, drain_timeout=drain_timeout)
    from jobq.launch import load_app, load_settings
    from jobq.supervise import in_processes
    from jobq.worker import Worker, run

    settings = load_settings()
    registry = load_app(settings)
    code = in_processes(processes, settings, lambda: run(Worker(settings, registry, burst=burst)))
    # A worker's own word for a server that is not there.
    sys.exit(NO_SERVER if code == 2 else code)


def api(
    app: App = None,
    host: Host = None,
    port: Port = None,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
    insecure: Insecure = False,
) -> None:
    """Serve the HTTP API."""
    as_environment(app=app, host=host, port=port, redis_url=redis_url, data_dir=data_dir)
    import uvicorn

    from jobq import telemetry
    from jobq.http.app import create_app
    from jobq.http.auth import check_bind
    from jobq.http.server import PROTOCOL
    from jobq.launch import free_port, load_app, load_settings, reach

    settings = load_settings()
    check_bind(settings, insecure)
    application = create_app(settings, load_app(settings))
    port = free_port(settings.host, settings.port)
    # It is opened again when the application starts; but here a failure is one line.
    reach(settings).close()
    telemetry.configure(settings)
    uvicorn.run(application, host=settings.host, port=port, http=PROTOCOL)
