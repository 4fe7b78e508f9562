"""The error tree."""

from __future__ import annotations

import re
from http import HTTPStatus

import pytest

from jobq import errors
from jobq.errors import JobqError


def all_errors() -> list[type[JobqError]]:
    """Those of the engine; other parts have some of their own."""
    return [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, JobqError)]


def drawn() -> dict[str, str]:
    """Each error of the drawing in the module's docstring and its parent."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ((?:[│ ]   )*(?:[├└]── )?)(\w+)", line)
        if match:
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            parents[match[2]] = path[depth - 1] if depth else ""
    return parents


def test_the_drawing_is_the_tree() -> None:
    """The docstring shows every error under its parent, and nothing else."""
    assert drawn() == {
        error.__name__: "" if error is JobqError else error.__bases__[0].__name__ for error in all_errors()
    }


@pytest.mark.parametrize("error", all_errors())
def test_each_can_be_told_over_http(error: type[JobqError]) -> None:
    """Each has a status that HTTP knows, a slug for the problem's type, a title and a description."""
    assert 400 <= HTTPStatus(error.status) < 600
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", error.slug)
    assert re.fullmatch(r"[A-Z].{5,60}[^.]", error.title)
    assert error.__doc__


def test_no_two_share_a_slug() -> None:
    """Who reads the problem's type knows which error it was."""
    slugs = [error.slug for error in all_errors()]
    assert len(set(slugs)) == len(slugs)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.BadRequest, ValueError),
        (errors.UnknownTask, ValueError),
        (errors.JobNotFound, LookupError),
        (errors.ResultTimeout, TimeoutError),
    ],
)
def test_python_s_own_kinds(error: type[JobqError], kind: type[Exception]) -> None:
    """Who catches Python's own error catches ours, where one fits."""
    assert issubclass(error, kind)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.BadRequest, 422),
        (errors.UnknownTask, 422),
        (errors.InvalidPayload, 422),
        (errors.PayloadTooLarge, 413),
        (errors.JobNotFound, 404),
        (errors.ResultExpired, 404),
        (errors.Conflict, 409),
        (errors.JobFailed, 409),
        (errors.ResultTimeout, 504),
        (errors.StoreUnavailable, 503),
        (errors.StoreFull, 503),
        (errors.StoreUnfit, 503),
        (errors.QueueFull, 503),
    ],
)
def test_statuses(error: type[JobqError], status: int) -> None:
    """Callers' mistakes are 4xx, ours and the server's 5xx."""
    assert status == error.status


def test_what_they_carry() -> None:
    """Failures carry the remote error, conflicts the status, refusals the places."""
    failed = errors.JobFailed("x", type="ValueError", traceback="t", reason="error")
    assert ("x", "ValueError", "t", "error") == (str(failed), failed.type, failed.traceback, failed.reason)
    assert "completed" == errors.Conflict("x", "completed").job_status
    assert [(("a", 0), "wrong")] == errors.InvalidPayload("x", [(("a", 0), "wrong")]).errors
