"""The machine: whatever producers, workers, hands and crashes may do, in any order, against a real server.

After every step three things hold. The server's keys are those of the model (`reference.py`), to the byte. The
invariants between keys hold (`tests/support/invariants.py`). And the promises hold, which are read from what was
answered and what is stored, without asking the model.
"""

from __future__ import annotations

import atexit
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import count
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from redis.exceptions import ResponseError

from jobq.job import Job, JobError, Status
from jobq.policy import cancelled
from jobq.record import is_canonical, parse
from jobq.store import keys
from jobq.store.blocking import drive
from jobq.store.store import Claim, Pumped, Settlement, Submission
from tests.model.reference import REFUSED, Model
from tests.model.server import CLOCK, Driven
from tests.support.invariants import broken, leftovers, snapshot

START = 1_800_000_000_000
LEASE = 60_000
"""Ms. A lane's memory and a result live for a time of the server's own clock, which no example outlasts."""
HOUR = 3_600_000
DAY = 24 * HOUR

WORKERS = {"w1": "default,mail", "w2": "mail,default", "w3": "default"}
TASKS = ("note", "gone")
ODD_TAIL = ',"list":[],"big":9007199254740993,"nested":{"a":{"b":"}\\"{"}},"float":1.0e400,"text":"ä\\u00e4"'
OOPS = JobError("Oops", "a {brace}", "error").text()

workers = st.sampled_from(list(WORKERS))
queues = st.sampled_from(["default", "mail"])
places = st.sampled_from([keys.QUEUE, "job_queue:mail", "job_queue:default:5"])
wants = st.integers(1, 3)
dues = st.sampled_from(["", "+500", f"+{HOUR}"])
duties = st.sampled_from(["reap", "late reap", "stage", "expire", "missing", "scrub", "prune"])
outcomes = st.sampled_from(["complete", "retry", "fail", "release", "park", "cancel", "lose"])


@dataclass(frozen=True)
class Row:
    """What a submit says. Shown is only what is not as usual."""

    queue: str = "default"
    task: str = "note"
    priority: int = 0
    due: str = ""
    expires: str = ""
    tail: str = ""
    payload: bytes = b""

    @property
    def columns(self) -> tuple[Any, ...]:
        """As `Submission` wants them."""
        return self.task, self.queue, self.priority, self.due, self.expires, self.tail, self.payload

    def __repr__(self) -> str:
        said = [(field.name, getattr(self, field.name)) for field in fields(self)]
        usual = Row()
        return f"Row({', '.join(f'{name}={value!r}' for name, value in said if value != getattr(usual, name))})"

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        printer.text(repr(self))


COMMON = [Row(), Row("mail"), Row(due="+500"), Row(expires="+400"), Row(task="gone")]
rows = st.builds(
    Row,
    queues,
    st.sampled_from(TASKS),
    st.sampled_from([0, 0, 5]),
    st.sampled_from(["", "", "+500", f"+{HOUR}", str(START - 1), str(START + 700)]),
    st.sampled_from(["", "", "+400", "+2000"]),
    st.sampled_from(["", ',"max_retries":3', ODD_TAIL]),
    st.sampled_from([b"", b'{"a":[],"n":9007199254740993}', b'{"x":1e400, "x":-0}', b"\xff\x00"]),
)


@cache
def driven() -> Driven:
    """One server for a process: starting one takes longer than an example."""
    server = Driven()
    atexit.register(server.stop)
    return server


class Tally:
    """How much was done, over all examples."""

    examples = 0
    steps = 0


