"""Guards that a run may break on purpose: the checker has to find out.

A guard is broken in the workers and the APIs of the run only, in their memory, before they load any script.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from jobq import policy
from jobq.policy import Completed, Rules
from jobq.store import keys, scripts
from jobq.worker.duties import Duties, ReapGuard
from jobq.worker.leases import Leases
from jobq.worker.worker import Worker


@dataclass(frozen=True, slots=True)
class Sabotage:
    """`fault` is what brings it to light; `break_it` does it in this process."""

    fault: str
    break_it: Callable[[], None]


def in_script(script: str, old: str, new: str) -> None:
    """Put another text in the place of one that stands once in a script."""
    load = scripts._load
    old, new = _named(old), _named(new)

    def loaded(name: str, shebang: bool) -> scripts.Script:
        whole = load(name, shebang)
        if name != script:
            return whole
        if whole.source.count(old) != 1:
            raise SystemExit(f"{old!r} stands {whole.source.count(old)} times in {script}.lua")
        return scripts.Script(whole.name, whole.args, whole.row, whole.source.replace(old, new))

    scripts._load = loaded


def ack_early() -> None:
    """Store the outcome when the job is claimed, and run it then."""
    begin = Worker._begin

    def begun(self: Worker, claim: Any, job: Any, clock: Any) -> None:
        rules = Rules.of(job.stated(), self.registry.get(job.task), self.settings)
        self._settle(claim.token, job, Completed(str(job.attempt).encode()), rules, clock)
        begin(self, claim, job, clock)

    Worker._begin = begun  # type: ignore[method-assign]


def trust_the_clock() -> None:
    """Reap whatever ran out, though its worker may not have been able to renew it."""
    ReapGuard.allows = lambda *_: True  # type: ignore[method-assign]


def no_heartbeat() -> None:
    def silent(self: Leases) -> None:
        pass

    Leases._beat = silent  # type: ignore[method-assign]


def no_jitter() -> None:
    """All that fail together come back together."""

    def exactly(base: float, retries: int, jitter: float) -> float:
        return base * 2.0**retries

    policy.backoff = exactly


def no_scrub() -> None:
    async def nothing(self: Duties) -> int:
        return 0

    Duties.scrub = nothing  # type: ignore[method-assign]


def _named(text: str) -> str:
    return scripts._KEY.sub(lambda match: f"(T .. '{keys.NAMES[match[1]]}')", text)


SABOTAGES = {
    # A settle is taken from whoever sends it.
    "no-token": Sabotage("F5", partial(in_script, "pump", "if held[i] ~= row.token then", "if not row.token then")),
    # Nobody looks at leases that ran out.
    "no-reap": Sabotage("F1", partial(in_script, "reap", "'LIMIT', '0', '100'", "'LIMIT', '0', '0'")),
    # A claim leaves no lease.
    "no-lease": Sabotage("F1", partial(in_script, "pump", "redis.call('ZADD', key.leases, unpack(leases))", "")),
    # A repeated call claims anew instead of handing out what it had claimed.
    "no-memory": Sabotage("F22", partial(in_script, "pump", "if last_seq == seq then", "if last_seq == 0 then")),
    "early-ack": Sabotage("F1", ack_early),
    # An outcome that is sent again, as its reply was lost, is taken for another's.
    "no-settle-repeat": Sabotage(
        "F22", partial(in_script, "pump", "settled_before(row.id, row.record) and 'repeat' or 'stale'", "'stale'")
    ),
    # An id that is listed twice is handed out twice.
    "claim-twice": Sabotage("F43", partial(in_script, "pump", "if held then return 'stale' end", "")),
    # What is over is handed out again, if it is still listed.
    "claim-over": Sabotage("F47", partial(in_script, "pump", "if job.status ~= 'pending' then return 'stale' end", "")),
    # The server's clock is all that a reaper looks at.
    "no-grace": Sabotage("F35", trust_the_clock),
    "no-heartbeat": Sabotage("F6", no_heartbeat),
    # An idempotency key is not looked up.
    "no-idem": Sabotage("F48", partial(in_script, "submit", "if before then", "if before == 0 then")),
    # All leases that ran out are taken in one call.
    "no-batches": Sabotage("F44", partial(in_script, "reap", "'LIMIT', '0', '100'", "'LIMIT', '0', '1000000'")),
    "no-jitter": Sabotage("F45", no_jitter),
    "no-scrub": Sabotage("F43", no_scrub),
}


def sabotage(name: str) -> None:
    """Break this guard."""
    SABOTAGES[name].break_it()
