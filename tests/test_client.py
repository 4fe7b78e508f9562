"""Client: what its callers are promised when replies get lost."""

from __future__ import annotations

from redis.asyncio import Redis

from jobq import Client
from tests.support.proxy import Proxy
from tests.support.servers import Valkey


async def test_a_lost_reply_to_a_submit_makes_one_job(valkey: Valkey, redis: Redis) -> None:
    """The call is repeated: one job, and it is new to its caller, also under an idempotency key."""
    with Proxy(str(valkey.socket), "submit") as proxy:
        async with Client(proxy.url) as client:
            await client.submit("note")
            for key in (None, "a key"):
                proxy.cut_next()
                jobs = [await client.submit("note", idempotency_key=key) for _ in range(2)]
                assert [(True, False), (key is None, key is not None)] == [(job.created, job.replayed) for job in jobs]
            assert 2 == proxy.lost

    assert 4 == await redis.llen("job_queue")
