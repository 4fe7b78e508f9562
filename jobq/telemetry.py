"""Logging of the processes that are ours. Nothing happens on import: a library leaves its host's logging alone."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from jobq.settings import Settings

_PLAIN = structlog.dev.plain_traceback
"""structlog's own choice shows local variables, and those hold payloads."""


def configure(settings: Settings) -> None:
    """Log to stderr: for people on a terminal, one JSON object a line elsewhere, or as `log_format` says."""
    pretty = settings.log_format == "pretty" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if pretty else "iso", utc=not pretty),
    ]
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24, exception_formatter=_PLAIN)]
        if pretty
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger() -> FilteringBoundLogger:
    log: FilteringBoundLogger = structlog.get_logger()
    return log


def warn(lines: Iterable[str]) -> None:
    """Log these where somebody set up the logging. Elsewhere they would end up on stdout, among a program's data."""
    if structlog.is_configured():
        for line in lines:
            logger().warning(line)
