"""Guards that a run may break on purpose: the checker has to find out.

A guard is broken in the workers of the run only, in their memory, before they load any script.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from jobq.policy import Completed, Rules
from jobq.store import keys, scripts
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
}


def sabotage(name: str) -> None:
    """Break this guard."""
    SABOTAGES[name].break_it()
