"""The loader of the scripts, and what holds for every one of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from redis.asyncio import Redis

from jobq.store import keys, scripts
from jobq.store.store import Heart, Store
from tests.store.support import LONG, Lane, submitted

SOURCES = {path.stem: path.read_text() for path in Path(str(scripts.LUA)).glob("*.lua")}
PIECES = {path.stem: path.read_text() for path in Path(str(scripts.LUA / "lib")).glob("*.lua")}
PARTS = {"settle", "claim"}
"""Scripts in the folder of transitions that only pump includes."""
REFUSED_WHEN_FULL = {"submit", "retry"}


@pytest.fixture
def lua(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of scripts of the test's own, in place of ours."""
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(scripts, "LUA", tmp_path)
    return tmp_path


class TestEveryScript:
    """What holds for each file in `lua/`."""

    def test_each_is_a_transition(self) -> None:
        """`ls lua/` is the list of all that can happen to a job."""
        assert set(scripts.TRANSITIONS) == set(SOURCES) - PARTS
        assert len(scripts.TRANSITIONS) == len(set(scripts.TRANSITIONS))

    @pytest.mark.parametrize("name", sorted(SOURCES))
    def test_each_has_a_test_file(self, name: str) -> None:
        """The tests of `lua/claim.lua` are in `test_claim.py`."""
        assert Path(__file__).with_name(f"test_{name}.py").is_file()

    @pytest.mark.parametrize("name", scripts.TRANSITIONS)
    def test_each_has_a_method(self, name: str) -> None:
        """Each transition is one method of its name; the heartbeat, in its own thread, is the Heart's."""
        assert callable(getattr(Heart, "beat") if name == "heartbeat" else getattr(Store, name))  # noqa: B009

    @pytest.mark.parametrize("name", scripts.TRANSITIONS)
    def test_the_first_line(self, name: str) -> None:
        """Only what brings new work is refused by a server without memory."""
        expected = "#!lua" if name in REFUSED_WHEN_FULL else "#!lua flags=allow-oom"
        assert expected == SOURCES[name].splitlines()[0]
        assert expected == scripts.load()[name].source.splitlines()[0]

    @pytest.mark.parametrize("name", sorted(SOURCES | PIECES))
    def test_each_says_what_it_does(self, name: str) -> None:
        """The first comment begins with the script's name."""
        lines = [line for line in (SOURCES | PIECES)[name].splitlines() if not line.startswith("#!")]
        assert lines[0].startswith(f"-- {name}: ")

    @pytest.mark.parametrize("name", sorted(SOURCES | PIECES))
    def test_nothing_is_decoded(self, name: str) -> None:
        """cjson would turn `[]` into `{}` and round big integers: no script uses it."""
        assert "cjson" not in (SOURCES | PIECES)[name]

    @pytest.mark.parametrize("name", scripts.TRANSITIONS)
    def test_no_key_is_written_out(self, name: str) -> None:
        """Every key comes from `keys.NAMES`, behind the shard's tag."""
        names = [*keys.NAMES.values(), keys.QUEUE]
        code = re.sub(r"--.*", "", "\n".join([SOURCES[name], *PIECES.values()]))
        assert [] == [key for key in names if f"'{key}" in code]

    @pytest.mark.parametrize("name", scripts.TRANSITIONS)
    async def test_the_server_takes_it(self, redis: Redis, name: str) -> None:
        """Each script compiles, and is stored under the hash that we send."""
        script = scripts.load()[name]
        assert script.sha == await redis.script_load(script.source)


