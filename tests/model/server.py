"""The server under the machine: its clock, and a reading of every key it holds as of one moment.

The scripts ask a key for the time instead of TIME, and that is all that is changed in them. So time passes only when
the machine says so: deadlines fall due at will, the clock can jump both ways, and every time in a record is known.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from typing import Any

from jobq.store import keys, scripts
from jobq.store.blocking import BlockingServer, BlockingStore, drive
from jobq.store.scripts import Script
from jobq.store.store import Heart, Store
from tests.support.servers import Valkey

CLOCK = "clock"
_TIME = "redis.call('TIME')"
_OURS = f"""(function()
  local ms = tonumber(redis.call('GET', '{CLOCK}'))
  return {{math.floor(ms / 1000), ms % 1000 * 1000}}
end)()"""

READ = """#!lua flags=no-writes
local found = {}
for _, name in ipairs(redis.call('KEYS', 'job*')) do
  local kind, value = redis.call('TYPE', name).ok, nil
  if kind == 'string' then value = redis.call('GET', name)
  elseif kind == 'list' then value = redis.call('LRANGE', name, 0, -1)
  elseif kind == 'zset' then value = redis.call('ZRANGE', name, 0, -1, 'WITHSCORES')
  elseif kind == 'hash' then value = redis.call('HGETALL', name)
  elseif kind == 'set' then value = redis.call('SMEMBERS', name)
  elseif kind == 'stream' then value = redis.call('XRANGE', name, '-', '+')
  end
  found[#found + 1] = {name, kind, value}
end
return found
"""


def on_our_clock(script: Script) -> Script:
    return Script(script.name, script.args, script.row, script.source.replace(_TIME, _OURS))


class Driven:
    """A real server, reached as `BlockingClient` reaches it."""

    def __init__(self) -> None:
        self.valkey = Valkey("--appendfsync", "always").start()
        self.loaded = {name: on_our_clock(script) for name, script in scripts.load().items()}
        server = BlockingServer(self.valkey.url, "")
        self.store = BlockingStore(Store(server.store()._client, self.loaded))
        self.heart: Heart = server.heart(timeout=5.0)
        self.heart._script = self.loaded["heartbeat"]
        self.client = self.store._client

    def run(self, command: str, *args: Any, **kwargs: Any) -> Any:
        return drive(getattr(self.client, command)(*args, **kwargs))

    def restart(self) -> None:
        """As after a crash: kill -9, and on from what was written."""
        self.valkey.kill()
        self.valkey.start()

    def stop(self) -> None:
        self.heart.close()
        drive(self.store.close())
        self.valkey.kill()
        shutil.rmtree(self.valkey.dir)

    def keys(self) -> dict[str, Any]:
        """Every key with its whole value, as `Model.keys` states it."""
        found, stats = {}, Counter[str]()
        for name, kind, value in self.run("eval", READ, 0):
            key = name.decode()
            if key.startswith("job_stats:"):
                stats.update({word: int(number) for word, number in _pairs(value).items()})
            elif key == "job_scrub":
                pass  # where the scrubber goes on
            elif key.startswith(keys.JOB) and key.endswith(keys.ATTEMPTS):
                found[key] = [json.loads(line)["outcome"] for line in value]
            elif key.startswith(keys.JOB) and key.endswith(keys.EMITTED):
                found[key] = [tuple(map(int, entry.decode().split("-"))) for entry, _ in value]
            elif key == keys.EVENTS:
                found[key] = [tuple(word.decode() for word in fields[1::2]) for _, fields in value]
            else:
                found[key] = _READ[kind.decode()](value)
        return found | ({"job_stats": dict(stats)} if stats else {})


def _pairs(flat: list[bytes]) -> dict[str, str]:
    words = [word.decode() for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


_READ: dict[str, Any] = {
    "string": lambda value: value,
    "list": lambda value: [word.decode() for word in value],
    "zset": lambda value: {name: int(score) for name, score in _pairs(value).items()},
    "hash": _pairs,
    "set": lambda value: {word.decode() for word in value},
}
