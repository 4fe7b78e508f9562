"""Takes the guards of the protocol out, one at a time, and sees to it that a test notices: `python -m tests.mutants`.

Each runs in a copy of the project, so that nothing here is touched. Words as arguments choose the guards that have one
of them in their row; `--table` prints what docs/guards.md has to hold.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parent.parent
DOC = ROOT / "docs" / "guards.md"
COPIED = ("jobq", "tests", "api.py", "worker.py", "tasks.py", "models.py", "config.py", "pyproject.toml")
AT_ONCE = 2
FAILED = 1
"""What pytest exits with when a test failed."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A guard, the text in `jobq/<file>` that is it, what stands there without it, and the test that then fails."""

    guard: str
    file: str
    old: str
    new: str
    test: str

    def row(self) -> str:
        return f"| {self.guard} | `{self.file.removeprefix('store/lua/')}` | `{self.test}` |"

    def apply(self, project: Path) -> None:
        path = project / "jobq" / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise SystemExit(f"{self.guard}: {self.old!r} stands {text.count(self.old)} times in {self.file}")
        path.write_text(text.replace(self.old, self.new))

    def restore(self, project: Path) -> None:
        shutil.copy(ROOT / "jobq" / self.file, project / "jobq" / self.file)


def _lua(guard: str, script: str, old: str, new: str, test: str) -> Mutant:
    return Mutant(guard, f"store/lua/{script}.lua", old, new, f"store/test_{test}")


