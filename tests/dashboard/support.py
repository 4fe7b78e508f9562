"""Tasks to look at, and an application that shows them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastapi import FastAPI

from jobq import Client, Registry, Settings, current
from jobq.http.app import create_app
from jobq.worker import Worker

registry = Registry()
broken = {"smtp"}
"""What does not work now: tests mend it."""
NASTY = "<script>alert(1)</script>&\"'"


@registry.task
async def send_email(to: str = "you@example.com") -> dict[str, Any]:
    """Fails while its server is broken, and tells why in a way that a page must not believe."""
    if "smtp" in broken and to.startswith("broken"):
        raise ConnectionError(f"no mail to {to} {NASTY}")
    return {"to": to, "number": 9007199254740993, "empty": []}


@registry.task(queue="images")
async def draw(seconds: float = 30.0) -> None:
    current().progress(0.4, f"row {NASTY}")
    logging.getLogger("drawing").warning("almost %s", NASTY)
    await asyncio.sleep(seconds)


@registry.task
def keep(value: Any = None) -> Any:
    return value


def make_app(client: Client) -> FastAPI:
    app = create_app(client.settings, registry)
    app.state.jobq = client
    return app


async def run_all(settings: Settings) -> None:
    """Run what is ready."""
    await Worker(settings, registry, burst=True).run()
