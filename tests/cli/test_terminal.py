"""The verbs as a person meets them, through a pseudo terminal."""

from __future__ import annotations

import json

import pytest

from tests.cli.support import Shell

pytestmark = pytest.mark.usefixtures("worker")


def test_submit_and_wait_shows_progress_and_result(shell: Shell) -> None:
    """One line that changes in place, then the result."""
    terminal = shell.terminal("submit", "resize", "seconds:=0.8", "--wait")
    terminal.wait_for("resize  processing  40% reading")
    assert terminal.wait() == 0
    assert terminal.text.rstrip().endswith('"done"')
    assert "\x1b[1A\r\x1b[K" in terminal.raw
    assert "resize  completed  after " in terminal.text


def test_retries_are_shown(shell: Shell) -> None:
    """The end of a job that failed says how often it was tried."""
    terminal = shell.terminal("submit", "broken", "--max-retries", "2", "--wait")
    assert terminal.wait() == 1
    assert "broken  failed  2 retries" in terminal.text
    assert "ValueError: as always" in terminal.text


def test_submit_shows_the_job(shell: Shell) -> None:
    """Its fields with their names; times as a person counts them."""
    terminal = shell.terminal("submit", "hello", "name=Ada", "--delay", "2h")
    assert terminal.wait() == 0
    assert "status    pending" in terminal.text
    assert 'payload   {"name":"Ada"}' in terminal.text
    assert "due       in 2h" in terminal.text


def test_tables_have_names_and_colours(shell: Shell) -> None:
    """Columns are named; `NO_COLOR` leaves no colour."""
    job_id = shell.pipe("submit", "broken", "--max-retries", "0").out.strip()
    shell.pipe("watch", job_id)
    coloured = shell.terminal("jobs", "--status", "failed")
    assert coloured.wait() == 0
    assert coloured.text.split()[:3] == ["job_id", "task", "queue"]
    assert job_id in coloured.text
    assert "\x1b[31mfailed" in coloured.raw
    plain = shell.terminal("jobs", "--status", "failed", NO_COLOR="1")
    assert plain.wait() == 0
    assert "\x1b[31m" not in plain.raw


def test_what_a_job_says_cannot_command_the_terminal(shell: Shell) -> None:
    """Escapes in a payload, a result or an error are shown, not obeyed."""
    evil = "\x1b[2J\x9b2J"
    done = shell.pipe("submit", "hello", f"name={evil}", "--wait")
    assert json.loads(done.out) == f"Hello, {evil}"
    job_id = shell.pipe("submit", "echo", f"value={evil}", f"other={evil}").out.strip()
    for command in ("result", "status"):
        terminal = shell.terminal(command, job_id)
        assert terminal.wait() == 0
        assert "2J" in terminal.raw
        assert "\x1b[2J" not in terminal.raw
        assert "\x9b" not in terminal.raw


def test_questions(shell: Shell) -> None:
    """Destructive verbs ask first, say how much it is about, and take no for an answer."""
    shell.pipe("submit", "hello", "--queue", "asked")
    purge = shell.terminal("purge", "asked")
    purge.wait_for("1 job of asked will be forgotten. [y/N]")
    purge.type("n\n")
    assert purge.wait() == 130
    purge = shell.terminal("purge", "asked")
    purge.wait_for("[y/N]")
    purge.type("y\n")
    assert purge.wait() == 0
    assert "1 forgotten" in purge.text


def test_watch_of_several_and_ctrl_c(shell: Shell) -> None:
    """A line for each job; Ctrl-C ends the watching with 130, and the jobs go on."""
    ids = [shell.pipe("submit", "resize", "seconds:=3").out.strip() for _ in range(2)]
    terminal = shell.terminal("watch", *ids)
    for job_id in ids:
        terminal.wait_for(f"{job_id}  resize  processing")
    terminal.type("\x03")
    assert terminal.wait() == 130
    assert "Traceback" not in terminal.text


def test_ctrl_c_while_a_submit_waits(shell: Shell) -> None:
    """The job goes on, and it is said how to follow it."""
    terminal = shell.terminal("submit", "resize", "seconds:=2", "--wait")
    terminal.wait_for("40% reading")
    terminal.type("\x03")
    assert terminal.wait() == 130
    assert "the job goes on: jobq watch " in terminal.text


def test_doctor_on_a_terminal(shell: Shell) -> None:
    """A mark for each finding."""
    terminal = shell.terminal("doctor")
    terminal.wait()
    assert "✓ role: primary" in terminal.text
