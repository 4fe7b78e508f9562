import asyncio
import os
import sys

from saq import Queue
from told import jobs, told

TUNED = float(os.environ.get("TUNED", "0"))


async def waits(ctx, *, job, seconds):
    with told(job):
        await asyncio.sleep(seconds)


def settings():
    # `sweep` looks for jobs that are stuck: beyond their timeout or without a heartbeat.
    timers = {"timers": {"sweep": max(1, int(TUNED) // 2)}} if TUNED else {}
    return {"queue": Queue.from_url(os.environ["REDIS_URL"]), "functions": [waits], "concurrency": 100, **timers}


async def submit():
    queue = Queue.from_url(os.environ["REDIS_URL"])
    await queue.connect()
    for job, seconds in jobs(sys.argv):
        await queue.enqueue("waits", job=job, seconds=seconds, retries=4, timeout=int(TUNED) or 10)
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(submit())
