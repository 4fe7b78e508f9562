"""The HTTP side: routers that any FastAPI application can include, and `app.create_app`, our own application of them.

FastAPI is not imported here, so that models.py can show the wire models without loading it into every worker.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from jobq.client import Client

__all__ = ["install"]


def install(app: FastAPI, client: Client, prefix: str = "") -> None:
    """Add the whole API to an application of yours, below `prefix`, such as `/jobs`.

    Its lifespan, middleware and error handlers stay as they are. The lifespan has to open the client:

        client = Client(registry=registry)

        @asynccontextmanager
        async def lifespan(app):
            async with client:
                yield

        app = FastAPI(lifespan=lifespan)
        install(app, client, prefix="/jobs")
    """
    from jobq.http import app as ours  # noqa: PLC0415  # for the reason above

    ours.install(app, client, prefix)