class Machine(RuleBasedStateMachine):
    jobs = Bundle("jobs")
    claims = Bundle("claims")
    """Every claim that was ever handed out: of holders, of zombies, of attempts that are settled."""

    def __init__(self) -> None:
        super().__init__()
        Tally.examples += 1
        self.server = driven()
        self.server.valkey.flush()
        self.model = Model(START)
        self._set_clock()
        self.numbers = count(1)
        self.seqs = dict.fromkeys(WORKERS, 0)
        self.last: dict[str, tuple[list[Settlement], int]] = {}
        self.views: dict[str, Job] = {}
        """By token, the job as its holder knows it; a foreign one once it was adopted."""
        self.restarts = 0
        # The promises' memory.
        self.accepted: dict[str, Row] = {}
        self.tokens: dict[str, str] = {}
        self.settled: set[str] = set()
        self.reached: dict[str, int] = {}
        self.ended: dict[str, bytes] = {}
        self.blurred: set[str] = set()
        """Jobs whose attempt and losses do not tell one attempt from another: see `_verdicts`."""

    # --- producers -------------------------------------------------------------------------------------------------

    @initialize(target=jobs, said=st.lists(st.sampled_from(COMMON), min_size=1, max_size=4))
    def begin(self, said: list[Row]) -> Any:
        """Something to begin with, whichever rules an example does without."""
        return self.submit(said)

    @rule(
        target=jobs, said=st.lists(rows, min_size=1, max_size=3), most=st.sampled_from([0, 0, 2]), atomic=st.booleans()
    )  # fmt: skip
    def submit_up_to(self, said: list[Row], most: int, atomic: bool) -> Any:
        return self.submit(said, most, atomic=atomic)

    def submit(self, said: list[Row], most: int = 0, *, atomic: bool = False) -> Any:
        ids = [self._new_id() for _ in said]
        verdicts = self._submit(list(zip(ids, said, strict=True)), most=most, atomic=atomic)
        return multiple(*(job_id for job_id, verdict in zip(ids, verdicts, strict=True) if verdict == "ok"))

    @rule(job=jobs, row=rows)
    def submit_again(self, job: str, row: Row) -> None:
        self._submit([(job, row)])

    @rule(target=jobs, row=rows, key=st.sampled_from(["aa", "bb"]), body=st.sampled_from(["01", "02"]))
    def submit_keyed(self, row: Row, key: str, body: str) -> Any:
        job_id = self._new_id()
        [verdict] = self._submit([(job_id, row)], key, body)
        return job_id if verdict == "ok" else multiple()

    @rule(
        target=jobs, queue=queues, pushed_to=places, said=st.sampled_from(["pending", "pending", "completed", "later"])
    )
    def push_foreign(self, queue: str, pushed_to: str, said: str) -> str:
        """A producer that knows only the contract; `later` it pushes first, and the record is still to come."""
        job_id = self._new_id()
        self._push(job_id, None if said == "later" else _foreign(job_id, status=said, queue=queue, odd=[]), pushed_to)
        return job_id

    @rule(job=jobs, pushed_to=places, writes=st.booleans())
    def push_again(self, job: str, pushed_to: str, writes: bool) -> None:
        """Its producer may also write the record: late, or again."""
        writes = writes and not isinstance(self.model.records.get(job), Job)
        self._push(job, _foreign(job, status="pending", odd=[next(self.numbers)]) if writes else None, pushed_to)

    @rule(number=st.integers(0, 3))
    def a_late_record_comes(self, number: int) -> None:
        """Of an id that a worker has missed it for; and somebody looks for such."""
        missed = [entry.split(":")[2] for entry in self.model.missed]
        if missed and (job := missed[number % len(missed)]) not in self.model.records:
            self.server.run("set", keys.job(job), _foreign(job, status="pending"))
            self.model.records[job] = _foreign(job, status="pending")
            self._new_life(job)
        self._same("missing", 1000)

    # --- workers ---------------------------------------------------------------------------------------------------

    @initialize(target=claims, worker=workers, want=wants)
    def begin_to_work(self, worker: str, want: int) -> Any:
        return self._pump(worker, [], want, lost=False)

    @rule(target=claims, worker=workers, want=wants, lost=st.booleans())
    def claim(self, worker: str, want: int, lost: bool) -> Any:
        return self._pump(worker, [], want, lost)

    @rule(claim=claims, outcome=outcomes, due=dues)
    def settle(self, claim: Claim, outcome: str, due: str) -> None:
        self._pump(claim.token.split(".")[0], [self._report(claim, outcome, due)], 0, lost=False)

    @rule(
        target=claims, worker=workers, want=wants, lost=st.booleans(), outcome=outcomes, due=dues,
        of=st.lists(claims, min_size=1, max_size=3, unique_by=lambda claim: claim.token),
    )  # fmt: skip
    def pump(self, worker: str, want: int, lost: bool, outcome: str, due: str, of: list[Claim]) -> Any:
        return self._pump(worker, [self._report(claim, outcome, due) for claim in of], want, lost)

    @rule(target=claims, worker=workers, lost=st.booleans())
    def pump_the_same_again(self, worker: str, lost: bool) -> Any:
        if worker not in self.last:
            return multiple()
        settles, want = self.last[worker]
        return self._call(worker, self.seqs[worker], settles, want, lost)

    @rule(worker=workers, claim=claims, outcome=outcomes)
    def a_delayed_pump_arrives(self, worker: str, claim: Claim, outcome: str) -> None:
        if self.seqs[worker] > 1:
            assert self._same_pump(worker, self.seqs[worker] - 1, [self._report(claim, outcome, "")], 1) == REFUSED

    @rule(claim=claims)
    def adopt(self, claim: Claim) -> None:
        if claim.token not in self.views:
            self._adopt(claim)

    @rule(held=st.lists(claims, min_size=1, max_size=3))
    def heartbeat(self, held: list[Claim]) -> None:
        pairs = [(claim.job_id, claim.token) for claim in held]
        answer, expected = self.server.heart.beat(pairs, LEASE), self.model.beat(pairs, LEASE)
        assert answer == expected, f"heartbeat: answered {answer}, should have been {expected}"

    @rule(claim=claims, number=st.integers(1, 3), kind=st.sampled_from(["progress", "log"]))
    def emit(self, claim: Claim, number: int, kind: str) -> None:
        attempt = self._view(claim).attempt
        entries = [(number, kind, f"{attempt}.{number}"), (number + 1, kind, f"{attempt}.{number + 1}")]
        self._same("emit", claim.job_id, claim.token, attempt, entries)

    # --- duties and hands ------------------------------------------------------------------------------------------

    @rule(target=claims, claim=claims, max_lost=wants, taker=st.none() | workers)
    def lapse(self, claim: Claim, max_lost: int, taker: str | None) -> Any:
        """This lease alone runs out. Somebody may take the job at once."""
        if self.model.running.get(claim.job_id) == claim.token:
            self.server.run("zadd", "job_leases", {claim.job_id: self.model.now - 1})
            self.model.leases[claim.job_id] = self.model.now - 1
        self._same("reap", max_lost)
        return self._pump(taker, [], 1, lost=False) if taker else multiple()

    @rule(served=st.sampled_from([["default", "mail"], ["mail"]]), known=st.sampled_from([TASKS, TASKS[:1]]))
    def unpark(self, served: list[str], known: tuple[str, ...]) -> None:
        self._same("unpark", served, known)

    @rule(duty=duties, status=st.sampled_from(["completed", "failed", "cancelled"]), most=wants)
    def duty(self, duty: str, status: str, most: int) -> None:
        """Whatever the scrubber repairs, it is nothing that nobody has tampered with."""
        arguments: dict[str, tuple[Any, ...]] = {
            "reap": (most,), "late reap": (most, self.model.now - 1),
            "missing": (1000,),
            "scrub": (10_000, LEASE, 0), "prune": (status, HOUR, most - 1, 1000),
        }  # fmt: skip
        self._same(duty.removeprefix("late "), *arguments.get(duty, ()))
        self._forgotten()

    @rule(queue=queues, verb=st.sampled_from(["pause", "resume", "purge", "take the mark"]))
    def to_a_queue(self, queue: str, verb: str) -> None:
        """The mark is taken by an idle worker, which then freezes."""
        if verb == "take the mark":
            self.server.run("zpopmin", keys.wake(queue))
            self.model.marks.discard(queue)
        else:
            self._same(verb, queue)
            self._forgotten()

    @rule(job=jobs, verb=st.sampled_from(["cancel", "retry", "delete"]), late=st.booleans())
    def by_hand(self, job: str, verb: str, late: bool) -> None:
        """Late: by somebody who saw the job as it was an attempt ago."""
        record = self.model.text(job)
        if verb == "cancel":
            self._cancel(job, record, "late" if late else "why")
        elif verb == "delete":
            self._same("delete", job)
            self._forgotten()
        else:
            self._retry(job, late=late)

    @rule(number=st.integers(0, 3), late=st.booleans())
    def retry_what_is_over(self, number: int, late: bool) -> None:
        over = [*self.model.index[Status.FAILED], *self.model.index[Status.CANCELLED]]
        if over:
            self._retry(over[number % len(over)], late=late)

    # --- what befalls all ------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 500, 1_000, LEASE, HOUR, -1, -HOUR]))
    def time_passes(self, ms: int) -> None:
        """Backwards as well: a clock that was set."""
        self.model.now += ms
        self._set_clock()

    @rule(what=st.sampled_from(["scripts flushed", "scripts flushed", "killed"]))
    def to_the_server(self, what: str) -> None:
        if what == "scripts flushed":
            self.server.run("script_flush")
        elif not self.restarts:
            self.restarts += 1
            self.server.restart()

    # --- what holds ------------------------------------------------------------------------------------------------

    @invariant()
    def all_is_as_it_must_be(self) -> None:
        Tally.steps += 1
        stored, expected = self.server.keys(), self.model.keys
        different = {
            name: f"is {stored.get(name)!r}, should be {expected.get(name)!r}"
            for name in sorted(stored.keys() | expected.keys())
            if stored.get(name) != expected.get(name)
        }
        self._promises(stored)
        assert not different, "\n".join(f"{name} {what}" for name, what in different.items())
        assert not (wrong := broken(drive(snapshot(self.server.client)), left_behind=True)), "\n".join(wrong)

    def _promises(self, stored: dict[str, Any]) -> None:
        """I2, I6, I8, I12 of the invariants that jobq promises."""
        for job_id, row in self.accepted.items():
            record = stored.get(keys.job(job_id))
            assert record, f"{job_id} was accepted, and is lost"
            job = parse(job_id, record)
            assert stored.get(keys.payload(job_id), b"") == row.payload, f"{job_id} has another payload"
            assert (job.task, job.queue, job.priority) == (row.task, row.queue, row.priority), f"{job_id}: {record!r}"
            assert job.tail.removesuffix(_SIZE) == row.tail, f"{job_id}: {record!r}"
            assert job.attempt == self.reached.get(job_id, 0), f"{job_id} is at another attempt than was handed out"
            if job_id in self.ended:
                assert self.ended[job_id] == record, f"{job_id} was over, and changed to {record!r}"
            elif job.status.over:
                self.ended[job_id] = record

    def teardown(self) -> None:
        """Everything that can run does, and nothing is left over."""
        if self._failed():
            return
        for queue in ("default", "mail"):
            self._same("resume", queue)
        for _ in range(20):
            self.time_passes(DAY)
            for duty in (("reap", 99), ("stage",), ("expire",), ("missing", 0), ("unpark", ["default", "mail"], TASKS)):
                self._same(*duty)
            for claim in self._pump("w1", [], 50, lost=False).values:
                self._pump("w1", [self._report(claim, "complete", "")], 0, lost=False)
            self.all_is_as_it_must_be()
            taken = drive(snapshot(self.server.client))
            if not leftovers(taken):
                break
        assert not (wrong := leftovers(taken)), "\n".join(wrong)
        for job_id in self.accepted:
            assert taken.jobs[job_id].status.over, f"{job_id} is {taken.jobs[job_id].status}"

    # --- pieces ----------------------------------------------------------------------------------------------------

    def _failed(self) -> bool:
        return self.server.keys() != self.model.keys

    def _same(self, verb: str, *args: Any, **named: Any) -> Any:
        """What the store answers, which is what the model answers."""
        expected = getattr(self.model, verb)(*args, **named)
        try:
            answer = drive(getattr(self.server.store, verb)(*args, **named))
        except ResponseError as error:
            if "a later call of this lane" not in str(error):
                raise
            answer = REFUSED
        if verb == "scrub":  # goes through the keys in no order
            answer, expected = sorted(answer), sorted(expected)
        assert answer == expected, f"{verb}: answered {answer}, should have been {expected}"
        return answer

    def _set_clock(self) -> None:
        self.server.run("set", CLOCK, self.model.now)

    def _new_id(self) -> str:
        return f"{next(self.numbers):08x}-0000-4000-8000-000000000000"

    def _submit(self, said: list[tuple[str, Row]], key: str = "", body: str = "", **bounds: Any) -> list[str]:
        submissions = [Submission(job_id, *row.columns, key, body) for job_id, row in said]
        verdicts: list[str] = self._same("submit", submissions, **bounds)
        for (job_id, row), verdict in zip(said, verdicts, strict=True):
            if verdict == "ok":
                self._new_life(job_id)
                self.accepted[job_id] = row
        return verdicts

    def _cancel(self, job_id: str, record: bytes | None, reason: str) -> None:
        """As the client does: a foreign job is adopted first."""
        if record and not is_canonical(record) and parse(job_id, record).status.over:
            return
        if self._same("cancel", job_id, reason, cancelled(reason).text())[0] == "foreign":
            assert record
            self._same("adopt", job_id, "", record, parse(job_id, record).text())
            self._same("cancel", job_id, reason, cancelled(reason).text())

    def _retry(self, job_id: str, *, late: bool) -> None:
        record = self.model.text(job_id)
        attempt = parse(job_id, record).attempt if record else 0
        if self._same("retry", job_id, max(0, attempt - late))[0] == "ok":
            self.ended.pop(job_id, None)
            self.blurred.add(job_id)

    def _push(self, job_id: str, record: bytes | None, place: str) -> None:
        if record:
            self.server.run("set", keys.job(job_id), record)
        self.server.run("rpush", place, job_id)
        self.model.push(job_id, record, place)
        if record:
            self._new_life(job_id)

    def _new_life(self, job_id: str) -> None:
        """Of an id that had none, or was forgotten."""
        self.reached.pop(job_id, None)
        if not isinstance(self.model.records[job_id], Job) or any(known == job_id for known in self.tokens.values()):
            self.blurred.add(job_id)

    def _forgotten(self) -> None:
        for job_id in self.accepted.keys() - self.model.records.keys():
            del self.accepted[job_id]
            self.ended.pop(job_id, None)

    def _pump(self, worker: str, settles: list[Settlement], want: int, lost: bool) -> Any:
        self.seqs[worker] += 1
        self.last[worker] = settles, want
        return self._call(worker, self.seqs[worker], settles, want, lost)

    def _call(self, worker: str, seq: int, settles: list[Settlement], want: int, lost: bool) -> Any:
        """The claims handed out, unless the reply was lost."""
        pumped = self._same_pump(worker, seq, settles, want)
        self._verdicts(settles, pumped.verdicts)
        for claim in pumped.claims:
            self._handed_out(claim)
        return multiple() if lost else multiple(*pumped.claims)

    def _same_pump(self, worker: str, seq: int, settles: list[Settlement], want: int) -> Pumped:
        limits = {"lease": LEASE, "result_ttl": LEASE, "queues": WORKERS[worker]}
        pumped: Pumped = self._same("pump", (worker, "0"), seq, settles, want, **limits)
        return pumped

    def _verdicts(self, settles: Iterable[Settlement], verdicts: list[str]) -> None:
        """I6, I7: an attempt is settled once, and `repeat` is said to nobody else.

        But for an attempt that was reaped and whose job was then retried by hand (which clears the losses), or that was
        not adopted, or whose job was deleted: it may hear `repeat`, and has changed nothing either. And a loss that is
        reported may have been counted by the reaper.
        """
        for row, verdict in zip(settles, verdicts, strict=True):
            if verdict == "ok":
                assert row.token not in self.settled, f"{row.token} settled twice"
                self.settled.add(row.token)
            elif verdict == "repeat":
                assert row.token in self.settled or row.job_id in self.blurred or row.outcome == "lose", (
                    f"{row.token} was never settled"
                )

    def _handed_out(self, claim: Claim) -> None:
        """I8, I9: a token is of one attempt, and attempts rise by one."""
        known = self.tokens.setdefault(claim.token, claim.job_id)
        assert known == claim.job_id, f"{claim.token} was given out twice"
        if claim.token in self.views or not is_canonical(claim.record):
            return
        job = self.views[claim.token] = parse(claim.job_id, claim.record)
        before = self.reached.get(claim.job_id, 0 if claim.job_id in self.accepted else job.attempt - 1)
        assert job.attempt == before + 1, f"attempt {job.attempt} of {claim.job_id} follows {before}"
        self.reached[claim.job_id] = job.attempt

    def _view(self, claim: Claim) -> Job:
        return self.views.get(claim.token) or self._adopt(claim)

    def _adopt(self, claim: Claim) -> Job:
        """As the worker does with a foreign record that it was handed, and that may have been written again since."""
        record, verdict = claim.record, "conflict"
        while verdict == "conflict":
            job = parse(claim.job_id, record)
            job = replace(
                job, status=Status.PROCESSING, attempt=job.attempt + 1, started_at=self.model.now,
                worker=claim.token.split(".")[0],
            )  # fmt: skip
            verdict = self._same("adopt", claim.job_id, claim.token, record, job.text())
            record = self.model.text(claim.job_id) or b""
        if verdict == "ok":
            self.reached[claim.job_id] = job.attempt
        self.views[claim.token] = job
        return job

    def _report(self, claim: Claim, outcome: str, due: str) -> Settlement:
        """The row with which a worker reports this outcome."""
        if claim.token not in self.views:
            if parse(claim.job_id, claim.record).status is not Status.PENDING:
                return Settlement(claim.job_id, claim.token, "drop")
            if outcome == "release":
                return Settlement(claim.job_id, claim.token, "release", claim.record.decode())
        job, body = self._view(claim), b""
        if outcome == "complete":
            body = b"[1,[]]"
            job = replace(job, status=Status.COMPLETED, finished_at=self.model.now, tail=job.tail + _SIZE)
        elif outcome == "fail":
            job = replace(job, status=Status.FAILED, finished_at=self.model.now, error_text=OOPS)
        elif outcome == "cancel":
            job = replace(job, status=Status.CANCELLED, error_text=cancelled("").text())
        elif outcome == "lose":
            job = replace(job, lost=job.lost + 1, error_text=OOPS)
        elif outcome == "retry":
            job = replace(job, retries=job.retries + 1, error_text=OOPS)
        at = self.model.now + int(due) if due and outcome == "retry" else ""
        return Settlement(claim.job_id, claim.token, outcome, job.text(), body, at)


_SIZE = ',"result_bytes":6'


def _foreign(job_id: str, **members: Any) -> bytes:
    """A record as a program writes it that knows only the contract, in Python's default spacing."""
    return json.dumps({"job_id": job_id, "task": "note", "retries": 0, **members}).encode()
