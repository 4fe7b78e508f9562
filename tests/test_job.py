"""Records: read, written, and seen alike by Python and by the scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobq.errors import BadRequest, CorruptRecord
from jobq.job import MAX_DELAY, MAX_ERROR_TEXT, Job, JobError, Options, Stated, Status, shorten
from jobq.record import inline_payload, is_canonical, parse, payload_mapping, split_members
from jobq.store.scripts import LUA
from tests.support.servers import Valkey

ID = "0190a7b4-5c2e-7d31-9f00-0123456789ab"

NAMES = st.from_regex(r"[a-z][a-z0-9_.-]{0,63}", fullmatch=True)
MS = st.integers(0, 10**15 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=8,
)
UNKNOWN = st.dictionaries(TEXTS.map("x_".__add__), VALUES, max_size=4)
ERRORS = st.builds(JobError, TEXTS, TEXTS, TEXTS, TEXTS)


def tail_of(members: dict[str, Any], **spelling: Any) -> str:
    return "".join(f",{json.dumps(name)}:{json.dumps(value, **spelling)}" for name, value in members.items())


JOBS = st.builds(
    Job,
    job_id=st.uuids().map(str),
    task=NAMES,
    status=st.sampled_from(Status),
    retries=MS,
    attempt=MS,
    lost=MS,
    created_at=MS,
    queue=NAMES,
    priority=st.integers(0, 9),
    expires_at=st.none() | MS,
    run_at=st.none() | MS,
    started_at=st.none() | MS,
    worker=st.none() | st.from_regex(r"[0-9a-f]{0,32}", fullmatch=True),
    finished_at=st.none() | MS,
    error_text=st.none() | ERRORS.map(JobError.text),
    tail=UNKNOWN.map(tail_of),
)

MEMBERS_TOO_FAR = [
    ',"queue":"mail"', ',"queue":"' + "q" * 65 + '"', ',"queue":"UPPER CASE"', ',"queue":""', ',"queue":"a\\"b"',
    ',"priority":7', ',"priority":12', ',"priority":-1', ',"priority":1.5', ',"expires_at":5', ',"expires_at":5e3',
    ',"run_at":5', ',"run_at":' + "9" * 16, ',"run_at":null',
    ',"started_at":5', ',"worker":"w"', ',"worker":"a\\"b"', ',"finished_at":5',
    ',"error":{"type":"E"}', ',"error":{"a":{"b":1}}', ',"error":null', ',"error":{}', ' ,"x":1', ', "x":1',
    ',"x":{"y":"}"}', ',"x":[]', ".5", "e3", "  ", "\n", ',"x":9007199254740993', ',"payload":{"a":"{"}',
]  # fmt: skip
"""Members that a head may hold or that look alike, and what may stand between them."""

SPELLINGS = st.builds(
    lambda before, task, numbers, members, after: (
        f'{before}{{"job_id":"{ID}","task":"{task}","status":"pending",'
        f'"retries":{numbers[0]},"attempt":{numbers[1]},"lost":0,"created_at":{numbers[2]}{"".join(members)}}}{after}'
    ),
    st.sampled_from(["", "", "", " ", "\ufeff"]),
    st.sampled_from(["note"] * 4 + ["a" * 64, "a" * 65, "Note", "no te", "n\\u0065", "é"]),
    st.tuples(*[st.sampled_from(["0", "7", "1795488299123", "9" * 15, "9" * 16, "-1", "1.5", "٣"])] * 3),
    st.lists(st.sampled_from(MEMBERS_TOO_FAR), max_size=5),
    st.sampled_from(["", "", "", " ", "\n", "}"]),
)
"""Records that are canonical, or just not."""


class Lua:
    """The scripts' own view of a head."""

    def __init__(self, client: redis.Redis) -> None:
        pieces = [(LUA / "lib" / f"{name}.lua").read_text() for name in ("int", "head")]
        self._source = "\n".join(
            [
                *pieces,
                "local job = read_head(ARGV[1])",
                "if not job then return false end",
                "local text = write_head(job)",
                "for name, value in pairs(job) do",
                "  job[name] = type(value) == 'number' and int(value) or value",
                "end",
                "return {text, cjson.encode(job)}",
            ]
        )
        self._client = client

    def read(self, text: str) -> tuple[str, dict[str, str]] | None:
        """The text that write_head makes of it, and the members; None when it is not canonical."""
        answer = self._client.eval(self._source, 0, text)
        return None if answer is None else (answer[0].decode(), json.loads(answer[1]))


