"""A worker of a run: `python -m jobq worker`, with a guard broken if the run asks for that."""

from __future__ import annotations

import os
import sys

from jobq.cli import main
from tests.chaos.sabotage import sabotage

if __name__ == "__main__":
    if name := os.environ.get("CHAOS_SABOTAGE"):
        sabotage(name)
    sys.argv = ["jobq", *sys.argv[1:]]
    main()