MUTANTS = (
    # Claim: what is taken off a list.
    _lua("what is held is not claimed again", "claim", "if held then return 'stale' end", "",
         "claim.py::TestSkipped::test_running_and_not_yet_adopted"),
    _lua("what is not pending is not claimed", "claim", "if job.status ~= 'pending' then return 'stale' end", "",
         "claim.py::TestSkipped::test_over"),
    _lua("an id twice in one page is claimed once", "claim", "seen[id] = true", "",
         "claim.py::TestSkipped::test_pushed_1000_times"),
    _lua("what has expired is not run", "claim", "<= now then return 'expired' end", "<= 0 then return 'expired' end",
         "claim.py::TestSkipped::test_expired"),
    _lua("what is not due is not run", "claim", "> now then return 'early' end", "> 1e300 then return 'early' end",
         "claim.py::TestSkipped::test_early"),
    _lua("an attempt number is given out once", "claim", "job.attempt + 1", "job.attempt",
         "claim.py::TestRecord::test_attempts_rise_by_one"),
    _lua("what was deleted is not waited for", "claim", "redis.call('ZSCORE', key.erased, id) and 'stale' or", "",
         "claim.py::TestErased::test_dropped"),
    _lua("what is left behind is marked again", "claim", "        mark(queue)\n", "",
         "claim.py::TestMarks::test_work_left_behind"),
    _lua("a paused queue keeps its jobs", "claim", "if paused == 0 then", "if paused then",
         "claim.py::TestPaused::test_nothing_is_claimed"),
    _lua("a claim leaves a lease", "claim", "redis.call('ZADD', key.leases, unpack(leases))", "",
         "claim.py::TestRecord::test_the_lease"),
    # Pump: replies that are lost.
    _lua("a repeated call hands out the same claims", "pump", "if last_seq == seq then", "if false then",
         "pump.py::TestLostReply::test_hands_out_the_same_claims"),
    _lua("a repeated call hands out only what is still held", "pump",
         "if redis.call('HGET', key.running, id) == prefix .. i then", "if true then",
         "pump.py::TestLostReply::test_does_not_hand_out_what_was_taken_away"),
    _lua("a delayed call is refused", "pump", "tonumber(seq) < tonumber(last_seq)", "false",
         "pump.py::TestNumbers::test_a_lower_number_is_refused"),
    # Settle.
    _lua("only the holder of the token settles", "settle", "if held[i] ~= row.token then", "if not row.token then",
         "settle.py::TestFencing::test_a_wrong_token_changes_nothing"),
    _lua("an earlier attempt is not taken for a repetition", "settle", "current.attempt == mine.attempt and", "",
         "settle.py::TestFencing::test_an_attempt_before_the_last"),
    _lua("a reaped attempt is not taken for a repetition", "settle", " and current.lost == mine.lost", "",
         "settle.py::TestFencing::test_a_lease_that_was_taken_away"),
    _lua("a cancel meanwhile turns the outcome into cancelled", "settle", "elseif cancels[i] then", "elseif false then",
         "settle.py::TestCancelMeanwhile::test_turns_the_outcome_into_cancelled"),
    _lua("a process that died is counted as lost", "lib/lose", "count(job.queue, 'lost', 1)", "",
         "settle.py::TestCounts::test_by_outcome"),
    _lua("work that was begun goes to the front", "lib/lose", "make_ready('LPUSH', job)", "make_ready('RPUSH', job)",
         "settle.py::TestBack::test_lose_goes_to_the_front"),
    # Heartbeat and emit.
    _lua("only the holder extends its lease", "heartbeat",
         "if held[i] == ARGV[first_row + (i - 1) * row_width + 1] then", "if held[i] then",
         "heartbeat.py::test_another_token_is_lost"),
    _lua("only the holder emits", "emit", "if redis.call('HGET', key.running, id) ~= token then", "if false then",
         "emit.py::test_another_token"),
    _lua("a late repetition does not set progress back", "emit", "and not before then", "then",
         "emit.py::test_a_late_repetition"),
    # Reap.
    _lua("a lease that is in force is not reaped", "reap", "'-inf', int(now),", "'-inf', '+inf',",
         "reap.py::test_only_what_ran_out"),
    _lua("nothing leaves `completed`", "reap", "if job and job.status == 'processing' then", "if job then",
         "reap.py::test_a_lease_left_over"),
    _lua("a job that kills its workers fails in the end", "reap", "elseif job.lost >= tonumber(max_lost) then",
         "elseif false then", "reap.py::test_failed_after_the_last_loss"),
    _lua("a cancel that was asked for is not run again", "reap", "if redis.call('HEXISTS', key.cancel, id) == 1 then",
         "if false then", "reap.py::test_a_cancel_that_was_asked_for"),
    _lua("a reaped job's token holds no longer", "reap", "  redis.call('HDEL', key.running, id)\n", "",
         "reap.py::test_back_to_the_front"),
    # Scrub.
    _lua("a holder without a lease gets one", "scrub", "if is.token and not is.lease then", "if false then",
         "scrub.py::TestRunning::test_a_token_without_a_lease"),
    _lua("a job that nobody can settle is given back", "scrub", "elseif not is.token and (", "elseif false and (",
         "scrub.py::TestRunning::test_without_a_token"),
    _lua("a job that waits nowhere is listed", "scrub", "    make_ready('RPUSH', job)\n", "",
         "scrub.py::TestPending::test_on_no_list"),
    _lua("a long list is not searched", "scrub", " or length > MOST_SEARCHED", "",
         "scrub.py::TestPending::test_a_list_that_is_long"),
    _lua("a foreign record that is not pushed yet is left alone", "scrub",
         "  if is.token or is.lease then\n    mend_lease", "  if true then\n    mend_lease",
         "scrub.py::TestHealthy::test_a_foreign_record_that_is_not_pushed_yet"),
    _lua("what was set aside is not brought back", "scrub", "return redis.call('HEXISTS', key.quarantine, id) == 1",
         "return false", "scrub.py::TestHealthy::test_what_was_set_aside"),
    _lua("a lease from before the clock was set back ends", "scrub", "\nshorten_leases()", "",
         "scrub.py::TestClockSetBack::test_is_shortened"),
    _lua("workers share one pace", "scrub", "passed < tonumber(pace)", "false",
         "scrub.py::TestWalk::test_at_a_common_pace"),
    # By hand, and in time.
    _lua("a submit's id makes one job", "submit", "write_head(job), 'NX')", "write_head(job))",
         "submit.py::test_the_same_call_twice_equals_once"),
    _lua("what runs is not deleted", "delete", "if redis.call('HEXISTS', key.running, id) == 1 then", "if false then",
         "delete.py::test_running"),
    _lua("a retry by hand is made once", "retry", "job.attempt == tonumber(attempt)", "false",
         "retry.py::test_the_same_call_twice"),
    _lua("only what waits is staged", "stage", "if job and job.status == 'pending' then", "if job then",
         "stage.py::test_what_is_not_pending_is_dropped"),
    _lua("what runs again is not forgotten", "prune", "if job and job.status == status then", "if job then",
         "prune.py::test_what_runs_again_is_not_deleted"),
    _lua("a record that changed is not adopted", "adopt", "if current ~= expected then", "if false then",
         "adopt.py::test_the_producer_wrote_again"),
    # The reaper's patience.
    Mutant("no reaping after a jump of the clock", "worker/duties.py", "abs(offset - before) > self.JUMP", "False",
           "worker/test_duties.py::test_after_a_jump_of_the_server_s_clock"),
    Mutant("no reaping after a restart of the server", "worker/duties.py", "restarted or ", "",
           "worker/test_duties.py::test_after_the_server_s_restart"),
    Mutant("no reaping after a slow call", "worker/duties.py", "if took > self.JUMP or (", "if (",
           "worker/test_duties.py::test_after_a_slow_call"),
    Mutant("a fresh process waits for heartbeats", "worker/duties.py", "max(wait, self._fresh)", "wait",
           "worker/test_duties.py::test_a_fresh_process_waits_for_a_heartbeat"),
    Mutant("a child that its worker kills is no loss", "worker/processes.py", "if self._closed:", "if False:",
           "worker/test_process_tasks.py::test_a_child_that_its_worker_kills_at_the_end_is_no_loss"),
)  # fmt: skip