@pytest.fixture(scope="module")
def lua(session_valkey: Valkey) -> Iterator[Lua]:
    with session_valkey.client() as client:
        yield Lua(client)


def members_of(job: Job) -> dict[str, str]:
    """As `Lua.read` gives them."""
    given = {
        "id": job.job_id, "task": job.task, "status": job.status.value, "retries": job.retries, "attempt": job.attempt,
        "lost": job.lost, "created_at": job.created_at, "queue": job.queue, "priority": job.priority,
        "expires_at": job.expires_at, "run_at": job.run_at, "started_at": job.started_at, "worker": job.worker,
        "finished_at": job.finished_at, "error": job.error_text, "tail": job.tail,
    }  # fmt: skip
    return {name: str(value) for name, value in given.items() if value is not None}


class TestCanonical:
    """Our own records."""

    def test_the_documented_form(self) -> None:
        """A plain job reads exactly as the protocol shows it."""
        expected = (
            f'{{"job_id":"{ID}","task":"send_email","status":"pending","retries":0,"attempt":0,"lost":0'
            ',"created_at":1795488299123}'
        )
        assert expected == Job(ID, "send_email", created_at=1795488299123).text()

    @given(JOBS)
    def test_there_and_back(self, job: Job) -> None:
        """The text of any job is JSON, is canonical, and reads as the same job."""
        record = job.text().encode()

        assert json.loads(record)["job_id"] == job.job_id
        assert is_canonical(record)
        assert job == parse(job.job_id, record)

    @given(JOBS)
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_the_scripts_read_and_write_the_same(self, lua: Lua, job: Job) -> None:
        """The scripts see the members that Python sees, and write the very same text again."""
        assert (job.text(), members_of(job)) == lua.read(job.text())

    @given(SPELLINGS)
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
    def test_both_agree_on_what_is_canonical(self, lua: Lua, text: str) -> None:
        """Of any spelling Python and the scripts agree whether the head can be rewritten, and what it says."""
        seen = lua.read(text)

        assert is_canonical(text.encode()) == (seen is not None)
        if seen is not None:
            assert (text, members_of(parse(ID, text.encode()))) == seen

    @pytest.mark.parametrize(
        "record",
        [
            f'{{"job_id":"{ID}","task":"note","status":"pending","retries":0,"attempt":0,"lost":0,"created_at":1.5}}',
            f'{{"job_id":"{ID}","task":"note","status":"pending","retries":0,"attempt":0,"lost":0,"created_at":1e3}}',
            f'{{"job_id":"{ID}","task":"note","status":"pending","retries":0,"attempt":0,"lost":0,"created_at":1 }}',
        ],
    )
    def test_a_number_of_another_spelling_is_foreign(self, lua: Lua, record: str) -> None:
        """A time that is no integer is not cut in half by the scripts: the record is a foreign one."""
        assert lua.read(record) is None
        assert not is_canonical(record.encode())
        assert ID == parse(ID, record.encode()).job_id

    def test_a_priority_of_two_digits(self, lua: Lua) -> None:
        """A member that does not fit stays in the tail, whole."""
        head = f'{{"job_id":"{ID}","task":"note","status":"pending","retries":0,"attempt":0,"lost":0,"created_at":1'
        text = head + ',"priority":12,"x":[]}'
        seen = lua.read(text)

        assert seen is not None
        assert (text, "0", ',"priority":12,"x":[]') == (seen[0], seen[1]["priority"], seen[1]["tail"])

    def test_a_status_that_does_not_exist(self) -> None:
        """A canonical head with an unheard-of status is corrupt."""
        record = Job(ID, "note").text().replace("pending", "waiting").encode()

        with pytest.raises(CorruptRecord, match="status that does not exist"):
            parse(ID, record)