class TestLoader:
    """Headers, includes and keys."""

    def test_arguments_become_locals(self, lua: Path) -> None:
        """`@args` and `@rows` say what ARGV holds."""
        (lua / "one.lua").write_text("#!lua\n-- @args a b\n-- @rows x y z\nreturn a\n")
        script = scripts._load("one", shebang=True)

        assert (("a", "b"), ("x", "y", "z")) == (script.args, script.row)
        assert "local a, b = ARGV[1], ARGV[2]\n" in script.source
        assert "local first_row, row_width = 3, 3\n" in script.source

    def test_includes_come_in_order_and_once(self, lua: Path) -> None:
        """An included piece stands before its user, what it includes itself before it, each one time."""
        (lua / "lib" / "base.lua").write_text("-- base: piece\n")
        (lua / "lib" / "left.lua").write_text("-- left: piece\n-- @include base\n")
        (lua / "lib" / "right.lua").write_text("-- right: piece\n-- @include base left\n")
        (lua / "part.lua").write_text("-- part: piece\n-- @include right\n")
        (lua / "one.lua").write_text("#!lua\n-- one: body\n-- @include left part right\n")
        source = scripts._load("one", shebang=True).source

        assert ["base", "left", "right", "part", "one"] == re.findall(r"^-- (\w+):", source, re.MULTILINE)

    def test_includes_in_a_circle_end(self, lua: Path) -> None:
        """Two pieces that include each other are each there once."""
        (lua / "lib" / "a.lua").write_text("-- a: piece\n-- @include b\n")
        (lua / "lib" / "b.lua").write_text("-- b: piece\n-- @include a\n")
        (lua / "one.lua").write_text("#!lua\n-- one: body\n-- @include a\n")
        source = scripts._load("one", shebang=True).source

        assert ["b", "a", "one"] == re.findall(r"^-- (\w+):", source, re.MULTILINE)

    def test_an_unknown_key(self, lua: Path) -> None:
        """A key name that is none of `keys.NAMES` fails when the script is loaded, not when it runs."""
        (lua / "one.lua").write_text("#!lua\nreturn key.jbo\n")
        with pytest.raises(KeyError, match="jbo"):
            scripts._load("one", shebang=True)

    def test_an_unknown_piece(self, lua: Path) -> None:
        """So does an include that does not exist."""
        (lua / "one.lua").write_text("#!lua\n-- @include nothing\n")
        with pytest.raises(FileNotFoundError):
            scripts._load("one", shebang=True)

    def test_keys_stand_behind_the_tag(self, lua: Path) -> None:
        """`key.<name>` is the name behind the shard's hash tag."""
        (lua / "one.lua").write_text("#!lua\nreturn key.leases .. key.wake .. 'x'\n")
        source = scripts._load("one", shebang=True).source

        assert "return (T .. 'job_leases') .. (T .. 'job_wake:') .. 'x'" in source

    @pytest.mark.parametrize("tag", ["", "{7}"])
    async def test_the_tag_is_that_of_the_key(self, redis: Redis, lua: Path, tag: str) -> None:
        """The tag is what stands before the queue's name in KEYS[1]; on a single server nothing."""
        (lua / "one.lua").write_text("#!lua\nreturn key.leases\n")
        source = scripts._load("one", shebang=True).source

        assert f"{tag}job_leases" == await redis.eval(source, 1, f"{tag}job_queue")

    def test_without_the_first_line(self) -> None:
        """For a server that does not know `#!lua` it is left out; the rest is the same."""
        plain = scripts.load(shebang=False)["stage"].source
        assert scripts.load()["stage"].source == f"#!lua flags=allow-oom\n{plain}"


class TestCall:
    """Sending a script."""

    @pytest.mark.parametrize("named", [{}, {"patience": 1, "more": 2}, {"patients": 1}])
    async def test_arguments_are_checked(self, redis: Redis, named: dict[str, int]) -> None:
        """Missing, additional and misspelt arguments are refused before anything is sent."""
        with pytest.raises(TypeError, match=r"missing\.lua takes \('patience',\)"):
            await scripts.load()["missing"](redis, **named)

    def test_arguments_have_the_order_of_the_header(self) -> None:
        """However they are given."""
        script = scripts.Script("one", ("a", "b"), ("x",), "")
        assert [1, 2, 3, 4] == script.argv({"b": 2, "a": 1}, [3, 4])

    async def test_a_server_that_forgot_its_scripts(self, store: Store, redis: Redis, lane: Lane, heart: Heart) -> None:
        """After SCRIPT FLUSH every call is done all the same, and once."""
        for call in range(3):
            await redis.script_flush()
            [job_id] = await submitted(store)
            await redis.script_flush()
            [claim] = await lane.claim()
            await redis.script_flush()
            assert [("ok", "")] == heart.beat([(job_id, claim.token)], LONG)
            assert call + 1 == await redis.zcard("job_leases")
