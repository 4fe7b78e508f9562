import os
import sys
import time

from celery import Celery
from told import jobs, told

app = Celery("chaos", broker=os.environ["REDIS_URL"])
app.conf.update(
    task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1, task_ignore_result=True
)
if seconds := os.environ.get("TUNED"):
    app.conf.broker_transport_options = {"visibility_timeout": float(seconds)}


@app.task(name="chaos.waits")
def waits(job, seconds):
    with told(job):
        time.sleep(seconds)


if __name__ == "__main__":
    for job, seconds in jobs(sys.argv):
        waits.delay(job, seconds)
