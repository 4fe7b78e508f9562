"""What others do to records and indexes, and what comes in masses."""

from __future__ import annotations

import asyncio
import os
import random
import time
import uuid
from collections import Counter
from typing import Any

import httpx

from jobq.store import keys
from tests.chaos.checker import Limits
from tests.chaos.faults import fault
from tests.chaos.history import Line, read
from tests.chaos.load import Load, submit
from tests.chaos.proxy import NAMES
from tests.chaos.scene import Scene
from tests.chaos.tasks import waits

UNHURT = Limits(duplicates=0, losses=False)
ASIDE = 20.0
"""Seconds in which what is not a job is off the lists: an id may be without its record for ten."""
REPAIRED = 60.0
"""Seconds in which the scrubber has seen everything."""
MASS = int(os.environ.get("CHAOS_LEASES", "50000"))
"""Leases that are over at once."""
BACK = 30.0
"""Seconds in which all of them are back."""
SLOW = 10.0
"""Ms that a call of a script takes of the processor."""
LONGEST = 100.0
"""Ms that none lasts, though the server may have to wait for a processor."""
FAILING = 1000
BACKOFF = 4.0


def _id(dice: random.Random) -> str:
    return str(uuid.UUID(int=dice.getrandbits(128), version=4))


HEAD = '{"job_id":"%s","task":"waits","status":"%s","retries":0,"attempt":%s,"lost":0,"created_at":1795488299123%s}'


def _garbage(dice: random.Random) -> dict[str, bytes]:
    """Records that are none, each under an id."""
    texts = [
        b"garbage", b"", b"\xff\xfe\x00", b"{}", b"[]", b"null", b'{"job_id":', b'{"task":"No Such"}', b"x" * (1 << 20),
        b"[" * 100_000, b'{"task":"waits","payload":' + b"[" * 5_000,
        (HEAD % (_id(dice), "pending", 0, "")).encode(),  # that of another job
        (HEAD % (_id(dice), "pending", 0, ',"queue":"mail"')).encode(),
    ]  # fmt: skip
    found = {_id(dice): text for text in texts}
    for rest in (("exploded", 0, ""), ("pending", "9" * 400, ""), ("pending", 0, ',"run_at":' + "9" * 400)):
        job_id = _id(dice)
        found[job_id] = (HEAD % (job_id, *rest)).encode()
    return found


@fault(
    "F42",
    "records that are none, and ids that are none, lie among the others",
    UNHURT,
    load=Load(over=2.0),
    repairs=True,
)
async def corrupt_records(scene: Scene) -> None:
    dice = scene.random
    garbage, types, absent = _garbage(dice), [_id(dice) for _ in range(4)], [_id(dice) for _ in range(20)]
    illegal = ["", "no-id", "../../x", "\x00", "%00", _id(dice).upper(), "{" + _id(dice) + "}", "x" * 10_000]
    api, url = await scene.start_api()
    errors = scene.said("ResponseError")
    redis: Any
    async with scene.redis() as redis, httpx.AsyncClient(base_url=url, timeout=15) as http:
        await asyncio.sleep(0.3)
        await _traps(scene, redis)
        await _foreign(scene, redis)
        for job_id, text in garbage.items():
            await redis.set(keys.job(job_id), text)
        await redis.rpush(keys.job(types[0]), "x")
        await redis.hset(keys.job(types[1]), "x", "x")
        await redis.zadd(keys.job(types[2]), {"x": 1})
        await redis.xadd(keys.job(types[3]), {"x": "x"})
        bad = [*garbage, *types, *absent]
        await _among_others(scene, redis, [*bad, *illegal])
        await redis.zadd("job_leases", dict.fromkeys([absent[0], "no-id", types[1]], 1))
        await redis.zadd("job_schedule", dict.fromkeys([absent[1], "no-id", types[2]], 1))
        await redis.zadd("job_expiry", dict.fromkeys([absent[2], "no-id", types[3]], 1))
        await _ask(scene, http, [*garbage, *types, *absent[:2]])
        deadline = time.monotonic() + ASIDE
        while (rest := await _unsettled(redis, {*bad, *illegal})) and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        for text in rest:
            scene.broken(f"after {ASIDE:.0f} s: {text}")
        aside = {each.decode(errors="replace") for each in await redis.hkeys("job_quarantine")}
        dropped = {n: len({*ids} - aside) for n, ids in (("records", garbage), ("types", types), ("absent", absent))}
        scene.note(f"{len(aside)} were set aside; only dropped: {dropped}")
        if dropped["types"] or dropped["absent"]:
            scene.broken(f"ids without a record of ours were neither run nor set aside: {dropped}")
        if scene.said("ResponseError") > errors:
            scene.broken("what lay there made whole calls fail, and not only its own job")
        await _ask(scene, http, [*garbage, *types], change=True)
        await redis.delete("job_quarantine", *(keys.job(each) for each in bad))
        for index in ("completed", "failed", "cancelled"):
            await redis.zrem(f"job_index:{index}", *bad)
    api.kill()


