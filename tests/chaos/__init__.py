"""Breaks jobq on purpose and shows what became of it: `python -m tests.chaos --fault F1 --rounds 1000 --seed 7`.

Real processes, a real server, a proxy that harms connections. What happens is written into a history (`history.py`),
and the verdict is read from that file alone (`checker.py`). A fault is one short function (`faults/`).
"""
