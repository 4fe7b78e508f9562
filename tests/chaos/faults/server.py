"""The server that dies, stands still, is full, or lets nobody in."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from jobq import Client
from jobq.errors import StoreFull
from jobq.record import parse
from jobq.store import keys
from tests.chaos.checker import Limits
from tests.chaos.faults import fault
from tests.chaos.load import Load, all_over, submit
from tests.chaos.scene import Scene
from tests.chaos.servers import OnSmallDisk, no_small_disks
from tests.chaos.tasks import waits
from tests.support.invariants import broken, snapshot
from tests.support.servers import Valkey

FEW = 0.01
"""The share of the jobs that may run again although their workers live."""
LIVE = Limits(duplicates=FEW, consume=5.0, accept=2.0)
"""The leases of live workers outlast it, and everything works again soon after."""
LONG = Load(over=3.0, longest=4.0)
CUTS = 6
TOLD = 10.0
"""Seconds in which it is told that all is gone."""
TRIES = 20
"""Log lines of a worker in a second about the server that is away: more would be a tight loop."""
NO_DISKS = no_small_disks()


@fault("F14", "the server is killed with -9, appendfsync always", LIVE, load=LONG, server=("--appendfsync", "always"))
async def killed_always(scene: Scene) -> None:
    await _killed(scene)


@fault("F15", "the server is killed with -9, appendfsync everysec", LIVE, load=LONG)
async def killed_everysec(scene: Scene) -> None:
    await _killed(scene)


async def _killed(scene: Scene) -> None:
    await scene.some_time(0.3, 2.0)
    scene.hit(None, "the server is killed")
    scene.server.kill()
    await scene.some_time(0.0, 1.0)
    await asyncio.to_thread(scene.server.start)
    scene.healed()


@fault("F26", "the server is stopped for five leases", LIVE, load=Load(over=3.0, longest=10.0))
async def stopped(scene: Scene) -> None:
    await scene.some_time(0.5, 2.0)
    scene.hit(None, "the server is stopped")
    await asyncio.to_thread(_end, scene.server)
    await asyncio.sleep(5 * scene.lease)
    await asyncio.to_thread(scene.server.start)
    scene.healed()


def _end(server: Valkey) -> None:
    """In its own way, unlike `kill`."""
    assert server.process
    server.process.terminate()
    server.process.wait()
    server.process = None


@fault("F16", "what a power loss leaves of the server's log is loaded", Limits(duplicates=0, losses=False), load=LONG)
async def power_loss(scene: Scene) -> None:
    """Of copies made at random moments, cut anywhere or within what one script wrote. The scene's server goes on."""
    for number in range(CUTS):
        await scene.some_time(0.1, 0.8)
        cut = Valkey("--aof-load-truncated", "yes")
        shutil.copytree(scene.server.dir / "appendonlydir", cut.dir / "appendonlydir")
        (log,) = (cut.dir / "appendonlydir").glob("*.incr.aof")
        kept = _within_a_script(scene, log.read_bytes()) if number % 2 else scene.random.randint(0, log.stat().st_size)
        os.truncate(log, kept)
        try:
            await _loads(scene, cut, f"the first {kept} bytes of the log")
        finally:
            cut.kill()
            shutil.rmtree(cut.dir)


def _within_a_script(scene: Scene, log: bytes) -> int:
    begins = [match.end() for match in re.finditer(rb"\$5\r\nMULTI\r\n", log)]
    begin = scene.random.choice(begins)
    return scene.random.randint(begin, log.index(b"$4\r\nEXEC\r\n", begin) + 9)


async def _loads(scene: Scene, cut: Valkey, what: str) -> None:
    """Twice, and what was written in between is there."""
    await asyncio.to_thread(cut.start)
    async with Client(settings=scene.settings().having(redis_url=cut.url), registry=None) as client:
        job = await client.submit(waits.job(seconds=0.0))
    await _sound(scene, cut, what)
    cut.kill()
    await asyncio.to_thread(cut.start)
    await _sound(scene, cut, f"{what}, loaded again,")
    async with Redis.from_url(cut.url) as redis:
        if not await redis.exists(keys.job(job.job_id)):
            scene.broken(f"{what}: what was written after that was not there after the next start")


async def _sound(scene: Scene, server: Valkey, what: str) -> None:
    async with Redis.from_url(server.url) as redis:
        taken = await snapshot(redis)
    for text in broken(taken):
        scene.broken(f"{what} with {len(taken.jobs)} jobs: {text}")