async def _among_others(scene: Scene, redis: Any, ids: list[str]) -> None:
    """On the list between jobs of ours, so that they are claimed in the same calls."""
    scene.random.shuffle(ids)
    async with scene.client() as client:
        await client.pause("default")
        for each in ids:
            await submit(Load(jobs=2, over=0.0, longest=0.5), client, scene.history, scene.random)
            await redis.rpush(keys.QUEUE, each)
        await client.resume("default")


async def _traps(scene: Scene, redis: Any) -> None:
    """Jobs under whose other keys lies something of another type: that costs what is kept there, and not the job."""
    for suffix in (":attempts", ":events", ":result"):
        for kind in ("string", "list", "hash"):
            job_id = _id(scene.random)
            name = keys.job(job_id) + suffix
            if kind == "string":
                await redis.set(name, "7")
            elif kind == "list":
                await redis.rpush(name, "x")
            else:
                await redis.hset(name, "x", "x")
            async with scene.client() as client:
                await client.submit(waits.job(seconds=0.1), job_id=job_id)
            scene.history.write("accepted", job=job_id)


async def _foreign(scene: Scene, redis: Any) -> None:
    """Jobs that another producer wrote, in a spelling of its own."""
    for _ in range(5):
        job_id = _id(scene.random)
        await redis.set(keys.job(job_id), f'{{ "task": "waits", "job_id": "{job_id}", "payload": {{"seconds": 0.1}} }}')
        scene.history.write("accepted", job=job_id)
        await redis.rpush(keys.QUEUE, job_id)


async def _ask(scene: Scene, http: httpx.AsyncClient, job_ids: list[str], change: bool = False) -> None:
    """Whatever lies there, the API has an answer that makes sense."""
    ways = [("GET", "/job-status/{}"), ("GET", "/v1/jobs/{}"), ("GET", "/v1/jobs/{}/result"), ("GET", "/v1/jobs")]
    if change:
        ways += [("POST", "/v1/jobs/{}/cancel"), ("POST", "/v1/jobs/{}/retry"), ("DELETE", "/v1/jobs/{}")]
    for job_id in job_ids:
        for method, path in ways:
            answer = await http.request(method, path.format(job_id))
            if answer.status_code >= 500:
                scene.broken(f"{method} {path.format(job_id)} was answered {answer.status_code}: {answer.text[:300]}")


async def _unsettled(redis: Any, bad: set[str]) -> list[str]:
    """Where something of this still waits or runs."""
    places = {
        "list": await redis.lrange(keys.QUEUE, 0, -1),
        "leases": await redis.zrange("job_leases", 0, -1),
        "schedule": await redis.zrange("job_schedule", 0, -1),
        "expiry": await redis.zrange("job_expiry", 0, -1),
        "running": await redis.hkeys("job_running"),
        "missing": [each.split(b":")[-1] for each in await redis.zrange("job_missing", 0, -1)],
    }
    found = {place: [each.decode(errors="replace")[:50] for each in ids] for place, ids in places.items()}
    return [f"{place}: {left}" for place, ids in found.items() if (left := [each for each in ids if each in bad])]


@fault(
    "F43",
    "leases and list entries are taken away, and an id is listed a thousand times",
    Limits(rerun=REPAIRED),
    load=Load(longest=6.0),
    patience=REPAIRED,
    repairs=True,
)
async def index_mismatch(scene: Scene) -> None:
    began = scene.history.position()
    await asyncio.sleep(1.5)
    worker = scene.any_worker()
    lines = read(scene.history.path, began)
    ended = {line["job"] for line in lines if line["what"] == "end"}
    runs = [line["job"] for line in lines if line["what"] == "start" and line["pid"] == worker.pid]
    runs = [job_id for job_id in runs if job_id not in ended]
    redis: Any
    async with scene.redis() as redis, scene.client() as client:
        await client.pause("default")
        listed = await submit(Load(jobs=20, over=0.0, longest=0.5), client, scene.history, scene.random)
        for job_id in listed[:10]:
            await redis.lrem(keys.QUEUE, 0, job_id)
        await redis.rpush(keys.QUEUE, *[listed[-1]] * 1000)
        scene.kill(worker)
        taken = await redis.zrem("job_leases", *runs[:10]) + await redis.hdel("job_running", *runs[10:20])
        await client.resume("default")
    scene.note(f"{taken} leases or tokens and 10 list entries were taken away")


