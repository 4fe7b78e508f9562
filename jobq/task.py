"""Tasks: functions that jobs run, and the registry that knows them by name. Inert: nothing here touches the network.

A task called directly runs as the plain function. `task.job(...)` makes a request to run it, checked by the type
checker (ParamSpec) and validated by pydantic; the worker validates again what it reads.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property, update_wrapper
from types import EllipsisType
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, Unpack, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError, create_model

from jobq.errors import InvalidPayload, PayloadTooLarge, ResultInvalid, UnknownTask
from jobq.job import DEFAULT_QUEUE, MAX_PAYLOAD, MAX_RESULT, Options, SubmitOptions
from jobq.record import payload_mapping
from jobq.settings import NAME

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Retry:
    """What happens after an error.

    At most `max_retries` further attempts. `backoff` is the base in seconds: it doubles each time, with jitter, up to
    ten minutes; 0 requeues at once; None takes the service's. Exceptions that are none of `on` fail the job at once.
    """

    max_retries: int = 3
    backoff: float | None = None
    on: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        if self.max_retries < 0 or (self.backoff is not None and self.backoff < 0):
            raise ValueError("max_retries and backoff are not negative")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a task says for all its jobs. `timeout` in seconds; None for no limit; Ellipsis for the service's."""

    queue: str = DEFAULT_QUEUE
    retry: Retry | None = None
    timeout: float | EllipsisType | None = ...
    example: Mapping[str, Any] = field(default_factory=dict)
    """A payload to show in the docs and to try the task with."""
    process: bool = False
    """Run in a child process, which can be killed."""
    memory: int | None = None
    """MiB that an attempt in a child may take beyond what the child holds when it begins. Only Linux keeps it."""
    cpu: float | None = None
    """Seconds of processor time that an attempt in a child may take, kept to the second."""


@dataclass(frozen=True, slots=True)
class JobSpec(Generic[R]):
    """A request to run a task: made purely, sent by `Client.submit`. `R` is what the job will return."""

    task: str
    payload: bytes
    """JSON object of the arguments; empty for none."""
    options: Options = field(default_factory=Options)
    definition: Task[..., R] | None = None
    """The task it was made from; None when it was named."""

    def with_options(self, **options: Unpack[SubmitOptions]) -> JobSpec[R]:
        """The same request with other options. Raises BadRequest."""
        return replace(self, options=Options(**options))


