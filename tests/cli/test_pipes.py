"""Every verb as a script meets it: data on stdout, notices on stderr, an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.support import Shell
from tests.support.processes import Process, eventually

pytestmark = pytest.mark.usefixtures("worker")

NOBODY = "00000000-0000-7000-8000-000000000000"


def submitted(shell: Shell, *arguments: str) -> str:
    done = shell.pipe("submit", *arguments)
    assert (done.code, done.err) == (0, ""), done
    return done.out.strip()


def test_submit_prints_the_id_alone(shell: Shell) -> None:
    """Stdout holds the id and nothing else, so that `$(jobq submit …)` is one."""
    done = shell.process("submit", "hello", "name=Ada")
    assert (done.code, done.err) == (0, "")
    assert shell.process("result", done.out.strip(), "--wait").out == '"Hello, Ada"\n'


def test_submit_and_wait_prints_the_result_alone(shell: Shell) -> None:
    """Text stays text, `:=` is JSON and is not decoded on its way."""
    done = shell.pipe("submit", "echo", "value=007", "other:=[12345678901234567890, 1e2]", "--wait")
    assert (done.code, done.out, done.err) == (0, '["007",[12345678901234567890,100.0]]\n', "")


def test_a_payload_comes_from_stdin(shell: Shell) -> None:
    """`--payload -` reads one JSON object."""
    done = shell.pipe("submit", "hello", "--payload", "-", "--wait", stdin='{"name": "Grace"}')
    assert (done.code, done.out) == (0, '"Hello, Grace"\n')


def test_options_of_a_job(shell: Shell) -> None:
    """All that can be said about a job arrives at it."""
    job_id = "01a20f9e-4910-76c9-b552-f568180cb402"
    options = "--queue later --priority 7 --delay 1h30m --expires-in 2d --max-retries 1 --timeout 5m"
    assert submitted(shell, "hello", *options.split(), "--id", job_id) == job_id
    told = json.loads(shell.pipe("status", job_id, "--json").out)
    assert (told["queue"], told["priority"], told["max_retries"]) == ("later", 7, 1)
    assert told["run_at"] > told["created_at"]
    lines = shell.pipe("status", job_id).out.splitlines()
    assert "status\tpending" in lines
    assert f"due\t{told['run_at']}" in lines


def test_an_idempotency_key_gives_the_same_job(shell: Shell) -> None:
    """The second time is told on stderr, and another request under that key is refused."""
    first = shell.pipe("submit", "hello", "name=Ada", "--idempotency-key", "k1")
    second = shell.pipe("submit", "hello", "name=Ada", "--idempotency-key", "k1")
    assert first.out == second.out
    assert "had made that job before" in second.err
    assert shell.pipe("submit", "hello", "name=Eve", "--idempotency-key", "k1").code == 2


def test_a_job_that_fails(shell: Shell) -> None:
    """Exit code 1, the error on stderr, nothing on stdout; `retry` puts it back."""
    done = shell.pipe("submit", "broken", "--max-retries", "0", "--wait")
    assert (done.code, done.out) == (1, "")
    assert "failed: ValueError: as always" in done.err
    job_id = done.err.split()[2]
    assert shell.pipe("result", job_id).code == 1
    watched = shell.pipe("watch", job_id)
    assert (watched.code, watched.out) == (1, f"{job_id}\tbroken\tfailed\t0\t\n")
    assert shell.pipe("retry", job_id).out == f"{job_id}\tpending\n"


def test_waiting_has_an_end(shell: Shell) -> None:
    """Exit code 124 as `timeout` has it; the job goes on and `watch` follows it to its end."""
    done = shell.pipe("submit", "resize", "seconds:=1.5", "--wait-timeout", "0.2s")
    assert (done.code, done.out) == (124, "")
    job_id = done.err.split()[2]
    assert shell.pipe("result", job_id).code == 124
    watched = shell.pipe("watch", job_id)
    assert watched.code == 0
    assert watched.out.splitlines()[0] == f"{job_id}\tresize\tprocessing\t0\t40% reading"
    assert watched.out.splitlines()[-1] == f"{job_id}\tresize\tcompleted\t0\t"


def test_cancel(shell: Shell) -> None:
    """A waiting job is cancelled with its reason; what is over is a conflict, and an unknown one is told beside it."""
    job_id = submitted(shell, "hello", "--delay", "1h")
    assert shell.pipe("cancel", job_id, "--reason", "no need").out == f"{job_id}\tcancelled\n"
    result = shell.pipe("result", job_id)
    assert (result.code, result.err) == (1, f"jobq: job {job_id} was cancelled: no need\n")
    over = submitted(shell, "hello")
    assert shell.pipe("watch", over).code == 0
    refused = shell.pipe("cancel", over, NOBODY)
    assert (refused.code, refused.out, len(refused.err.splitlines())) == (5, "", 2)


def test_jobs_page_by_page(shell: Shell) -> None:
    """Lines of tab-separated values, filters, a cursor; `--json` is one document with the same jobs."""
    ids = [submitted(shell, "hello", "--queue", "pages", "--delay", "1h") for _ in range(3)]
    listed = shell.pipe("jobs", "--queue", "pages", "--status", "pending", "--limit", "2")
    assert [line.split("\t")[:4] for line in listed.out.splitlines()] == [
        [job_id, "hello", "pages", "pending"] for job_id in ids[:2]
    ]
    cursor = listed.err.split()[-1]
    page = ("jobs", "--queue", "pages", "--status", "pending", "--cursor")
    document = json.loads(shell.pipe(*page, cursor, "--json").out)
    assert [job["job_id"] for job in document["jobs"]] == ids[2:]
    assert shell.pipe(*page, "nonsense").code == 2


def test_retry_of_all_that_failed(shell: Shell) -> None:
    """It says how many, and without a terminal to ask on it wants --yes."""
    for _ in range(2):
        shell.pipe("submit", "broken", "--max-retries", "0", "--queue", "mail", "--wait")
    asked = shell.pipe("retry", "--all-failed", "--task", "broken", "--queue", "mail")
    assert asked.code == 2
    assert "2 failed jobs will be retried" in asked.err
    done = shell.pipe("retry", "--all-failed", "--task", "broken", "--queue", "mail", "--yes")
    assert (done.code, done.err) == (0, "2 of 2 retried\n")


def test_queues(shell: Shell) -> None:
    """Pause, list, purge, resume."""
    submitted(shell, "send", "to=ada", "--queue", "mail")
    assert shell.pipe("queues", "pause", "mail").code == 0
    for _ in range(2):
        submitted(shell, "send", "to=ada", "--queue", "mail")
    queues = {queue["name"]: queue for queue in json.loads(shell.pipe("queues", "--json").out)["queues"]}
    assert (queues["mail"]["paused"], queues["mail"]["depth"], queues["mail"]["workers"]) == (True, 2, 1)
    assert any(line.startswith("mail\t2\t") for line in shell.pipe("queues").out.splitlines())
    assert shell.pipe("purge", "mail").code == 2
    assert shell.pipe("purge", "mail", "--yes").err == "2 forgotten\n"
    assert shell.pipe("queues", "resume", "mail").code == 0


def test_workers(shell: Shell, worker: Process) -> None:
    """The one that runs, with its tasks."""
    (about,) = json.loads(shell.pipe("workers", "--json").out)["workers"]
    assert about["pid"] == worker.popen.pid
    assert "hello" in about["tasks"]
    (line,) = shell.pipe("workers").out.splitlines()
    assert line.split("\t")[0] == about["worker"]


def test_tasks(shell: Shell) -> None:
    """Those of the registry, with the schema of their payload."""
    document = json.loads(shell.pipe("tasks", "--app", "mytasks:registry", "--json").out)
    assert {task["name"] for task in document["tasks"]} == {"hello", "echo", "broken", "resize", "send"}
    assert "hello\tdefault\t[name]\tSay hello." in shell.pipe("tasks", "--app", "mytasks:registry").out.splitlines()


def test_config(shell: Shell) -> None:
    """Each value with its source; secrets are masked wherever they stand."""
    secrets = {"JOBQ_API_KEY": "0123456789abcdefgh", "JOBQ_PORT": "8123"}
    url = "redis://me:s3cret@example.com:6379/0"
    done = Shell(shell.folder, {"JOBQ_REDIS_URL": url}).pipe("config", "--json", **secrets)
    known = {row["name"]: (row["value"], row["source"]) for row in json.loads(done.out)}
    assert known["JOBQ_PORT"] == (8123, "environment variable JOBQ_PORT")
    assert known["JOBQ_API_KEY"] == ("***", "environment variable JOBQ_API_KEY")
    assert known["JOBQ_REDIS_URL"][0] == "redis://me:***@example.com:6379/0"
    assert known["JOBQ_LEASE"] == (15.0, "default")
    assert "s3cret" not in done.out


def test_the_source_of_a_service_setting_is_its_config(tmp_path: Path) -> None:
    """What a config.py gives another default, or adds, is told so."""
    (tmp_path / "config.py").write_text(
        "from jobq import Settings\n"
        "class Mine(Settings):\n"
        "    lease: float = 7.0\n"
        "    smtp_password: str = 'hush'\n"
        "settings = Mine()\n"
    )
    rows = [line.split("\t") for line in Shell(tmp_path, {}).pipe("config").out.splitlines()]
    assert ["JOBQ_LEASE", "7.0", "config.py"] in rows
    assert ["JOBQ_SMTP_PASSWORD", "***", "config.py"] in rows
    assert not (tmp_path / ".jobq").exists()


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("submitt hello", 2, "Did you mean 'submit'?"),
        ("submit hello name", 2, "use name=text"),
        ("submit hello --delay soon", 2, "10s, 5m, 2h, 1d"),
        ("submit helo --app mytasks:registry", 4, "did you mean hello?"),
        ("submit hello nam=Ada --app mytasks:registry", 2, "does not fit hello"),
        ("submit hello --app nowhere:registry", 3, "there is no module nowhere"),
        ("submit helo --wait-timeout 0.1", 124, "did you mean hello?"),
        ("jobs --status faild", 2, "did you mean failed?"),
        ("jobs --task hallo", 4, "did you mean hello?"),
        ("purge defalt --yes", 4, "did you mean default?"),
        ("queues pause mial", 4, "did you mean mail?"),
        (f"status {NOBODY}", 4, "no job"),
        ("status 123", 2, "UUID"),
        ("retry", 2, "--all-failed"),
        ("tasks --app mytasks:nothing", 3, "no jobq.Registry at mytasks:nothing"),
    ],
)
def test_what_goes_wrong_has_its_exit_code(command: str, code: int, said: str, shell: Shell) -> None:
    """Nothing on stdout, one explanation on stderr, and the code that the help documents."""
    done = shell.pipe(*command.split())
    assert (done.code, done.out) == (code, ""), done
    assert said in done.err
    assert "Traceback" not in done.err


def test_code_that_raises_on_import_is_shown(tmp_path: Path, shell: Shell) -> None:
    """The traceback of the user's own code, without ours around it, and exit code 3."""
    (tmp_path / "bad.py").write_text("x = 1\nx.nothing\n")
    done = Shell(tmp_path, shell.env).pipe("tasks", "--app", "bad:registry")
    assert done.code == 3
    assert done.err.count("File ") == 1
    assert done.err.endswith("AttributeError: 'int' object has no attribute 'nothing'\njobq: bad cannot be imported\n")


def test_no_server(tmp_path: Path) -> None:
    """Exit code 69; and looking around starts no server and leaves no data."""
    there = Shell(tmp_path, {}).process("jobs")
    assert there.code == 69
    assert "does not exist" in there.err
    assert not list(tmp_path.iterdir())
    assert Shell(tmp_path, {"JOBQ_REDIS_URL": "redis://127.0.0.1:1"}).pipe("jobs").code == 69


def test_submit_without_a_worker_waits(tmp_path: Path) -> None:
    """In an empty folder a submit starts the embedded server, stores the job, and a later worker finds it."""
    shell = Shell(tmp_path, {"JOBQ_DATA_DIR": str(tmp_path / "d")})
    done = shell.pipe("submit", "hello", "--wait-timeout", "0.1")
    assert done.code == 124
    assert "no worker is running" in done.err
    job_id = done.err.split("jobq: job ")[1].split()[0]
    assert "status\tpending" in shell.pipe("status", job_id).out.splitlines()
    eventually((tmp_path / "d").exists)
