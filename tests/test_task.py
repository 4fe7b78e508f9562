"""Tasks and the registry: names, arguments in and out, results."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from jobq.context import Context, Discard, RetryLater, current, running
from jobq.errors import InvalidPayload, PayloadTooLarge, ResultInvalid, UnknownTask
from jobq.job import MAX_PAYLOAD, MAX_RESULT
from jobq.task import AsyncTask, Registry, Retry, SyncTask


class Address(BaseModel):
    street: str
    number: int = 1


@dataclasses.dataclass
class Point:
    x: float
    y: float = 0.0


class Colour(Enum):
    RED = "red"


registry = Registry()


@registry.task
def everything(
    address: Address,
    point: Point,
    when: datetime,
    span: timedelta,
    money: Decimal,
    colour: Colour,
    which: UUID,
    tags: list[str] | None = None,
    count: Annotated[int, Field(ge=0)] = 3,
) -> None:
    """Takes all kinds of arguments."""


EVERYTHING: dict[str, Any] = {
    "address": Address(street="a", number=5),
    "point": Point(1.5),
    "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "span": timedelta(minutes=5),
    "money": Decimal("1.10"),
    "colour": Colour.RED,
    "which": UUID("0190a7b4-5c2e-7d31-9f00-0123456789ab"),
}


class TestRegistry:
    """Names and who may use them."""

    def test_both_forms_of_the_decorator(self) -> None:
        """With and without brackets, sync and async."""
        tasks = Registry()

        @tasks.task
        def plain() -> int:
            """One line."""
            return 1

        @tasks.task(name="other", queue="mail", retry=Retry(1), timeout=None, example={"a": 1})
        async def told(a: int) -> int:
            return a

        assert (SyncTask, AsyncTask) == (type(plain), type(told))
        assert (False, True) == (plain.is_async, told.is_async)
        assert ["other", "plain"] == tasks.names()
        assert ("default", None, ...) == (plain.defaults.queue, plain.defaults.retry, plain.defaults.timeout)
        assert ("mail", Retry(1), None, {"a": 1}) == (
            told.defaults.queue, told.defaults.retry, told.defaults.timeout, told.defaults.example,
        )  # fmt: skip
        assert ("One line.", "plain") == (plain.doc, plain.__name__)

    async def test_called_directly_it_is_the_plain_function(self) -> None:
        """A task called runs as the function, with no queue at all."""
        tasks = Registry()

        @tasks.task
        def add(a: int, b: int = 2) -> int:
            return a + b

        @tasks.task
        async def add_later(a: int, b: int = 2) -> int:
            await asyncio.sleep(0)
            return a + b

        assert 3 == add(1) == await add_later(1)
        assert 5 == add(1, b=4) == await add_later(1, b=4)

    def test_a_name_twice(self) -> None:
        """Two tasks of one name are refused, with the remedy."""
        tasks = Registry()
        tasks.task(name="note")(lambda: None)

        with pytest.raises(ValueError, match="two tasks are named 'note'; give one of them another name"):
            tasks.task(name="note")(lambda: None)

    @pytest.mark.parametrize("name", ["Send", "1st", "", "a b", "a:b", "a" * 65, "ä", "a\n"])
    def test_illegal_names(self, name: str) -> None:
        """Names become part of keys: others are refused at once."""
        tasks = Registry()

        def lambda_like() -> None: ...

        lambda_like.__name__ = name
        with pytest.raises(ValueError, match="does not match"):
            tasks.task(lambda_like)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"queue": "Mail"}, "queue name 'Mail' does not match"),
            ({"timeout": 0}, "a timeout is more than 0 seconds"),
            ({"timeout": -1.0}, "a timeout is more than 0 seconds"),
        ],
    )
    def test_illegal_options(self, options: dict[str, Any], message: str) -> None:
        """Impossible options are refused where they are written."""
        with pytest.raises(ValueError, match=message):
            Registry().task(**options)

    @pytest.mark.parametrize("options", [{"max_retries": -1}, {"backoff": -0.1}])
    def test_illegal_retries(self, options: dict[str, Any]) -> None:
        """So are negative retries and back-offs."""
        with pytest.raises(ValueError, match="not negative"):
            Retry(**options)

    def test_include(self) -> None:
        """Registries of modules are joined; the same task may come twice, another of its name may not."""
        ours, theirs, strangers = Registry(), Registry(), Registry()
        ours.task(name="a")(lambda: None)
        shared = theirs.task(name="b", queue="mail")(lambda: None)
        strangers.task(name="b")(lambda: None)
        ours.include(theirs)
        ours.include(theirs)

        assert shared is ours.get("b")
        assert (2, ["a", "b"], ["default", "mail"]) == (len(ours), ours.names(), ours.queues())
        with pytest.raises(ValueError, match="two tasks are named 'b'"):
            ours.include(strangers)

    def test_an_unknown_task(self) -> None:
        """The error names the known tasks, and the nearest if one is near."""
        tasks = Registry()
        for name in ("send_email", "resize"):
            tasks.task(name=name)(lambda: None)

        with pytest.raises(UnknownTask) as far:
            tasks.require("xyz")
        with pytest.raises(UnknownTask) as near:
            tasks.require("send_emial")
        with pytest.raises(UnknownTask) as none:
            Registry().require("x")

        assert "no such task; known tasks: resize, send_email" == str(far.value)
        assert "no such task; did you mean send_email? known tasks: resize, send_email" == str(near.value)
        assert "no such task; known tasks: none" == str(none.value)
        assert tasks.get("xyz") is None

    def test_positional_parameters(self) -> None:
        """A payload is an object of named arguments: what it cannot fill is refused where it is written."""

        def only(a: int, /) -> None: ...

        def many(*a: int) -> None: ...

        for function, parameter in ((only, "a"), (many, r"\*a")):
            with pytest.raises(TypeError, match=f"so {parameter}.* cannot be filled"):
                Registry().task(function)


class TestArguments:
    """In through `job`, out through `arguments`."""

    def test_all_kinds(self) -> None:
        """Models, dataclasses, dates, decimals, enums and ids arrive as what they were."""
        spec = everything.job(**EVERYTHING)

        assert ("everything", everything) == (spec.task, spec.definition)
        assert EVERYTHING == everything.arguments(spec.payload)
        assert "2026-01-02T03:04:05Z" == json.loads(spec.payload)["when"]

    def test_positions_and_names(self) -> None:
        """Arguments may be given as Python allows; the payload is the same."""
        by_position = everything.job(*EVERYTHING.values())
        assert everything.job(**EVERYTHING).payload == by_position.payload

    def test_defaults_stay_with_the_function(self) -> None:
        """What was not given is not sent: a default that changes later holds for waiting jobs."""
        assert set(EVERYTHING) == set(json.loads(everything.job(**EVERYTHING).payload))

    def test_no_arguments(self) -> None:
        """A job without arguments has no payload."""
        task = Registry().task(name="note")(lambda: None)
        assert b"" == task.job().payload
        for payload in (b"", b"{}", b"null"):
            assert {} == task.arguments(payload)

    def test_null_is_no_arguments(self) -> None:
        """A foreign producer's `"payload": null` means none, for a task with defaults too."""

        def greet(name: str = "you") -> None: ...

        task = Registry().task(greet)
        assert {} == task.arguments(b"null") == task.arguments(b"") == task.arguments(b"{}")

    def test_catch_all(self) -> None:
        """`**kwargs` takes any further arguments, in and out."""

        def log(level: str, **fields: Any) -> None: ...

        task = Registry().task(log)
        payload = task.job(level="info", user=5, tags=[]).payload
        assert {"level": "info", "user": 5, "tags": []} == task.arguments(payload)

    def test_json_is_kept_as_it_came(self) -> None:
        """A payload that came as JSON is checked, not rewritten."""
        payload = (
            b'{"address": {"street":"\\u00e4"}, "point": {"x":1e0}, "when":0, "span":5, "money":1, "colour":"red",'
        )
        payload += b'"which":"0190a7b45c2e7d319f000123456789ab"}'
        assert payload == everything.spec(payload).payload

    @pytest.mark.parametrize(
        ("payload", "message"),
        [
            (b'{"street": 5}', "street: Input should be a valid string"),
            (b"{}", "street: Field required"),
            (b'{"street": "a", "more": 1}', "more: Extra inputs are not permitted"),
            (b"[]", "a payload is a JSON object of named arguments"),
            (b"5", "a payload is a JSON object"),
            (b"{", "walk: Expecting property name"),
            (b'{"street": "\xff"}', "walk: 'utf-8' codec"),
            (b"[" * 100_000, "nested too deeply"),
        ],
    )
    def test_what_does_not_fit(self, payload: bytes, message: str) -> None:
        """The error says where and what is wrong."""

        def walk(street: str) -> None: ...

        with pytest.raises(InvalidPayload, match=message):
            Registry().task(walk).spec(payload)

    @pytest.mark.parametrize(
        "give",
        [
            lambda task: task.job(count="hunter2"),
            lambda task: task.job(count=-1, secret="hunter2"),
            lambda task: task.spec(b'{"count": "hunter2"}'),
            lambda task: task.spec(b'{"count": 1, "secret": ["hunter2"]}'),
            lambda task: task.spec(b'{"count": 1, "deep": {"street": {"a": "hunter2"}}}'),
            lambda task: task.spec(b'"hunter2"'),
            lambda task: task.spec(b'{"hunter2'),
        ],
    )
    def test_errors_never_echo_values(self, give: Callable[[Any], Any]) -> None:
        """What was sent may be a secret: it is in no message, no list and no chained error."""

        def login(count: Annotated[int, Field(ge=0)], secret: str = "", deep: Address | None = None) -> None: ...

        with pytest.raises(InvalidPayload) as caught:
            give(Registry().task(login))

        assert "hunter2" not in f"{caught.value} {caught.value.errors!r}"
        assert caught.value.__suppress_context__

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_number_that_json_does_not_know(self, value: float) -> None:
        """NaN and infinity are refused at submit: they could not be stored."""

        def wait(seconds: float) -> None: ...

        with pytest.raises(InvalidPayload, match="seconds: Input should be a finite number"):
            Registry().task(wait).job(seconds=value)

    def test_too_large(self) -> None:
        """A payload has a limit, up to which it is taken."""

        def take(text: str) -> None: ...

        task = Registry().task(take)
        most = MAX_PAYLOAD - len('{"text":""}')
        assert MAX_PAYLOAD == len(task.job(text="x" * most).payload)
        with pytest.raises(PayloadTooLarge, match=f"{MAX_PAYLOAD + 1} bytes of JSON, the limit is {MAX_PAYLOAD}"):
            task.job(text="x" * (most + 1))