class Task(Generic[P, R]):
    """A registered function. Made by `@registry.task`."""

    def __init__(self, function: Callable[P, Any], name: str, defaults: Defaults) -> None:
        self.function = function
        self.name = name
        self.defaults = defaults
        self.doc = inspect.getdoc(function) or ""
        self.is_async = inspect.iscoroutinefunction(function)
        self.in_thread = not self.is_async and not defaults.process
        self._signature = inspect.signature(function)
        _refuse_positional(name, self._signature)
        update_wrapper(self, function)  # type: ignore[arg-type]

    def job(self, *args: P.args, **kwargs: P.kwargs) -> JobSpec[R]:
        """A request to run this task with these arguments. Raises InvalidPayload."""
        try:
            arguments = self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidPayload(f"{self.name}: {error}") from None
        for name in self._catch_all:
            arguments.update(arguments.pop(name, {}))
        return JobSpec(self.name, self._dump(self._validate(arguments)), definition=self)

    def spec(self, payload: bytes) -> JobSpec[R]:
        """The same from JSON, kept as it came. Raises InvalidPayload when it does not fit the signature."""
        self.arguments(payload)
        return JobSpec(self.name, payload, definition=self)

    def arguments(self, payload: bytes) -> dict[str, Any]:
        """The keyword arguments in a stored payload, as the annotated types. Raises InvalidPayload."""
        if not payload and not self.parameters.model_fields:
            return {}
        try:
            model = self.parameters.model_validate_json(payload if payload_mapping(payload) else b"{}")
        except ValidationError as error:
            raise _invalid(self.name, error) from None
        except ValueError as error:
            raise InvalidPayload(f"{self.name}: {error}") from None
        return {name: getattr(model, name) for name in model.model_fields_set}

    def dump_result(self, value: R) -> bytes:
        """The result as JSON; empty for None. Raises ResultInvalid when it is not JSON or too large."""
        if value is None:
            return b""
        try:
            plain = self.returns.dump_python(value, mode="json")
            result = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise ResultInvalid(f"{self.name} returned something that is not JSON: {error}") from None
        if len(result) > MAX_RESULT:
            raise ResultInvalid(f"{self.name} returned {len(result)} bytes, the limit is {MAX_RESULT}")

        return result

    def load_result(self, result: bytes | None) -> R:
        return self.returns.validate_json(result or b"null")

    @cached_property
    def parameters(self) -> type[BaseModel]:
        """A pydantic model of the arguments; its JSON Schema is the payload's."""
        hints = get_type_hints(self.function, include_extras=True)
        fields: dict[str, Any] = {
            name: (hints.get(name, Any), _default(parameter))
            for name, parameter in self._signature.parameters.items()
            if name not in self._catch_all
        }
        config = ConfigDict(extra="allow" if self._catch_all else "forbid", allow_inf_nan=False)
        return create_model(f"{self.name}_payload", __config__=config, **fields)

    @cached_property
    def returns(self) -> TypeAdapter[R]:
        hint = get_type_hints(self.function, include_extras=True).get("return", Any)
        try:
            return TypeAdapter(hint, config=ConfigDict(ser_json_inf_nan="constants"))
        except PydanticUserError:  # a model brings its own
            return TypeAdapter(hint)

    @cached_property
    def _catch_all(self) -> tuple[str, ...]:
        parameters = self._signature.parameters.items()
        return tuple(name for name, parameter in parameters if parameter.kind is parameter.VAR_KEYWORD)

    def _validate(self, arguments: Mapping[str, Any]) -> BaseModel:
        try:
            return self.parameters.model_validate(dict(arguments))
        except ValidationError as error:
            raise _invalid(self.name, error) from None

    def _dump(self, model: BaseModel) -> bytes:
        payload = model.model_dump_json(exclude_unset=True).encode() if model.model_fields_set else b""
        return check_size(payload)


class AsyncTask(Task[P, R]):
    """A task written as `async def`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        coroutine: Coroutine[Any, Any, R] = self.function(*args, **kwargs)
        return coroutine


class SyncTask(Task[P, R]):
    """A task written as `def`; a worker runs it in a thread, or in a child process."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        value: R = self.function(*args, **kwargs)
        return value


class ProcessDecorator(Protocol):
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...


class TaskDecorator(Protocol):
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...


