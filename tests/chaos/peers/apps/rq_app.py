import os
import sys
import time

from redis import Redis
from rq import Queue, Retry
from told import jobs, told


def waits(job, seconds):
    with told(job):
        time.sleep(seconds)


if __name__ == "__main__":
    import rq_app

    queue = Queue(connection=Redis.from_url(os.environ["REDIS_URL"]))
    for job, seconds in jobs(sys.argv):
        queue.enqueue(rq_app.waits, job, seconds, retry=Retry(max=3))