class TestResults:
    """Out through `dump_result`, in through `load_result`."""

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (int, 9007199254740993),
            (list[int], []),
            (str, "ä\u2028"),
            (Address, Address(street="a")),
            (Point, Point(1.5, 2.5)),
            (datetime, datetime(2026, 1, 2, tzinfo=UTC)),
            (dict[str, list[Point]], {"a": [Point(0.0)]}),
            (Any, {"a": [1, None, "x"]}),
            (None, None),
        ],
    )
    def test_there_and_back(self, kind: Any, value: Any) -> None:
        """The caller gets what the task returned, as the annotated type."""

        def work() -> Any: ...

        work.__annotations__["return"] = kind
        task = Registry().task(work)
        assert value == task.load_result(task.dump_result(value))

    def test_none_is_no_result(self) -> None:
        """None takes no bytes."""
        task = Registry().task(name="note")(lambda: None)
        assert b"" == task.dump_result(None)

    @pytest.mark.parametrize(
        "value",
        [float("nan"), float("inf"), {"a": float("-inf")}, pytest.param(object(), id="object"), "\ud800", b"\xff"],
        ids=repr,
    )
    def test_what_is_not_json(self, value: object) -> None:
        """A result that no reader could parse is refused, and the error is the task's."""

        def work() -> Any: ...

        with pytest.raises(ResultInvalid, match="work returned something that is not JSON"):
            Registry().task(work).dump_result(value)

    def test_a_result_without_end(self) -> None:
        """So is one that contains itself."""
        endless: list[Any] = []
        endless.append(endless)

        def work() -> Any: ...

        with pytest.raises(ResultInvalid, match="not JSON"):
            Registry().task(work).dump_result(endless)

    def test_too_large(self) -> None:
        """A result has a limit, up to which it is taken."""

        def work() -> str: ...

        task = Registry().task(work)
        assert MAX_RESULT == len(task.dump_result("x" * (MAX_RESULT - 2)))
        with pytest.raises(ResultInvalid, match=f"returned {MAX_RESULT + 1} bytes, the limit is {MAX_RESULT}"):
            task.dump_result("x" * (MAX_RESULT - 1))


