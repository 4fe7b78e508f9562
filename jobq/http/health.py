"""For whoever watches the process: does it live, and may it be sent requests?"""

from __future__ import annotations

from fastapi import APIRouter

from jobq.errors import StoreFull, StoreUnavailable, StoreUnfit
from jobq.http.deps import ClientDep
from jobq.http.problems import responses
from jobq.http.route import OpenRoute
from jobq.http.schemas import Health

router = APIRouter(tags=["health"], route_class=OpenRoute)


@router.get("/healthz", summary="Does the process live?")
async def healthz() -> Health:
    """Says nothing about Redis: a restart of this process would not help there."""
    return Health()


@router.get(
    "/readyz",
    summary="Would a submit be accepted?",
    responses=responses(StoreUnavailable, StoreFull, StoreUnfit),
)
async def readyz(client: ClientDep) -> Health:
    """Asks the server, every two seconds at most, whether it takes writes and is set up so that it keeps them."""
    await client.ready()
    return Health()
