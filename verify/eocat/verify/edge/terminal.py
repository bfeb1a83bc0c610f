"""How every command speaks: answers on stdout, the rest on stderr, errors as two lines and an exit code."""

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from ..errors import EocatError, MissingExtra


def printable(text: str) -> str:
    """`text` with control and bidirectional characters escaped: a name must not rewrite the screen."""
    return "".join(
        char
        if char == "\n" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else ascii(char)[1:-1]
        for char in text
    )


def answer(text: str) -> None:
    """Print an answer on stdout."""
    sys.stdout.write(printable(text) + "\n")


def answer_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=True, indent=2) + "\n")


def note(text: str) -> None:
    """Print what is not the answer on stderr."""
    sys.stderr.write(printable(text) + "\n")


def run(app: Callable[[], None]) -> NoReturn:
    """Run a command line to its exit: errors become two lines and their code, never a traceback."""
    try:
        app()
    except EocatError as error:
        _fail(str(error), error.hint, error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone: say nothing, but do not claim success
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        _fail("interrupted", None, 130)
    except Exception as error:  # the last line of defence: never exit 0, never a traceback
        if os.environ.get("EOCAT_DEBUG"):
            raise
        _fail(
            f"unexpected {type(error).__name__}: {error}", "EOCAT_DEBUG=1 shows where; please report it", 70
        )
    sys.exit(0)


def _fail(message: str, hint: str | None, code: int) -> NoReturn:
    note(f"eocat: error: {message}")
    if hint:
        note(f"hint: {hint}")
    sys.exit(code)


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around the heavy imports of a command: says which extra to install if one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("eocat"):
            raise
        raise MissingExtra(
            f"this command needs {error.name}, which is not installed", hint=f"pip install 'eocat[{extra}]'"
        ) from None


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr with rate and remaining time, in a terminal only; call it with (what, done, total)."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    room = max(12, console.width - 55)  # or a long name would push the figures off the line
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", rate="")

        def advance(what: str, done: int, total: int) -> None:
            speed = progress.tasks[0].speed
            rate = f"{speed:.1f}/s" if speed else ""
            text = printable(what)
            text = text if len(text) <= room else f"{text[: room - 1]}…"
            progress.update(task, description=text, completed=done, total=total or None, rate=rate)

        yield advance