class TestContext:
    """What a running task knows."""

    def test_only_inside_a_job(self) -> None:
        """Outside of a job `current` raises; inside it answers, also nested."""
        first, second = Context("a", "note", "default", 1, 0), Context("b", "note", "default", 2, 1)
        with pytest.raises(LookupError, match="only known inside a running job"):
            current()
        with running(first):
            with running(second):
                assert second == current()
            assert first == current()
        with pytest.raises(LookupError, match="only known inside a running job"):
            current()

    def test_what_a_task_may_raise(self) -> None:
        """RetryLater carries its delay; both carry their reason."""
        assert ("later", 5) == (str(RetryLater("later", delay=5)), RetryLater(delay=5).delay)
        assert ("no use", None) == (str(Discard("no use")), RetryLater().delay)


def top_level(count: int = 1) -> int:
    return count


async def top_level_async() -> None: ...


def test_a_process_task_is_registered_with_its_limits() -> None:
    """A `def` at the top level of a module; called directly it is the plain function."""
    task = Registry().task(process=True, memory=512, cpu=1.5)(top_level)
    assert (task.defaults.process, task.defaults.memory, task.defaults.cpu) == (True, 512, 1.5)
    assert (task.in_thread, Registry().task(top_level).in_thread, task(2)) == (False, True, 2)


def test_what_cannot_run_in_a_child_is_refused_at_once() -> None:
    """Coroutines, and functions that a child could not import."""

    def inner() -> None: ...

    for function, message in ((top_level_async, "is async"), (inner, "top level"), (lambda: None, "top level")):
        with pytest.raises(ValueError, match=message):
            Registry().task(process=True, name="x")(function)


@pytest.mark.parametrize("options", [{"memory": 5}, {"cpu": 1}, {"process": True, "memory": 0}])
def test_limits_are_kept_by_child_processes_alone(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="process=True"):
        Registry().task(**options)(top_level)


def test_progress_outside_of_a_worker_goes_nowhere() -> None:
    """As in a test of a task's own: `running` with any context is enough."""
    with running(Context("id", "task", "default", 1, 0)):
        current().progress(0.5, "half")