class TestForeign:
    """Records of other producers."""

    @given(JOBS, st.randoms(use_true_random=False))
    def test_any_order_and_spacing(self, job: Job, chance: Any) -> None:
        """A known member is read wherever it stands and however it is spaced; unknown ones keep their text."""
        members = list(json.loads(job.text()).items())
        chance.shuffle(members)
        record = json.dumps(dict(members), indent=chance.choice([None, 1])).encode()
        if is_canonical(record):
            return

        read = parse(job.job_id, record)

        for name in ("job_id", "task", "status", "retries", "attempt", "lost", "created_at", "queue", "priority"):
            assert getattr(job, name) == getattr(read, name), name
        assert (job.run_at or None) == read.run_at
        raw = split_members(record.decode())
        kept = {name: text for name, text in split_members(read.text()).items() if name.startswith("x_")}
        assert {name: text for name, text in raw.items() if name.startswith("x_")} == kept
        assert is_canonical(read.text().encode())

    def test_the_smallest(self) -> None:
        """A task is enough."""
        assert Job(ID, "note") == parse(ID, b'{"task":"note"}')

    def test_unknown_members_are_not_decoded(self) -> None:
        """Empty lists, big integers, huge floats, escapes and nested braces keep their spelling and order."""
        record = (
            '{ "x": [] ,"task":"note", "n":9007199254740993,"e" : 1e400,\t"s":"\\u00e4\\ud800", "d":{"a": {"b":"}"}},\n'
            f'"job_id":"{ID}","retries":0,"status":"pending"}}'
        )
        expected = ',"x":[],"n":9007199254740993,"e":1e400,"s":"\\u00e4\\ud800","d":{"a": {"b":"}"}}'
        assert expected == parse(ID, record.encode()).tail

    def test_the_key_decides_the_id(self) -> None:
        """The id is that of the key, whatever a foreign record says."""
        assert ID == parse(ID, b'{"job_id": "other", "task": "note"}').job_id

    @pytest.mark.parametrize(
        ("member", "name", "expected"),
        [
            ('"retries": "3"', "retries", 0),
            ('"retries": -1', "retries", 0),
            ('"retries": 1.0', "retries", 0),
            ('"retries": true', "retries", 0),
            ('"retries": 9007199254740993', "retries", 0),
            ('"retries": 2', "retries", 2),
            ('"status": "PENDING"', "status", Status.PENDING),
            ('"status": ["pending"]', "status", Status.PENDING),
            ('"status": "completed"', "status", Status.COMPLETED),
            ('"queue": "mail"', "queue", "mail"),
            ('"queue": "../mail"', "queue", "default"),
            ('"queue": 5', "queue", "default"),
            ('"priority": 9', "priority", 9),
            ('"priority": 10', "priority", 0),
            ('"priority": true', "priority", 0),
            ('"created_at": "2026-01-01"', "created_at", 0),
            ('"run_at": 5', "run_at", 5),
            ('"run_at": "tomorrow"', "run_at", None),
            ('"error": {"type": "E"}', "error_text", None),
            ('"worker": "w"', "worker", None),
        ],
    )
    def test_members_that_make_no_sense_are_left_out(self, member: str, name: str, expected: object) -> None:
        """A known member of the wrong type or range counts as not given."""
        assert expected == getattr(parse(ID, f'{{"task": "note", {member}}}'.encode()), name)

    def test_a_byte_order_mark(self) -> None:
        """A BOM in front is skipped."""
        assert "note" == parse(ID, b'\xef\xbb\xbf{"task": "note"}').task

    @pytest.mark.parametrize(
        ("record", "message"),
        [
            (b"", "not JSON"),
            (b"garbage", "not JSON"),
            (b'{"task": "note"', "not JSON"),
            (b'{"task": "note"} more', "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b'{"task": "note", "n": ' + b"9" * 5000 + b"}", "not JSON"),
            (b"[]", "not a JSON object"),
            (b'"note"', "not a JSON object"),
            (b"{}", "names no task"),
            (b'{"task": 5}', "names no task"),
            (b'{"task": "Send Email"}', "names no task"),
            (b'{"task": "../x"}', "names no task"),
            (b'{"task": "note\\u0000"}', "names no task"),
            (b'{"task": "n\xff"}', "not UTF-8"),
        ],
    )
    def test_what_is_no_job_at_all(self, record: bytes, message: str) -> None:
        """Unreadable records raise CorruptRecord, and never anything else."""
        with pytest.raises(CorruptRecord, match=message):
            parse(ID, record)

    @given(st.binary(max_size=60) | SPELLINGS.map(str.encode))
    def test_nothing_but_corrupt_record(self, record: bytes) -> None:
        """Whatever bytes a key holds, they read as a job or raise CorruptRecord."""
        with suppress(CorruptRecord):
            assert isinstance(parse(ID, record), Job)

    @pytest.mark.parametrize(
        ("record", "expected"),
        [
            (b'{"task": "note"}', b""),
            (b'{"task": "note", "payload": {"n": 9007199254740993, "l": []}}', b'{"n": 9007199254740993, "l": []}'),
            (b'{"task": "note", "x": "\\"payload\\""}', b""),
        ],
    )
    def test_an_inline_payload(self, record: bytes, expected: bytes) -> None:
        """A record's own payload is found, undecoded."""
        assert expected == inline_payload(parse(ID, record))

    @pytest.mark.parametrize(("payload", "expected"), [(b"", {}), (b"null", {}), (b'{"a": 1}', {"a": 1})])
    def test_a_payload_is_an_object(self, payload: bytes, expected: dict[str, int]) -> None:
        """Nothing and null are no arguments."""
        assert expected == payload_mapping(payload)

    @pytest.mark.parametrize("payload", [b"[]", b"5", b'"x"', b"{", b"\xff", b"[" * 100_000])
    def test_a_payload_is_nothing_else(self, payload: bytes) -> None:
        """Anything else is a ValueError."""
        with pytest.raises(ValueError, match=r".+"):
            payload_mapping(payload)


