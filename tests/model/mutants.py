"""Is the machine worth anything? Breaks one guard of the scripts at a time, and says whether the machine finds out.

    python -m tests.model.mutants              all, as a table
    python -m tests.model.mutants token seq    those with one of these words in their name

A mutant is killed when an example fails. `JOBQ_MODEL_EXAMPLES` (2,000) is when the search is given up: exit code 1.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis.exceptions import ResponseError

from jobq.store import scripts
from jobq.store.scripts import Script
from tests.chaos.sabotage import in_script
from tests.model import machine
from tests.model.server import on_our_clock

EXAMPLES = int(os.environ.get("JOBQ_MODEL_EXAMPLES", "2000"))


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    script: str
    old: str
    new: str


MUTANTS = [
    Mutant(*fields)
    for fields in [
        # settle
        ("settle: token", "pump", "if held[i] ~= row.token then", "if not held[i] then"),
        ("settle: held at all", "pump", "if held[i] ~= row.token then", "if held[i] and held[i] ~= row.token then"),
        ("settle: repeat never", "pump", "settled_before(row.id, row.record) and 'repeat' or 'stale'", "'stale'"),
        ("settle: repeat always", "pump", "settled_before(row.id, row.record) and 'repeat' or 'stale'", "'repeat'"),
        ("settle: repeat by attempt", "pump", "current.attempt == mine.attempt and current.lost == mine.lost", "true"),
        ("settle: repeat by losses", "pump", "current.attempt == mine.attempt and current.lost == mine.lost",
         "current.attempt == mine.attempt"),
        ("settle: token stays", "pump", "redis.call('HDEL', key.running, unpack(over))", ""),
        ("settle: lease stays", "pump", "redis.call('ZREM', key.leases, unpack(over))", ""),
        ("settle: progress stays", "pump",
         "if redis.call('EXISTS', key.progress) == 1 then redis.call('HDEL', key.progress, unpack(over)) end", ""),
        ("settle: cancel unheard", "pump", "elseif cancels[i] then", "elseif false then"),
        ("settle: cancel stays", "pump", "if #heard > 0 then redis.call('HDEL', key.cancel, unpack(heard)) end", ""),
        ("settle: retry without due", "pump",
         "job.status, job.run_at = 'pending', due ~= '' and due or nil", "job.status, job.run_at = 'pending', nil"),
        ("settle: release to the back", "pump", """job.started_at, job.worker, job.status = nil, nil, 'pending'
    redis.call('SET', key.job .. job.id, write_head(job))
    make_ready('LPUSH', job)""", """job.started_at, job.worker, job.status = nil, nil, 'pending'
    redis.call('SET', key.job .. job.id, write_head(job))
    make_ready('RPUSH', job)"""),
        ("settle: no result", "pump", "if row.body ~= '' then", "if false then"),
        ("settle: not in the index", "pump", "redis.call('ZADD', key.index .. 'completed', unpack(index))", ""),
        ("settle: not announced", "pump", "announce('completed', completed)", ""),
        # pump
        ("pump: lower seq served", "pump", "if last_seq and tonumber(seq) < tonumber(last_seq) then", "if false then"),
        ("pump: same seq claims anew", "pump", "if last_seq == seq then", "if false then"),
        ("pump: replay of what is held no more", "pump",
         "if redis.call('HGET', key.running, id) == prefix .. i then", "if true then"),
        ("pump: replay of another's", "pump", "if redis.call('HGET', key.running, id) == prefix .. i then",
         "if redis.call('HGET', key.running, id) then"),
        ("pump: seq not kept", "pump",
         "redis.call('SET', lane_key, seq .. ':' .. table.concat(ids, ','), 'PX', int(2 * lease))", ""),
        # claim
        ("claim: held", "pump", "if held then return 'stale' end", ""),
        ("claim: listed twice", "pump", "held[i] or seen[id]", "held[i]"),
        ("claim: status", "pump", "if job.status ~= 'pending' then return 'stale' end", ""),
        ("claim: run_at", "pump", "if job.run_at and tonumber(job.run_at) > now then return 'early' end", ""),
        ("claim: expires_at", "pump",
         "if job.expires_at and tonumber(job.expires_at) <= now then return 'expired' end", ""),
        ("claim: another's list", "pump", "if ready(job.queue, job.priority) ~= list then return 'misplaced' end", ""),
        ("claim: erased", "pump", "return redis.call('ZSCORE', key.erased, id) and 'stale' or 'missing'",
         "return 'missing'"),
        ("claim: missing dropped", "pump", "return redis.call('ZSCORE', key.erased, id) and 'stale' or 'missing'",
         "return 'stale'"),
        ("claim: attempt + 1", "pump", "'processing', job.attempt + 1,", "'processing', job.attempt,"),
        ("claim: no lease", "pump", "redis.call('ZADD', key.leases, unpack(leases))", ""),
        ("claim: ids stay listed", "pump", "redis.call('LPOP', list, #ids)", ""),
        ("claim: paused", "pump", "if paused == 0 then", "if true then"),
        ("claim: priority", "pump", "for priority = priorities(queue), 0, -1 do",
         "for priority = 0, priorities(queue) do"),
        ("claim: still to expire", "pump", "redis.call('ZREM', key.expiry, id)\n", ""),
        ("claim: no mark for the rest", "pump", "mark(queue)\n        return claims", "return claims"),
        ("claim: early loses its time", "pump", "redis.call('ZADD', key.schedule, 'NX', job.run_at, id)", ""),
        # heartbeat, emit, adopt
        ("heartbeat: token", "heartbeat", "if held[i] == ARGV[first_row + (i - 1) * row_width + 1] then",
         "if held[i] then"),
        ("heartbeat: no extension", "heartbeat", "redis.call('ZADD', key.leases, 'XX', unpack(leases))", ""),
        ("heartbeat: cancel unheard", "heartbeat", "cancels[i] and 'cancel' or 'ok'", "'ok'"),
        ("emit: token", "emit", "if redis.call('HGET', key.running, id) ~= token then",
         "if redis.call('HEXISTS', key.running, id) == 0 then"),
        ("emit: progress set back", "emit", "if kind == 'progress' and not before then", "if kind == 'progress' then"),
        ("adopt: token", "adopt", "if (redis.call('HGET', key.running, id) or '') ~= token then", "if false then"),
        ("adopt: expected", "adopt", "if current ~= expected then", "if false then"),
        # reap
        ("reap: before its time", "reap", "'-inf', int(now), 'LIMIT'", "'-inf', int(now + 60000), 'LIMIT'"),
        ("reap: held up", "reap", "if now > tonumber(latest) then return reaped end", ""),
        ("reap: max_lost", "reap", "job.lost >= tonumber(max_lost)", "job.lost > tonumber(max_lost)"),
        ("reap: loss not counted", "reap", "job.lost = job.lost + 1", ""),
        ("reap: token stays", "reap", "redis.call('HDEL', key.running, id)", ""),
        ("reap: cancel unheard", "reap", "if redis.call('HEXISTS', key.cancel, id) == 1 then", "if false then"),
        ("reap: progress stays", "reap", "redis.call('HDEL', key.progress, id)", ""),
        ("lose: to the back", "reap", "make_ready('LPUSH', job)", "make_ready('RPUSH', job)"),
        # submit
        ("submit: NX", "submit", "redis.call('SET', key.job .. id, write_head(job), 'NX')",
         "redis.call('SET', key.job .. id, write_head(job))"),
        ("submit: idempotency forgotten", "submit", "if idem ~= '' then\n", "if false then\n"),
        ("submit: idempotency mismatch", "submit", "known_body == body and 'replay:' .. id or 'mismatch'",
         "'replay:' .. id"),
        ("submit: due at once", "submit", "if job.run_at and tonumber(job.run_at) > now then", "if false then"),
        ("submit: to the front", "submit", "redis.call('RPUSH', list, unpack(ids))",
         "redis.call('LPUSH', list, unpack(ids))"),
        ("submit: payload lost", "submit", "if payload ~= '' then", "if false then"),
        ("submit: never expires", "submit", "if job.expires_at then\n", "if false then\n"),
        ("submit: full but one", "submit", "depth >= tonumber(most)", "depth > tonumber(most)"),
        ("submit: not atomic", "submit", "if atomic == '1' then", "if false then"),
        ("submit: no mark", "submit", "marked[queue] = true", ""),
        # by hand
        ("cancel: running is cancelled", "cancel", "if redis.call('HEXISTS', key.running, id) == 1 then",
         "if false then"),
        ("cancel: over is cancelled", "cancel",
         "if job.status ~= 'pending' then return {'state', job.status} end", ""),
        ("cancel: stays scheduled", "cancel", "redis.call('ZREM', key.schedule, id)", ""),
        ("cancel: another reason", "cancel", "'HSETNX'", "'HSET'"),
        ("delete: running", "delete", "if redis.call('HEXISTS', key.running, id) == 1 then", "if false then"),
        ("delete: no note", "delete", "redis.call('ZADD', key.erased, int(now), id)", ""),
        ("delete: stays in the index", "delete", "redis.call('ZREM', key.index .. job.status, id)", ""),
        ("retry: of any status", "retry", "if job.status ~= 'failed' and job.status ~= 'cancelled' then",
         "if job.status == 'processing' then"),
        ("retry: of the running", "retry", "if job.status ~= 'failed' and job.status ~= 'cancelled' then",
         "if job.status == 'completed' then"),
        ("retry: repeat unknown", "retry", "job.status == 'pending' and job.attempt == tonumber(attempt)", "false"),
        ("retry: budgets stay", "retry", "'pending', 0, 0", "'pending', job.retries, job.lost"),
        ("retry: stays in the index", "retry", "redis.call('ZREM', key.index .. job.status, id)", ""),
        # duties
        ("stage: before its time", "stage", "'-inf', int(now), 'LIMIT'", "'-inf', int(now + 1000), 'LIMIT'"),
        # Not "stage: what is over": it takes a job that was listed twice, and costs an entry that claim drops.
        ("stage: stays scheduled", "stage", "redis.call('ZREM', key.schedule, unpack(ids))", ""),
        ("expire: before its time", "expire", "'-inf', int(now), 'LIMIT'", "'-inf', int(now + 1000), 'LIMIT'"),
        ("missing: patience", "missing", "int(now - patience)", "int(now)"),
        ("missing: late record unseen", "missing", "redis.call('ZREVRANGE', key.missing, '0', '999')", "{}"),
        ("unpark: another's queue", "unpark", "if served[job.queue] then", "if true then"),
        ("unpark: what is over", "unpark", "if job and job.status == 'pending' then", "if job then"),
        ("purge: running", "purge", "or redis.call('HEXISTS', key.running, id) == 1 then", "then"),
        ("purge: another's", "purge", "elseif job and job.queue ~= queue then", "elseif false then"),
        ("purge: not due", "purge", "elseif job and job.run_at and tonumber(job.run_at) > now then",
         "elseif false then"),
        ("prune: too young", "prune", "int(now - max_age)", "int(now)"),
        ("prune: keeps none", "prune", "- #ids - keep", "- #ids"),
        ("resume: no mark", "resume", "mark(queue)\nreturn", "return"),
        # the record
        ("record: tail lost", "pump", "job.tail = tail\n", "job.tail = ''\n"),
        ("record: priority lost", "pump", "if job.priority ~= 0 then add", "if false then add"),
    ]
]  # fmt: skip


def broken(mutant: Mutant) -> Script:
    load = scripts._load
    try:
        in_script(mutant.script, mutant.old, mutant.new)
        return on_our_clock(scripts._load(mutant.script, True))
    finally:
        scripts._load = load


def try_on(script: Script) -> str:
    """What the machine says of it; nothing: it survived."""
    server = machine.driven()
    healthy = dict(server.loaded)
    machine.Tally.examples = machine.Tally.steps = 0
    server.loaded[script.name] = script
    server.heart._script = server.loaded["heartbeat"]
    try:
        run_state_machine_as_test(
            machine.Machine,
            settings=settings(
                max_examples=EXAMPLES, stateful_step_count=50, deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
            ),
        )  # fmt: skip
        return ""
    except (AssertionError, ResponseError) as error:
        return str(error).partition("\n")[0]
    finally:
        server.loaded.update(healthy)
        server.heart._script = healthy["heartbeat"]


def main(words: list[str]) -> int:
    chosen = {mutant: broken(mutant) for mutant in MUTANTS if not words or any(word in mutant.name for word in words)}
    survivors = 0
    print("| guard broken | killed | examples | steps | seconds | by |\n|---|---|---:|---:|---:|---|")
    for mutant, script in chosen.items():
        began = time.monotonic()
        said = try_on(script)
        survivors += not said
        spent = f"{machine.Tally.examples} | {machine.Tally.steps} | {time.monotonic() - began:.1f}"
        short = said.replace("|", "\\|")[:150]
        print(f"| {mutant.name} | {'yes' if said else 'NO'} | {spent} | {short} |", flush=True)
    print(f"\n{len(chosen) - survivors} of {len(chosen)} killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