@fault(
    "F18",
    "SCRIPT FLUSH every 100 ms",
    Limits(duplicates=0, losses=False, unanswered=False, delay=1.0),
    load=Load(over=4.0, longest=0.5),
)
async def scripts_flushed(scene: Scene) -> None:
    async with scene.redis() as redis:
        for _ in range(40):
            await asyncio.sleep(0.1)
            await redis.script_flush()


@fault("F19", "the server stands still for 1.5 leases (SIGSTOP)", LIVE, load=LONG)
async def frozen(scene: Scene) -> None:
    await scene.some_time(0.5, 1.5)
    assert scene.server.process
    scene.hit(None, "the server is stopped")
    os.kill(scene.server.process.pid, signal.SIGSTOP)
    await asyncio.sleep(1.5 * scene.lease)
    os.kill(scene.server.process.pid, signal.SIGCONT)
    scene.healed()


@fault("F19b", "the server sleeps for 1.5 leases (DEBUG SLEEP)", LIVE, load=LONG)
async def asleep(scene: Scene) -> None:
    await _with_a_command(scene, "DEBUG", "SLEEP", str(1.5 * scene.lease))


@fault("F20", "CLIENT PAUSE 3000 ALL", LIVE, load=LONG)
async def paused(scene: Scene) -> None:
    await _with_a_command(scene, "CLIENT", "PAUSE", "3000", "ALL")


@fault("F20b", "CLIENT PAUSE 3000 WRITE", LIVE, load=LONG)
async def writes_paused(scene: Scene) -> None:
    await _with_a_command(scene, "CLIENT", "PAUSE", "3000", "WRITE")


async def _with_a_command(scene: Scene, *command: str) -> None:
    await scene.some_time(0.5, 1.5)
    async with scene.redis() as redis:
        scene.hit(None, " ".join(command))
        await redis.execute_command(*command)
        await redis.execute_command("SETRANGE", "nothing", 0, "")  # answered when writes are
    scene.healed()


@fault(
    "F27",
    "the server's memory is full while jobs run",
    Limits(duplicates=0, losses=False, refused=True, consume=5.0, accept=2.0),
    load=Load(over=3.0, longest=1.0),
)
async def memory_full(scene: Scene) -> None:
    """Submits are refused; what is there runs to its end; with more room, submits are taken again."""
    await scene.some_time(0.3, 1.0)
    async with scene.redis() as redis, scene.client() as client:
        used = (await redis.info("memory"))["used_memory"]
        await redis.config_set("maxmemory", used + (1 << 20))
        taken: list[str] = []
        for _ in range(100):
            try:
                job = await client.submit(waits.job(seconds=scene.random.uniform(0, 2), ballast="x" * 60_000))
            except StoreFull:
                break
            scene.history.write("accepted", job=job.job_id)
            taken.append(job.job_id)
        else:
            scene.broken("a hundred submits of 60 kB were taken with room for one MiB")
        await redis.config_set("maxmemory", used)  # not even a small one fits any more
        await asyncio.sleep(1.0)
        await all_over(redis, taken, patience=10)
        records = [parse(job_id, await redis.get(keys.job(job_id)) or b"") for job_id in taken]
        if open_ := sum(not record.status.over for record in records):
            scene.broken(f"{open_} of {len(taken)} jobs did not end while the memory was full")
        await redis.config_set("maxmemory", 0)
        scene.healed()
        await submit(Load(jobs=20, over=0.2, longest=0.2), client, scene.history, scene.random)


@fault("F29", "the disk is full, appendfsync everysec", LIVE, load=LONG, make_server=OnSmallDisk, missing=NO_DISKS)
async def disk_full(scene: Scene) -> None:
    """The server refuses writes until there is room."""
    server = await _fill(scene)
    await asyncio.sleep(1.5 * scene.lease)
    if server.process is None or server.process.poll() is not None:
        scene.broken("the server ended")
    with server.client() as client:
        if client.info("persistence")["aof_last_write_status"] != "err":
            scene.broken("the round shows nothing: the server could write")
    server.free()
    await _writes_again(scene)
    scene.healed()


@fault(
    "F30",
    "the disk is full, appendfsync always",
    LIVE,
    load=LONG,
    make_server=OnSmallDisk,
    missing=NO_DISKS,
    server=("--appendfsync", "always"),
)
async def disk_full_always(scene: Scene) -> None:
    """The server ends; it is started again when there is room."""
    server = await _fill(scene)
    assert server.process
    if await asyncio.to_thread(server.process.wait, 10) != 1:
        scene.broken("the round shows nothing: the server could write")
    await asyncio.sleep(0.5)
    server.free()
    await asyncio.to_thread(server.start)
    scene.healed()