class TestStated:
    """What the submitter said for this job alone."""

    @given(
        st.none() | st.integers(0, 1000),
        st.none() | st.floats(0, 600),
        st.none() | st.floats(0, MAX_DELAY, exclude_min=True),
    )
    def test_there_and_back(self, max_retries: int | None, backoff: float | None, timeout: float | None) -> None:
        """What a submit states is what the worker reads."""
        stated = Stated(max_retries, backoff, timeout)

        assert stated == Job(ID, "note", tail=stated.tail()).stated()

    @pytest.mark.parametrize("value", ['"3"', "-1", "true", "null", "[]", "NaN", "1e400"])
    def test_nonsense_is_not_stated(self, value: str) -> None:
        """Values of the wrong type or out of range count as not given."""
        assert Stated() == Stated.read(f',"max_retries":{value},"backoff":{value},"timeout":{value}')

    def test_a_broken_tail_states_nothing(self) -> None:
        """A tail that is no JSON states nothing."""
        assert Stated() == Stated.read(',"max_retries":3,oops')


class TestError:
    """The error in a record."""

    @given(ERRORS)
    def test_no_braces_inside(self, error: JobError) -> None:
        """The text is JSON with one pair of braces, so that a pattern finds it; the message survives."""
        text = error.text()

        assert (1, 1) == (text.count("{"), text.count("}"))
        read = json.loads(text)
        assert (error.type[:200], error.message, error.reason) == (read["type"], read["message"], read["reason"])

    def test_long_texts_lose_their_middle(self) -> None:
        """Of a long message beginning and end are kept, and how much is left out is said."""
        short = shorten("a" * 10_000 + "b" * 10_000)

        assert short.startswith("a" * (MAX_ERROR_TEXT // 2))
        assert short.endswith("b" * (MAX_ERROR_TEXT // 2))
        assert "11808 characters left out" in short
        assert "x" * MAX_ERROR_TEXT == shorten("x" * MAX_ERROR_TEXT)

    @pytest.mark.parametrize("character", ["\x00", "{", "é", "😀", "\ud800"])
    def test_what_counts_is_what_is_stored(self, character: str) -> None:
        """Characters that take several bytes in a record do not make it larger than others do."""
        error = JobError("Error", character * MAX_ERROR_TEXT, "error", character * MAX_ERROR_TEXT)

        assert len(error.text()) < 2 * MAX_ERROR_TEXT + 300


def spelt_out(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with a `run_at` that was given as a distance from now."""
    ahead = options.get("run_at")
    return {**options, "run_at": datetime.now(UTC) + ahead} if isinstance(ahead, timedelta) else options


class TestOptions:
    """The limits of a submit."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"queue": "Mail"}, r"queue: must match \[a-z\]"),
            ({"queue": ""}, "queue: must match"),
            ({"queue": "a" * 65}, "queue: must match"),
            ({"priority": -1}, "priority: a whole number from 0 to 9"),
            ({"priority": 10}, "priority: a whole number from 0 to 9"),
            ({"priority": 1.0}, "priority: a whole number from 0 to 9"),
            ({"priority": True}, "priority: a whole number from 0 to 9"),
            ({"delay": -0.001}, "delay: 0 to 316224000 seconds"),
            ({"delay": MAX_DELAY + 1}, "delay: 0 to 316224000 seconds"),
            ({"delay": float("nan")}, "delay: 0 to 316224000 seconds"),
            ({"delay": timedelta(days=-1)}, "delay: 0 to 316224000 seconds"),
            ({"delay": 1, "run_at": timedelta(0)}, "delay and run_at exclude each other"),
            ({"run_at": datetime(2099, 1, 1)}, "run_at: a time with a time zone"),
            ({"run_at": timedelta(minutes=-2)}, "run_at: .* between now and ten years ahead"),
            ({"run_at": timedelta(days=3700)}, "run_at: .* between now and ten years ahead"),
            ({"expires_in": 0}, "expires_in: up to 316224000 seconds"),
            ({"expires_in": -1}, "expires_in: up to 316224000 seconds"),
            ({"expires_in": MAX_DELAY + 1}, "expires_in: up to 316224000 seconds"),
            ({"max_retries": -1}, "max_retries: 0 to 1000"),
            ({"max_retries": 1001}, "max_retries: 0 to 1000"),
            ({"backoff": -1}, "backoff: 0 to 600 seconds"),
            ({"backoff": 601}, "backoff: 0 to 600 seconds"),
            ({"backoff": float("nan")}, "backoff: 0 to 600 seconds"),
            ({"timeout": 0}, "timeout: more than 0, up to 316224000 seconds"),
            ({"timeout": MAX_DELAY + 1}, "timeout: more than 0, up to 316224000 seconds"),
            ({"job_id": "x"}, "job_id: a UUID in lower case"),
            ({"job_id": ID.upper()}, "job_id: a UUID in lower case"),
            ({"job_id": ID + "\n"}, "job_id: a UUID in lower case"),
        ],
    )
    def test_beyond_a_limit(self, options: dict[str, Any], message: str) -> None:
        """Each limit is refused with a line that names the option and what is allowed."""
        with pytest.raises(BadRequest, match=message):
            Options(**spelt_out(options))

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"queue": "a" * 64},
            {"priority": 9},
            {"delay": 0},
            {"delay": MAX_DELAY},
            {"run_at": timedelta(seconds=-30)},
            {"run_at": timedelta(days=3600)},
            {"expires_in": MAX_DELAY},
            {"max_retries": 0},
            {"max_retries": 1000},
            {"backoff": 0},
            {"backoff": 600},
            {"timeout": 0.001},
            {"timeout": MAX_DELAY},
            {"job_id": ID},
        ],
    )
    def test_up_to_the_limit(self, options: dict[str, Any]) -> None:
        """The limits themselves are allowed."""
        options = spelt_out(options)
        assert options == {name: getattr(Options(**options), name) for name in options}

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            (Options(), ""),
            (Options(delay=0), ""),
            (Options(delay=1.5), "+1500"),
            (Options(delay=timedelta(minutes=1)), "+60000"),
        ],
    )
    def test_when_it_is_due(self, options: Options, expected: str) -> None:
        """A delay counts from the server's now, in ms."""
        assert expected == options.due()

    def test_a_time(self) -> None:
        """A time is absolute, in ms, whatever its zone."""
        later = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=5_000)
        expected = str(int(later.timestamp()) * 1000 + 5)
        elsewhere = later.astimezone(timezone(timedelta(hours=5, minutes=30)))
        assert expected == Options(run_at=later).due() == Options(run_at=elsewhere).due()

    def test_when_it_expires(self) -> None:
        """An expiry counts from the server's now, in ms."""
        assert ("", "+1500") == (Options().expires(), Options(expires_in=1.5).expires())

    def test_the_tail(self) -> None:
        """Only what was said is in the record."""
        assert "" == Options(priority=3).tail()
        assert ',"max_retries":0,"backoff":0.5,"timeout":9' == Options(max_retries=0, backoff=0.5, timeout=9).tail()


class TestStatus:
    """The five words."""

    def test_which_are_over(self) -> None:
        """Completed, failed and cancelled jobs are over."""
        assert ["completed", "failed", "cancelled"] == [status.value for status in Status if status.over]

    def test_the_words_of_the_contract(self) -> None:
        """The contract knows four words: cancelled reads failed there."""
        expected = ["pending", "processing", "completed", "failed", "failed"]
        assert expected == [status.contract for status in Status]
