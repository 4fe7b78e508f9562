"""What must be true: all that a server holds after each call, in plain Python.

`Model` has the store's verbs and gives the store's answers; `keys` is every key with its whole value, as `server.read`
reads it. A record is the text it must read as: a `Job` for one of ours, bytes for one that a foreign producer wrote.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jobq.job import Job, JobError, Status
from jobq.record import parse
from jobq.store import keys
from jobq.store.store import Claim, Pumped, Settlement, Submission

REFUSED = "refused"
DAY = 86_400_000


@dataclass
class Model:
    """The server's clock stands still between calls: whoever drives this moves `now`, here and there."""

    now: int
    records: dict[str, Job | bytes] = field(default_factory=dict)
    payloads: dict[str, bytes] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    attempts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """How the attempts of a job ended that were not its last."""
    emitted: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    progress: dict[str, str] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    schedule: dict[str, int] = field(default_factory=dict)
    expiry: dict[str, int] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    cancels: dict[str, str] = field(default_factory=dict)
    index: dict[Status, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    missed: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)
    parked: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    erased: dict[str, int] = field(default_factory=dict)
    idem: dict[str, str] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    queues: set[str] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)
    lanes: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    over: list[tuple[str, str]] = field(default_factory=list)
    """What was announced: status and ids."""
    stats: Counter[str] = field(default_factory=Counter)

    # --- producers -------------------------------------------------------------------------------------------------

    def submit(self, rows: Sequence[Submission], most: int = 0, *, atomic: bool = False) -> list[str]:
        full = {row.queue for row in rows if most and self._ready(row.queue) >= most}
        if atomic and any(row.queue in full and not self._made_before(row) for row in rows):
            full = {row.queue for row in rows}
        return [self._made_before(row) or ("full" if row.queue in full else self._make(row)) for row in rows]

    def _ready(self, queue: str) -> int:
        return sum(len(self.lists[keys.ready(queue, priority)]) for priority in range(10))

    def _made_before(self, row: Submission) -> str | None:
        if row.idem in self.idem:
            body, _, known = self.idem[row.idem].partition(":")
            return f"replay:{known}" if body == row.body else "mismatch"
        return "repeat" if row.job_id in self.records else None

    def _make(self, row: Submission) -> str:
        if row.idem:
            self.idem[row.idem] = f"{row.body}:{row.job_id}"
        if row.payload:
            self.payloads[row.job_id] = row.payload
        job = Job(
            row.job_id, row.task, created_at=self.now, queue=row.queue, priority=row.priority,
            run_at=self._at(row.due), expires_at=self._at(row.expires), tail=row.tail,
        )  # fmt: skip
        self.records[job.job_id] = job
        if job.run_at and job.run_at > self.now:
            self.schedule[job.job_id] = job.run_at
        else:
            self._back(job)
        if job.expires_at:
            self.expiry[job.job_id] = job.expires_at
        self.queues.add(job.queue)
        self.stats[f"{job.queue}|in"] += 1
        return "ok"

    def push(self, job_id: str, record: bytes | None, place: str) -> None:
        """A foreign producer's two commands; the first is left out when it is late or was already given."""
        if record is not None:
            self.records[job_id] = record
        self.lists[place].append(job_id)

    # --- workers ---------------------------------------------------------------------------------------------------

    def pump(
        self, lane: tuple[str, str], seq: int, settles: Sequence[Settlement], want: int, **limits: Any
    ) -> Pumped | str:
        name = ":".join(lane)
        last, ids = self.lanes.get(name, (0, []))
        if seq < last:
            return REFUSED
        verdicts = self._settles(settles)
        prefix = f"{lane[0]}.{lane[1]}.{seq}."
        if seq == last:
            tokens = [(job_id, f"{prefix}{number}") for number, job_id in enumerate(ids, 1)]
            return Pumped(self.now, verdicts, [self._claim(*pair) for pair in tokens if pair in self.running.items()])

        claims = self._claims(limits["queues"].split(","), want, prefix, lane[0], limits["lease"])
        self.lanes[name] = seq, [claim.job_id for claim in claims]
        return Pumped(self.now, verdicts, claims)

    def adopt(self, job_id: str, token: str, expected: bytes, record: str) -> str:
        current = self.text(job_id)
        if current == record.encode():
            return "repeat"
        if self.running.get(job_id, "") != token:
            return "stale"
        if current != expected:
            return "conflict"
        self.records[job_id] = parse(job_id, record.encode())
        return "ok"

    def beat(self, held: Sequence[tuple[str, str]], lease: int) -> list[tuple[str, str]]:
        return [self._beat(*pair, lease) for pair in held]

    def _beat(self, job_id: str, token: str, lease: int) -> tuple[str, str]:
        if self.running.get(job_id) != token:
            return "lost", ""
        self.leases[job_id] = self.now + lease
        return ("cancel", self.cancels[job_id]) if job_id in self.cancels else ("ok", "")

    def emit(self, job_id: str, token: str, attempt: int, entries: Sequence[tuple[int, str, str]]) -> str:
        if self.running.get(job_id) != token:
            return "stale"
        for number, kind, data in entries:
            if (attempt, number) > max(self.emitted[job_id], default=(0, 0)):
                self.emitted[job_id].append((attempt, number))
                if kind == "progress":
                    self.progress[job_id] = data
        return "ok"

    # --- by hand ---------------------------------------------------------------------------------------------------

    def cancel(self, job_id: str, reason: str, error: str) -> tuple[str, str]:
        job = self.records.get(job_id)
        if job is None:
            return "missing", ""
        if job_id in self.running:
            self.cancels.setdefault(job_id, reason)
            return "requested", "processing"
        if isinstance(job, bytes):
            return "foreign", ""
        if job.status is not Status.PENDING:
            return ("repeat" if job.status is Status.CANCELLED else "state"), job.status.value
        self._finish(replace(job, error_text=error), Status.CANCELLED)
        self._unschedule(job_id)
        return "ok", "cancelled"

    def retry(self, job_id: str, attempt: int) -> tuple[str, str]:
        job = self.records.get(job_id)
        if job is None:
            return "missing", ""
        if isinstance(job, bytes):
            return "foreign", ""
        if job.status is Status.PENDING and (job.attempt, job.retries, job.lost) == (attempt, 0, 0):
            return "repeat", "pending"
        if job.status not in (Status.FAILED, Status.CANCELLED):
            return "state", job.status.value
        self.index[job.status].pop(job_id, None)
        self.results.pop(job_id, None)
        self._remember(job, job.status.value)
        job = replace(
            job, status=Status.PENDING, retries=0, lost=0, expires_at=None, run_at=None, started_at=None, worker=None,
            finished_at=None,
        )  # fmt: skip
        self.records[job_id] = job
        self._back(job)
        return "ok", "pending"

    def delete(self, job_id: str) -> tuple[str, str]:
        job = self.records.get(job_id)
        if job is None:
            return ("repeat" if job_id in self.erased else "missing"), ""
        if job_id in self.running:
            return "state", "processing"
        self.erased = {name: at for name, at in self.erased.items() if at > self.now - 30 * DAY}
        self.erased[job_id] = self.now
        self._erase(job_id)
        for kept in (self.schedule, self.expiry, self.cancels, *self.index.values()):
            kept.pop(job_id, None)
        return "ok", "" if isinstance(job, bytes) else job.status.value

    def pause(self, queue: str) -> None:
        self.paused.add(queue)

    def resume(self, queue: str) -> None:
        self.paused.discard(queue)
        self.marks.add(queue)

    def purge(self, queue: str) -> int:
        gone = 0
        for priority in range(9, -1, -1):
            for job_id in self.lists.pop(keys.ready(queue, priority), []):
                gone += 1
                self._purge(job_id, queue)
        return gone

    def _purge(self, job_id: str, queue: str) -> None:
        job = self.records.get(job_id)
        if job is None or job_id in self.running:
            return
        if isinstance(job, Job):
            if job.status is not Status.PENDING:
                return
            if job.queue != queue:
                self._back(job)
                return
            if job.run_at and job.run_at > self.now:
                self.schedule.setdefault(job_id, job.run_at)
                return
        self._erase(job_id)
        self.expiry.pop(job_id, None)
        self.cancels.pop(job_id, None)

    # --- duties ----------------------------------------------------------------------------------------------------

    def stage(self) -> int:
        return self._each_due(self.schedule, self._stage)

    def _stage(self, job: Job) -> None:
        if job.status is Status.PENDING:
            self._back(job)

    def expire(self) -> int:
        return self._each_due(self.expiry, self._expire_pending)

    def _expire_pending(self, job: Job) -> None:
        if job.status is Status.PENDING:
            self._expire(job)

    def missing(self, patience: int) -> list[str]:
        for entry in sorted(self.missed, key=lambda entry: (self.missed[entry], entry), reverse=True):
            queue, priority, job_id = entry.split(":")
            if job_id in self.records:
                self._front(job_id, queue, int(priority))
                del self.missed[entry]
        given_up = []
        for entry in _until(self.missed, self.now - patience):
            job_id = entry.split(":")[2]
            del self.missed[entry]
            self.quarantined[job_id] = "no record"
            given_up.append(job_id)
        return given_up

    def reap(self, max_lost: int, latest: int = 2**53) -> list[tuple[str, str]]:
        if self.now > latest:
            return []
        return [(job_id, self._reap(job_id, max_lost)) for job_id in _until(self.leases, self.now)]

    def _reap(self, job_id: str, max_lost: int) -> str:
        job = self.records.get(job_id)
        del self.leases[job_id], self.running[job_id]
        self.progress.pop(job_id, None)
        if isinstance(job, bytes):
            self._front(job_id, "default", 0)
            return "pending"
        cancelled = self.cancels.pop(job_id, None) is not None
        if job is None:
            return "missing"
        job = replace(job, lost=job.lost + 1)
        if cancelled:
            return self._finish(job, Status.CANCELLED)
        if job.lost >= max_lost:
            message = f"the job was lost {job.lost} times, the last time with its worker {job.worker}"
            return self._finish(replace(job, error_text=_lost(message)), Status.FAILED)
        self._lose(replace(job, error_text=_lost("the worker that ran it was lost")))
        return "pending"

    def scrub(self, count: int, lease: int, pace: int) -> list[tuple[str, str]]:
        """Nobody tampers here, so there is little to repair: leases of before the clock was set back, entries of the
        schedule that a job has outlived, and a cancel that a foreign job kept when it was given back."""
        done = []
        for job_id, deadline in self.leases.items():
            if deadline > self.now + 2 * lease + 1000:
                self.leases[job_id] = self.now + lease
                done.append((job_id, "lease shortened"))
        for job_id, job in list(self.records.items()):
            if not isinstance(job, Job):
                continue
            if job.status is Status.PENDING and job_id in self.cancels:
                del self.cancels[job_id]
                self._finish(job, Status.CANCELLED)
                done.append((job_id, "let go"))
                done += [(job_id, "expiry")] * (self.expiry.pop(job_id, None) is not None)
                done += [(job_id, "schedule")] * (self.schedule.pop(job_id, None) is not None)
            elif self._reschedule(job):
                done.append((job_id, "schedule"))
        return done

    def _reschedule(self, job: Job) -> bool:
        due, before = job.run_at, self.schedule.get(job.job_id)
        parked = job.job_id in self.parked[job.task]
        waits = job.status is Status.PENDING and not parked and due and (before == due or due > self.now)
        if waits and due:
            self.schedule[job.job_id] = due
        else:
            self.schedule.pop(job.job_id, None)
        return self.schedule.get(job.job_id) != before

    def unpark(self, queues: Iterable[str], tasks: Iterable[str]) -> int:
        back = 0
        for task in tasks:
            for job_id in self.parked.pop(task, []):
                job = self.records.get(job_id)
                if not isinstance(job, Job) or job.status is not Status.PENDING:
                    continue
                if job.queue in queues:
                    self._front(job_id, job.queue, job.priority)
                    back += 1
                else:
                    self.parked[task].append(job_id)
        return back

    def prune(self, status: str, max_age: int, keep: int, min_age: int) -> int:
        index = self.index[Status(status)]
        old = _until(index, self.now - max_age)
        surplus = len(index) - len(old) - keep
        if not old and surplus > 0:
            old = _until(index, self.now - min_age)[:surplus]
        for job_id in old:
            del index[job_id]
            self._erase(job_id)
        return len(old)

    # --- claim -----------------------------------------------------------------------------------------------------

    def _claims(self, queues: list[str], want: int, prefix: str, worker: str, lease: int) -> list[Claim]:
        claims: list[Claim] = []
        for queue in queues if want else []:
            if queue in self.paused:
                continue
            for priority in range(9, -1, -1):
                waiting = self.lists[keys.ready(queue, priority)]
                while waiting and len(claims) < want:
                    looked_at = [waiting.pop(0) for _ in waiting[: want - len(claims)]]
                    for job_id in dict.fromkeys(looked_at):
                        if self._may_run(job_id, queue, priority):
                            self._start(job_id, worker, f"{prefix}{len(claims) + 1}", lease)
                            claims.append(self._claim(job_id, self.running[job_id]))
                if waiting and len(claims) == want:
                    self.marks.add(queue)
                    return claims
        return claims

    def _may_run(self, job_id: str, queue: str, priority: int) -> bool:
        """Whether a listed id is to be claimed. If not, it goes where it belongs, which may be nowhere."""
        job = self.records.get(job_id)
        if job is None:
            if job_id not in self.erased:
                self.missed.setdefault(f"{queue}:{priority}:{job_id}", self.now)
            return False
        if job_id in self.running:
            return False
        if isinstance(job, bytes):
            return True
        if job.status is not Status.PENDING:
            return False
        if (job.queue, job.priority) != (queue, priority):
            self._back(job)
        elif job.expires_at and job.expires_at <= self.now:
            self._expire(job)
        elif job.run_at and job.run_at > self.now:
            self.schedule.setdefault(job_id, job.run_at)
        else:
            return True
        return False

    def _start(self, job_id: str, worker: str, token: str, lease: int) -> None:
        job = self.records[job_id]
        if isinstance(job, Job):
            self.expiry.pop(job_id, None)
            self.records[job_id] = replace(
                job, status=Status.PROCESSING, attempt=job.attempt + 1, started_at=self.now, worker=worker,
                expires_at=None,
            )  # fmt: skip
        self.running[job_id] = token
        self.leases[job_id] = self.now + lease

    def _claim(self, job_id: str, token: str) -> Claim:
        return Claim(job_id, token, self.text(job_id) or b"", self.payloads.get(job_id))

    # --- settle ----------------------------------------------------------------------------------------------------

    def _settles(self, rows: Sequence[Settlement]) -> list[str]:
        held = dict(self.running)
        completed: list[Job] = []
        verdicts = [self._settle(row, held, completed) for row in rows]
        for job in completed:
            self.records[job.job_id] = job
            self.index[Status.COMPLETED][job.job_id] = self.now
            self.stats[f"{job.queue}|completed"] += 1
        if completed:
            self.over.append(("completed", ",".join(job.job_id for job in completed)))
        return verdicts

    def _settle(self, row: Settlement, held: dict[str, str], completed: list[Job]) -> str:
        if held.get(row.job_id) != row.token:
            return "repeat" if self._settled_before(row) else "stale"
        del self.running[row.job_id], self.leases[row.job_id]
        self.progress.pop(row.job_id, None)
        job = _ours(row.job_id, row.record)
        if row.outcome == "drop":
            self.cancels.pop(row.job_id, None)
        elif job is None:  # a foreign record goes back as it is, a cancel with it
            self._front(row.job_id, "default", 0)
        elif row.outcome == "complete":
            self.cancels.pop(row.job_id, None)
            completed.append(job)
            if row.body:
                self.results[job.job_id] = row.body if isinstance(row.body, bytes) else row.body.encode()
        elif self.cancels.pop(row.job_id, None) is not None:
            self._finish(job, Status.CANCELLED)
        else:
            ends: dict[str, Callable[[Job, Settlement], Any]] = {
                "retry": self._retry, "release": self._release, "park": self._park,
                "lose": lambda job, _: self._lose(job),
                "fail": lambda job, _: self._finish(job, Status.FAILED),
                "cancel": lambda job, _: self._finish(job, Status.CANCELLED),
            }  # fmt: skip
            ends[row.outcome](job, row)
        return "ok"

    def _settled_before(self, row: Settlement) -> bool:
        mine, current = _ours(row.job_id, row.record), self.records.get(row.job_id)
        return (
            mine is not None
            and isinstance(current, Job)
            and current.status is not Status.PROCESSING
            and (current.attempt, current.lost) == (mine.attempt, mine.lost)
        )

    def _retry(self, job: Job, row: Settlement) -> None:
        self._remember(job, "retry")
        self.stats[f"{job.queue}|retried"] += 1
        job = replace(
            job, status=Status.PENDING, started_at=None, worker=None, finished_at=None,
            run_at=int(row.due) if row.due else None,
        )  # fmt: skip
        self.records[job.job_id] = job
        if job.run_at:
            self.schedule[job.job_id] = job.run_at
        else:
            self._back(job)

    def _lose(self, job: Job) -> None:
        self._remember(job, "lost")
        self.stats[f"{job.queue}|lost"] += 1
        self._give_back(job)

    def _release(self, job: Job, _: Settlement) -> None:
        self._remember(job, "release")
        self._give_back(job)

    def _park(self, job: Job, _: Settlement) -> None:
        self.records[job.job_id] = replace(job, status=Status.PENDING, started_at=None, worker=None)
        self.parked[job.task].append(job.job_id)

    # --- pieces ----------------------------------------------------------------------------------------------------

    def text(self, job_id: str) -> bytes | None:
        record = self.records.get(job_id)
        return record.text().encode() if isinstance(record, Job) else record

    def _at(self, when: str) -> int | None:
        if not when:
            return None
        return self.now + int(when[1:]) if when.startswith("+") else int(when)

    def _back(self, job: Job) -> None:
        self.lists[keys.ready(job.queue, job.priority)].append(job.job_id)
        self.marks.add(job.queue)

    def _front(self, job_id: str, queue: str, priority: int) -> None:
        self.lists[keys.ready(queue, priority)].insert(0, job_id)
        self.marks.add(queue)

    def _give_back(self, job: Job) -> None:
        self.records[job.job_id] = replace(job, status=Status.PENDING, started_at=None, worker=None)
        self._front(job.job_id, job.queue, job.priority)

    def _finish(self, job: Job, status: Status) -> str:
        self.records[job.job_id] = replace(job, status=status, finished_at=self.now)
        self.index[status][job.job_id] = self.now
        self.over.append((status.value, job.job_id))
        self.stats[f"{job.queue}|{status.value}"] += 1
        return status.value

    def _expire(self, job: Job) -> None:
        error = JobError("Expired", "not started before expires_at", "expired")
        self._finish(replace(job, error_text=error.text()), Status.FAILED)
        self._unschedule(job.job_id)

    def _remember(self, job: Job, outcome: str) -> None:
        if job.attempt:
            self.attempts[job.job_id].append(outcome)

    def _unschedule(self, job_id: str) -> None:
        self.schedule.pop(job_id, None)
        self.expiry.pop(job_id, None)

    def _erase(self, job_id: str) -> None:
        for kept in (self.records, self.payloads, self.results, self.attempts, self.emitted):
            kept.pop(job_id, None)

    def _each_due(self, times: dict[str, int], act: Callable[[Job], None]) -> int:
        due = _until(times, self.now)
        for job_id in due:
            times.pop(job_id, None)
            job = self.records.get(job_id)
            if isinstance(job, Job):
                act(job)
        return len(due)

    @property
    def keys(self) -> dict[str, Any]:
        """Every key, with its whole value."""
        found: dict[str, Any] = {
            "job_schedule": self.schedule, "job_expiry": self.expiry, "job_leases": self.leases,
            "job_running": self.running, "job_cancel": self.cancels, "job_progress": self.progress,
            "job_missing": self.missed, "job_quarantine": self.quarantined, "job_erased": self.erased,
            "job_paused": self.paused, "job_queues": self.queues, "job_events": self.over,
            "job_parked": {task for task, ids in self.parked.items() if ids}, "job_stats": dict(self.stats),
            **self.lists,
        }  # fmt: skip
        found |= {keys.job(job_id): self.text(job_id) for job_id in self.records}
        found |= {keys.payload(job_id): payload for job_id, payload in self.payloads.items()}
        found |= {keys.result(job_id): result for job_id, result in self.results.items()}
        found |= {keys.attempts(job_id): ends for job_id, ends in self.attempts.items()}
        found |= {keys.emitted(job_id): entries for job_id, entries in self.emitted.items()}
        found |= {f"job_parked:{task}": ids for task, ids in self.parked.items()}
        found |= {f"job_index:{status}": ids for status, ids in self.index.items()}
        found |= {f"job_idem:{digest}": text.encode() for digest, text in self.idem.items()}
        found |= {f"job_pump:{lane}": f"{seq}:{','.join(ids)}".encode() for lane, (seq, ids) in self.lanes.items()}
        found |= {f"job_wake:{queue}": {"1": 0} for queue in self.marks}
        return {name: value for name, value in found.items() if value}


def _until(times: dict[str, int], latest: int) -> list[str]:
    """What is due, in the order of a sorted set."""
    return sorted((name for name, at in times.items() if at <= latest), key=lambda name: (times[name], name))


def _ours(job_id: str, record: str) -> Job | None:
    """The job of a canonical record."""
    job = parse(job_id, record.encode()) if record else None
    return job if job and job.text() == record else None


def _lost(message: str) -> str:
    return json.dumps({"type": "Lost", "message": message, "reason": "lost"}, separators=(",", ":"))
