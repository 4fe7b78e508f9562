"""The verbs about the installation: tasks, doctor, config."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from dataclasses import asdict
from typing import Any

from pydantic import AliasChoices, SecretStr, TypeAdapter

from jobq import Settings
from jobq.cli.frame import FAILED, clean
from jobq.cli.show import document, model, on_terminal, rows
from jobq.doctor import examine
from jobq.http.views import TaskInfo, TaskList
from jobq.job import Stated
from jobq.launch import load_app, load_settings
from jobq.policy import Rules
from jobq.store.checks import Finding

MASK = "***"
MARKS = {"ok": ("✓", 32), "warning": ("!", 33), "error": ("✗", 31)}
SECRET = re.compile(r"key|secret|password|token")
IN_URL = re.compile(r"(?<=:)[^:/]+(?=@)|(?<=password=)[^&]+")
"""A password in a URL."""


def tasks(as_json: bool) -> None:
    settings = load_settings()
    registry = load_app(settings)
    if as_json:
        known = [TaskInfo.of(task, Rules.of(Stated(), task, settings), ()) for task in registry]
        model(TaskList(tasks=known), exclude={"tasks": {"__all__": {"workers"}}})
        return
    rows(
        ("task", "queue", "arguments", "what it does"),
        [
            (
                task.name,
                task.defaults.queue,
                " ".join(
                    name if field.is_required() else f"[{name}]" for name, field in task.parameters.model_fields.items()
                ),
                task.doc.partition("\n")[0],
            )
            for task in registry
        ],
    )


def doctor(as_json: bool) -> None:
    findings = asyncio.run(examine(load_settings()))
    failed = any(finding.level == "error" for finding in findings)
    if as_json:
        document({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
    elif on_terminal():
        for finding in findings:
            _print_finding(finding)
    else:
        rows((), [(f.level, f.name, f.what, f.why, f.fix) for f in findings])
    sys.exit(FAILED if failed else 0)


def config(as_json: bool) -> None:
    settings = load_settings()
    known = [
        (_variables(settings, name)[0], _value(settings, name), _source(settings, name))
        for name in type(settings).model_fields
    ]
    if as_json:
        document([{"name": name, "value": value, "source": source} for name, value, source in known])
    else:
        rows(("setting", "value", "source"), [(name, _told(value), source) for name, value, source in known])


def _print_finding(finding: Finding) -> None:
    mark, colour = MARKS[finding.level]
    if not os.environ.get("NO_COLOR"):
        mark = f"\x1b[{colour}m{mark}\x1b[0m"
    print(f"{mark} {finding.name}: {clean(finding.what)}")
    for label, text in (("why", finding.why), ("fix", finding.fix)):
        if text:
            print(f"    {label}  {clean(text)}")


def _variables(settings: Settings, name: str) -> list[str]:
    """The environment variables that a setting is read from."""
    alias = type(settings).model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [alias] if isinstance(alias, str) else [f"JOBQ_{name.upper()}"]


def _source(settings: Settings, name: str) -> str:
    given = {variable.upper() for variable in os.environ}
    for variable in _variables(settings, name):
        if variable.upper() in given:
            return f"environment variable {variable}"
    ours, theirs = Settings.model_fields.get(name), type(settings).model_fields[name]
    changed = ours is None or (theirs.default, theirs.default_factory) != (ours.default, ours.default_factory)
    return "config.py" if changed or name in settings.model_fields_set else "default"


def _value(settings: Settings, name: str) -> Any:
    """As JSON, and nothing that is secret: what is shown here ends up in issues and chats."""
    value = getattr(settings, name)
    if value and (isinstance(value, SecretStr) or SECRET.search(name)):
        return MASK
    if isinstance(value, str):
        return IN_URL.sub("***", value)
    return TypeAdapter(Any).dump_python(value, mode="json")


def _told(value: Any) -> str:
    if value is None:
        return ""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
