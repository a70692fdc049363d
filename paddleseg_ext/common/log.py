"""Log lines in PaddleSeg's form, on standard output; tools parse them, so the form is kept."""

import time


def log(message: str, level: str = "INFO") -> None:
    r"""Print `2026-01-31 12:00:00 [INFO]\tmessage`, flushed, so that a pipe shows it at once."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} [{level}]\t{message}", flush=True)


def warn(message: str) -> None:
    """`log` at level WARNING."""
    log(message, "WARNING")
