import asyncio
import os
import sys
from datetime import timedelta

from streaq import Worker
from told import jobs, told

idle = {"idle_timeout": timedelta(seconds=float(os.environ["TUNED"]))} if "TUNED" in os.environ else {}
worker = Worker(redis_url=os.environ["REDIS_URL"], concurrency=100, **idle)


@worker.task(name="waits", max_tries=4)
async def waits(job: str, seconds: float) -> None:
    with told(job):
        await asyncio.sleep(seconds)


async def submit():
    async with worker:
        for job, seconds in jobs(sys.argv):
            await waits.enqueue(job, seconds)


if __name__ == "__main__":
    asyncio.run(submit())