@fault(
    "F44",
    f"{MASS:,} leases are over at once",
    UNHURT,
    load=Load(over=6.0, longest=4.0),
    repairs=True,
)
async def mass_recovery(scene: Scene) -> None:
    """In a queue that no worker serves, so that what comes back can be counted."""
    queue = keys.ready("mass")
    redis: Any
    async with scene.redis() as redis, scene.client() as client:
        ids = [_id(scene.random) for _ in range(MASS)]
        for start in range(0, MASS, 1000):
            some = ids[start : start + 1000]
            record = {keys.job(i): HEAD % (i, "processing", 1, ',"queue":"mass","worker":"gone"') for i in some}
            await redis.mset(record)
            await redis.hset("job_running", mapping={i: f"gone.0.1.{n}" for n, i in enumerate(some, start)})
        await redis.config_set("slowlog-log-slower-than", round(SLOW * 1000))
        await redis.config_set("slowlog-max-len", 1000)
        for start in range(0, MASS, 1000):
            await redis.zadd("job_leases", dict.fromkeys(ids[start : start + 1000], 1))
        await redis.slowlog_reset()
        began, used = time.monotonic(), await _processor(redis)
        while (there := await redis.llen(queue)) < MASS and time.monotonic() < began + BACK:
            await asyncio.sleep(0.1)
        took, used = time.monotonic() - began, await _processor(redis) - used
        slow = [e for e in await redis.slowlog_get(1000) if e["command"].startswith(b"EVALSHA")]
        names = Counter(NAMES.get(e["command"].split()[1].decode(), "another") for e in slow)
        longest = max((e["duration"] for e in slow), default=0) / 1000
        each = used * 1000 / (MASS / 100)
        scene.note(
            f"{there} came back within {took:.1f} s; the server worked {each:.1f} ms for each 100;"
            f" calls over {SLOW:.0f} ms: {dict(names)}, the longest {longest:.1f} ms"
        )
        if there < MASS or len(set(await redis.lrange(queue, 0, -1))) != MASS:
            scene.broken(f"{there} of {MASS} leases that were over at once were back after {took:.1f} s")
        if each > SLOW or longest > LONGEST:
            scene.broken(f"each 100 leases took {each:.1f} ms of the server, and one call {longest:.1f} ms")
        await redis.config_set("slowlog-log-slower-than", -1)
        await client.purge("mass")


async def _processor(redis: Any) -> float:
    """Seconds that the server has worked."""
    info = await redis.info("cpu")
    return float(info["used_cpu_user"] + info["used_cpu_sys"])


@fault(
    "F45",
    f"{FAILING:,} jobs fail within a second",
    Limits(fails=frozenset({"timeout"}), retries=True, losses=False),
    load=Load(jobs=20),
    concurrency=500,
    patience=60.0,
)
async def retry_storm(scene: Scene) -> None:
    """Each runs out of time, is retried once, and fails."""
    ids = [_id(scene.random) for _ in range(FAILING)]
    job = waits.job(seconds=30)
    specs = [job.with_options(job_id=i, timeout=0.3, max_retries=1, backoff=BACKOFF) for i in ids]
    began = scene.history.position()
    async with scene.client() as client:
        for start in range(0, FAILING, 200):
            await client.submit_many(specs[start : start + 200])
            for job_id in ids[start : start + 200]:
                scene.history.write("accepted", job=job_id)
    starts: dict[int, dict[str, float]] = {1: {}, 2: {}}
    deadline = time.monotonic() + 30
    while len(starts[1]) < FAILING and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        starts[1] = {line["job"]: line["t"] for line in _starts(scene, began, 1)}
    # Their time runs out: that is what they are run again for.
    scene.hit(None, "the jobs run out of time")
    while len(starts[2]) < FAILING and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        starts[2] = {line["job"]: line["t"] for line in _starts(scene, began, 2)}
    waited = sorted(starts[2][job] - starts[1][job] - 0.3 for job in starts[2] if job in starts[1])
    times = [t - min(starts[2].values()) for t in starts[2].values()]
    halves = Counter(int(t / 0.5) for t in times)
    if not waited:
        return scene.broken("no job was run again")
    scene.note(f"waited {waited[0]:.2f} to {waited[-1]:.2f} s; retries a half second: {dict(sorted(halves.items()))}")
    if waited[-1] - waited[0] < 0.9 * BACKOFF / 2:
        scene.broken(f"the retries are spread over {waited[-1] - waited[0]:.2f} s, not over {BACKOFF / 2:.0f} s")
    # Spread evenly over half the window, a half second has a quarter of them.
    if max(halves.values()) > 2 * FAILING * 0.5 / (BACKOFF / 2):
        scene.broken(f"{max(halves.values())} of {FAILING} retries came within half a second")


def _starts(scene: Scene, position: int, attempt: int) -> list[Line]:
    lines = read(scene.history.path, position)
    return [line for line in lines if line["what"] == "start" and line["attempt"] == attempt]