async def _fill(scene: Scene) -> OnSmallDisk:
    assert isinstance(scene.server, OnSmallDisk)
    await scene.some_time(0.5, 1.5)
    scene.hit(None, "the disk is full")
    await asyncio.to_thread(scene.server.fill)
    return scene.server


async def _writes_again(scene: Scene) -> None:
    async with scene.redis() as redis:
        while True:
            with suppress(RedisError):
                await redis.delete("nothing")
                return
            await asyncio.sleep(0.01)


@fault("F51", "the server takes no more than ten connections", Limits(consume=5.0, accept=2.0), load=Load(over=6.0))
async def too_many_clients(scene: Scene) -> None:
    await scene.some_time(0.5, 1.5)
    async with _admin(scene) as admin:
        scene.hit(None, "maxclients 10")
        await admin.config_set("maxclients", 10)
        await admin.execute_command("CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(1.5 * scene.lease)
        await admin.config_set("maxclients", 10_000)
        scene.healed()


@fault("F52", "the password is another one for 1.5 leases", LIVE, load=LONG)
async def password_rotated(scene: Scene) -> None:
    await _shut_out(scene, ("CONFIG", "SET", "requirepass", "another"), ("CONFIG", "SET", "requirepass", ""))


@fault("F52b", "scripts are forbidden for 1.5 leases", LIVE, load=LONG)
async def permission_lost(scene: Scene) -> None:
    scripts = ("evalsha", "eval", "script")
    without, with_ = ([f"{sign}{command}" for command in scripts] for sign in "-+")
    await _shut_out(scene, ("ACL", "SETUSER", "default", *without), ("ACL", "SETUSER", "default", *with_))


async def _shut_out(scene: Scene, close: tuple[str, ...], open_: tuple[str, ...]) -> None:
    await scene.some_time(0.5, 1.5)
    async with _admin(scene) as admin:
        before = _complaints(scene)
        scene.hit(None, " ".join(close))
        await admin.execute_command(*close)
        await admin.execute_command("CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(1.5 * scene.lease)
        complaints = _complaints(scene) - before
        await admin.execute_command(*open_)
        scene.healed()
    scene.note(f"{complaints} log lines of {len(scene.workers)} workers about it")
    if not 0 < complaints <= TRIES * 1.5 * scene.lease * len(scene.workers):
        scene.broken(f"{complaints} tries of {len(scene.workers)} workers within 1.5 leases")


def _complaints(scene: Scene) -> int:
    return scene.said("the server did not answer, trying again") + scene.said("heartbeat failed")


@asynccontextmanager
async def _admin(scene: Scene) -> AsyncIterator[Redis]:
    """Somebody whom nothing shuts out."""
    async with scene.redis() as redis:
        await redis.execute_command("ACL", "SETUSER", "admin", "on", ">admin", "~*", "&*", "+@all")
    async with Redis.from_url(scene.server.url, username="admin", password="admin") as admin:
        await admin.ping()
        yield admin


@fault("F53", "FLUSHALL", Limits(duplicates=0, losses=False, consume=1.0), load=Load(jobs=0))
async def flushed(scene: Scene) -> None:
    """What there was is gone. That is told, nothing of it is made up again, and what comes later runs."""
    _, url = await scene.start_api()
    specs = Load(jobs=40, longest=2.0).specs(scene.random)
    async with scene.redis() as redis, scene.client() as client, httpx.AsyncClient(base_url=url) as http:
        if (await http.get("/readyz")).status_code != 200:
            scene.broken("the API was not ready")
        for spec in specs:
            scene.history.write("unknown", job=spec.options.job_id)
        await client.submit_many(specs)
        await asyncio.sleep(1.0)
        await redis.flushall()
        flushed_at = time.monotonic()
        scene.healed()
        await submit(Load(jobs=40, over=1.0, longest=0.5), client, scene.history, scene.random)
        while (answer := await http.get("/readyz")).status_code == 200 and time.monotonic() < flushed_at + TOLD:
            await asyncio.sleep(0.1)
        scene.note(f"{answer.status_code} after {time.monotonic() - flushed_at:.1f} s: {answer.text}")
        if answer.status_code != 503 or not scene.said("has lost all that it held"):
            scene.broken(f"nobody was told that all is gone: {answer.status_code}")
        await asyncio.sleep(max(0.0, flushed_at + 2.0 - time.monotonic()))
        again = [spec.options.job_id for spec in specs if await redis.exists(keys.job(str(spec.options.job_id)))]
        if again:
            scene.broken(f"{len(again)} jobs that were gone are there again, {again[0]} among them")
    for api in scene.apis:
        api.kill()
    scene.apis.clear()