class Registry:
    """The tasks of a service. Hand it to a worker, a client or the HTTP side; it opens nothing itself."""

    def __init__(self) -> None:
        self._tasks: dict[str, Task[..., Any]] = {}

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...  # type: ignore[overload-overlap]
    @overload
    def task(self, function: Callable[P, R], /) -> SyncTask[P, R]: ...
    @overload
    def task(
        self,
        *,
        name: str | None = None,
        queue: str = DEFAULT_QUEUE,
        retry: Retry | None = None,
        timeout: float | EllipsisType | None = ...,
        example: Mapping[str, Any] | None = None,
    ) -> TaskDecorator: ...
    @overload
    def task(
        self,
        *,
        process: Literal[True],
        memory: int | None = None,
        cpu: float | None = None,
        name: str | None = None,
        queue: str = DEFAULT_QUEUE,
        retry: Retry | None = None,
        timeout: float | EllipsisType | None = ...,
        example: Mapping[str, Any] | None = None,
    ) -> ProcessDecorator: ...
    def task(  # type: ignore[misc]  # the keywords are spelt out above
        self, function: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Any
    ) -> Any:
        """Register a function, as `@registry.task` or `@registry.task(queue=…, retry=…, timeout=…, name=…, example=…)`.

        The name is the function's unless given, and must match `[a-z][a-z0-9_.-]{0,63}`. With `process=True` a `def`
        runs in a child process of the worker, which is killed at the timeout (it counts from the claim, the child's
        start included) and on cancel; `memory` (MiB) and `cpu` (seconds) limit it. Children are reused, and do not get
        the queue's URL and key in their environment. Raises ValueError.
        """
        defaults = Defaults(**{key: value for key, value in options.items() if value is not None or key == "timeout"})
        _check_defaults(defaults)

        def register(function: Callable[..., Any]) -> Task[..., Any]:
            kind = AsyncTask if inspect.iscoroutinefunction(function) else SyncTask
            if defaults.process:
                _check_importable(function)
            return self._add(kind(function, name or function.__name__, defaults))

        return register if function is None else register(function)

    def include(self, other: Registry) -> None:
        """Join the tasks of another module's registry to these."""
        for task in other:
            self._add(task)

    def get(self, name: str) -> Task[..., Any] | None:
        return self._tasks.get(name)

    def require(self, name: str) -> Task[..., Any]:
        """The task of this name. Raises UnknownTask, which names the known ones and the nearest."""
        task = self._tasks.get(name)
        if task is None:
            raise UnknownTask(self._unknown(name))
        return task

    def names(self) -> list[str]:
        return sorted(self._tasks)

    def queues(self) -> list[str]:
        """The default queue and those that the tasks name."""
        return [DEFAULT_QUEUE, *sorted({task.defaults.queue for task in self} - {DEFAULT_QUEUE})]

    def __iter__(self) -> Iterator[Task[..., Any]]:
        return iter(self._tasks.values())

    def __len__(self) -> int:
        return len(self._tasks)

    def _add(self, task: Task[..., Any]) -> Task[..., Any]:
        if not NAME.fullmatch(task.name):
            raise ValueError(f"task name {task.name!r} does not match {NAME.pattern}; give one with name=…")
        if self._tasks.setdefault(task.name, task) is not task:
            raise ValueError(f"two tasks are named {task.name!r}; give one of them another name with name=…")
        return task

    def _unknown(self, name: str) -> str:
        known = ", ".join(self.names()) or "none"
        near = get_close_matches(name, self.names(), n=1)
        return f"no such task; {f'did you mean {near[0]}? ' if near else ''}known tasks: {known}"


def check_size(payload: bytes) -> bytes:
    """The payload, or PayloadTooLarge."""
    if len(payload) > MAX_PAYLOAD:
        raise PayloadTooLarge(f"the payload has {len(payload)} bytes of JSON, the limit is {MAX_PAYLOAD}")
    return payload


def _check_defaults(defaults: Defaults) -> None:
    if not NAME.fullmatch(defaults.queue):
        raise ValueError(f"queue name {defaults.queue!r} does not match {NAME.pattern}")
    if isinstance(defaults.timeout, int | float) and defaults.timeout <= 0:
        raise ValueError("a timeout is more than 0 seconds; None for no limit")
    for limit in (defaults.memory, defaults.cpu):
        if limit is not None and (limit <= 0 or not defaults.process):
            raise ValueError("memory (MiB) and cpu (seconds) are more than 0, and only kept with process=True")


def _check_importable(function: Callable[..., Any]) -> None:
    name = getattr(function, "__qualname__", "?")
    if inspect.iscoroutinefunction(function):
        raise ValueError(
            f"{name} is async: process=True is for `def` functions; start processes of your own with anyio"
        )
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{name} cannot be imported: process=True is for functions at the top level of a module")


def _refuse_positional(name: str, signature: inspect.Signature) -> None:
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise TypeError(
                f"task {name!r}: payloads are JSON objects of named arguments, so {parameter} cannot be filled"
            )


def _default(parameter: inspect.Parameter) -> Any:
    return ... if parameter.default is parameter.empty else parameter.default


_QUOTING = {"union_tag_invalid": "Input tag is none of the expected tags"}
"""Messages of pydantic that quote the value, and what stands in for them."""


def _invalid(task: str, error: ValidationError) -> InvalidPayload:
    """Locations and messages only: the offending values may be secrets."""
    problems = [
        (tuple(e["loc"]), _QUOTING.get(e["type"], e["msg"]))
        for e in error.errors(include_input=False, include_context=False, include_url=False)
    ]
    where = "; ".join(f"{'.'.join(map(str, loc)) or 'payload'}: {message}" for loc, message in problems[:5])
    return InvalidPayload(f"the payload does not fit {task}: {where}", problems)