def table() -> str:
    rows = "\n".join(mutant.row() for mutant in MUTANTS)
    return f"| guard | where | the test that fails without it, in `tests/` |\n|---|---|---|\n{rows}\n"


def _copy(folder: Path) -> Path:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def _pytest(project: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *(f"tests/{test}" for test in tests)],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def main(words: list[str]) -> int:
    """How many guards could be taken out unnoticed."""
    if words == ["--table"]:
        print(table(), end="")
        return 0
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.row() for word in words)]
    began, unnoticed = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="jobq-mutants-") as folder:
        projects: SimpleQueue[Path] = SimpleQueue()
        for number in range(AT_ONCE):
            projects.put(_copy(Path(folder) / str(number)))

        def noticed(mutant: Mutant) -> tuple[Mutant, subprocess.CompletedProcess[str]]:
            project = projects.get()
            mutant.apply(project)
            try:
                return mutant, _pytest(project, mutant.test)
            finally:
                mutant.restore(project)
                projects.put(project)

        # A test that fails anyway would notice everything.
        whole = _pytest(_copy(Path(folder) / "whole"), *dict.fromkeys(mutant.test for mutant in chosen))
        if whole.returncode:
            print(whole.stdout[-3000:])
            return 1
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for mutant, run in pool.map(noticed, chosen):
                if run.returncode != FAILED:
                    unnoticed += 1
                    print(f"UNNOTICED: {mutant.guard} ({mutant.file}, {mutant.test})\n{run.stdout[-500:]}")
    print(f"{len(chosen)} guards taken out, {unnoticed} unnoticed, {time.monotonic() - began:.0f} s")
    if table() not in DOC.read_text():
        print("docs/guards.md is out of date: see --table")
        return 1
    return unnoticed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
