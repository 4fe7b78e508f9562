"""Read by the type checker only. `# E:` is the error a line must give, `# R:` the type it must reveal."""

from dataclasses import dataclass
from typing import reveal_type

from jobq import Client, Registry, Retry

registry = Registry()


@dataclass
class Receipt:
    number: int


@registry.task(queue="mail", retry=Retry(3, backoff=2.0, on=(OSError,)), timeout=30)
async def send_email(to: str, subject: str = "Hello") -> Receipt:
    return Receipt(1)


@registry.task
async def plain_async(count: int) -> list[int]:
    return [count]


@registry.task
def plain_sync(count: int) -> str:
    return str(count)


@registry.task(name="named")
def told_sync(count: int) -> float:
    return float(count)


def wrong_arguments() -> None:
    send_email.job(to="a@b.c")
    send_email.job("a@b.c", subject="Hi")
    send_email.job(to=1)  # E: Argument "to" to "job" of "Task" has incompatible type "int"; expected "str"
    send_email.job()  # E: Missing positional argument "to" in call to "job" of "Task"
    send_email.job(to="a", cc="b")  # E: Unexpected keyword argument "cc" for "job" of "Task"
    plain_sync.job("x")  # E: Argument 1 to "job" of "Task" has incompatible type "str"; expected "int"
    told_sync.job(count="x")  # E: Argument "count" to "job" of "Task" has incompatible type "str"; expected "int"
    plain_sync(count="x")  # E: Argument "count" to "__call__" of "SyncTask" has incompatible type "str"; expected "int"


async def results(client: Client) -> None:
    job = await client.submit(send_email.job(to="a@b.c"), delay=10, priority=5)
    reveal_type(await job.result(timeout=30))  # R: Receipt
    reveal_type(await (await client.submit(plain_async.job(1))).result())  # R: list[int]
    reveal_type(await (await client.submit(plain_sync.job(1))).result())  # R: str
    reveal_type(await (await client.submit(told_sync.job(count=1))).result())  # R: float
    reveal_type(await (await client.submit("send_email", {"to": "a@b.c"})).result())  # R: Any
    many = await client.submit_many(send_email.job(to=x) for x in ("a", "b"))
    reveal_type([await each.result() for each in many])  # R: list[Receipt]


async def direct_calls() -> None:
    reveal_type(await send_email("a@b.c"))  # R: Receipt
    reveal_type(plain_sync(1))  # R: str


async def wrong_options(client: Client) -> None:
    spec = send_email.job(to="a")
    await client.submit(spec, priority="high")  # E: No overload variant of "submit" of "Client" matches
    await client.submit(spec, later=5)  # E: No overload variant of "submit" of "Client" matches
    registry.task(queue=5)  # E: No overload variant of "task" of "Registry" matches argument type "int"
