"""What training prints: the progress bar, and the switch between the screen and the log.

The bar is drawn with plain carriage returns, not with `rich`: its one line is Keras's, a `rich` live display
would take over stdout and start a thread of its own, and a carriage return works in a notebook too.
"""

import functools
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lamina.core import checks

_logger = logging.getLogger("lamina")
_settings = {"interactive": True}
QUIET_SECONDS = 10.0  # between two lines of a run whose output is no screen

BAR = "━"
BOLD, GREEN, WHITE, RESET = "\x1b[1m", "\x1b[32m", "\x1b[37m", "\x1b[0m"


def enable_interactive_logging() -> None:
    """Print progress and messages to stdout: the default."""
    _settings["interactive"] = True


def disable_interactive_logging() -> None:
    """Send progress, a line an epoch, and messages to the logger `lamina` of `logging`, not to stdout."""
    _settings["interactive"] = False


def is_interactive_logging_enabled() -> bool:
    """Whether progress and messages go to stdout."""
    return _settings["interactive"]


def say(message: str) -> None:
    """Print one line, or log it; a progress bar that is being drawn makes room for it."""
    if not is_interactive_logging_enabled():
        _logger.info(message)
        return
    _live.make_room()
    _write(f"{message}\n")


def _write(text: str) -> None:
    if sys.stdout is None:  # a process without a console
        return
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:  # such as an ASCII terminal
        text = text.replace(BAR, "=").encode(encoding, "replace").decode(encoding)
    _live.own_write(sys.stdout)(text)
    sys.stdout.flush()


class _LiveLine:
    """The row of the screen that a bar draws again and again, and what becomes of it when others print.

    What goes to stdout meanwhile takes the place of the row, which is drawn anew below it. What goes to stderr, such as
    a traceback, starts below the row, so that it stays to be read. The streams' `write` is what notices.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._shown = 0  # characters of the row as it stands there
        self._torn = False  # whether others have left a row without its line feed
        self._screen: Any = None
        self._watched: list[tuple[Any, Callable, Callable]] = []  # streams, their write, and what stands for it

    def draw(self, bar: Any, text: str, length: int, last: bool) -> None:
        """Put `text`, whose first row has `length` characters, in place of the row of `bar`; the last time, end it."""
        if self._screen is not sys.stdout:
            self._leave()
        elif self._bar is not bar and self._shown:  # an outer bar, or one left by Ctrl-C
            self.end()
        row, feed, more = text.partition("\n")
        lead = "\n" if self._torn else ""
        # Spaces, and no "erase line" code: notebooks do not know it.
        _write(f"{lead}\r{row}{' ' * (self._shown - length)}{feed}{more}" + ("\n" if last else ""))
        self._torn = False
        if last:
            self._leave()
            return
        self._bar, self._shown, self._screen = bar, length, sys.stdout
        if not self._watched:
            self._watch(sys.stdout, self.make_room)
            stderr = getattr(sys, "stderr", None)
            if stderr is not sys.stdout and _is_terminal(stderr):
                self._watch(stderr, self.end)

    def make_room(self) -> None:
        """Take the row from the screen; the next update draws it anew."""
        shown, self._shown = self._shown, 0
        if shown and self._screen is sys.stdout:
            _write(f"\r{' ' * shown}\r")

    def end(self) -> None:
        """Let the row stand as it is, and go to the next one."""
        shown, self._shown = self._shown, 0
        if shown and self._screen is sys.stdout:
            _write("\n")

    def own_write(self, stream: Any) -> Callable:
        """The `write` of a stream that nobody watches."""
        return next((write for watched, write, _ in self._watched if watched is stream), stream.write)

    def _watch(self, stream: Any, give_way: Callable) -> None:
        write = stream.write

        @functools.wraps(write)
        def watched(text: str) -> Any:
            give_way()
            if text:
                self._torn = not text.endswith("\n")
            return write(text)

        if hasattr(stream, "__dict__"):  # of others, the output is not noticed
            vars(stream)["write"] = watched
            self._watched.append((stream, write, watched))

    def _leave(self) -> None:
        for stream, write, watched in self._watched:
            if vars(stream).get("write") is watched:  # else somebody has put another there
                del vars(stream)["write"]
                if stream.write != write:
                    vars(stream)["write"] = write
        self._bar, self._shown, self._torn, self._screen, self._watched = None, 0, False, None, []


_live = _LiveLine()


def _is_terminal(stream: Any) -> bool:
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and isatty() and os.environ.get("TERM") != "dumb"


def _redraws() -> bool:
    """Whether stdout is a screen that `\\r` takes a line back on: a terminal, a notebook, PyCharm."""
    in_notebook = type(sys.stdout).__module__.startswith("ipykernel")
    in_pycharm = "PYCHARM_HOSTED" in os.environ and sys.stdout is sys.__stdout__
    return is_interactive_logging_enabled() and (_is_terminal(sys.stdout) or in_notebook or in_pycharm)


class Progbar:
    """A line such as `88/88 ━━━━━━━━━━━━━━━━━━━━ 0s 1ms/step - loss: 0.6`, redrawn in place on a screen.

    Where stdout is no screen (a file, a pipe), a line is printed every ten seconds and one at the end, without control
    characters. Metrics that do not fit in the row at the end go to the next.

    Args:
        target: how many steps there will be; `None` if unknown.
        width: characters of the bar; fewer where the terminal is too narrow for the line.
        verbose: 0 prints nothing, 1 draws the bar, 2 prints one short line at the end.
        interval: seconds between two drawings at least.
        stateful_metrics: names whose values are shown as they are; all others are averaged over the steps.
        stateless_metrics: names whose values are averaged, all others being shown as they are.
        unit_name: what a step is called; `"byte"` stands for rows in kB and MB.
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        stateless_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
    ):
        both = stateful_metrics is not None and stateless_metrics is not None
        rule = "stateful_metrics and stateless_metrics must not be given both"
        checks.require(not both, self, rule, (stateful_metrics, stateless_metrics))
        self.target = target
        self.width = width
        self.verbose = checks.one_of("Progbar", "verbose", verbose, (0, 1, 2))
        self.interval = interval
        self.unit_name = unit_name
        self.stateful_metrics = set(stateful_metrics or ()) if stateless_metrics is None else None
        self.stateless_metrics = None if stateless_metrics is None else set(stateless_metrics)
        self._sums: dict[str, tuple[Any, int]] = {}  # name -> sum of the values, and of how many
        self._seen = 0
        self._start = self._begun = time.monotonic()
        self._first: tuple[int, float] | None = None  # the first steps that were done, and when
        self._last_drawn: float | None = None

    def begin(self) -> None:
        """Say that the first step starts: what was waited for before is not in the time of a step."""
        self._begun = time.monotonic()

    def update(
        self, current: int, values: Iterable[tuple[str, Any]] | None = None, finalize: bool | None = None
    ) -> None:
        """Show that `current` steps are done.

        Args:
            current: the number of steps done.
            values: (name, value) of the steps since the last update; at the end, of all.
            finalize: whether this is the last update; if not given, whether `current` has reached the target.
        """
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        for name, value in values or ():
            self._record(name, value, max(current - self._seen, 1), finalize)
        self._seen = current
        now = time.monotonic()
        duration = self._step_duration(current, now)
        if self.verbose == 1:
            self._draw(current, now, duration, finalize)
        elif self.verbose == 2 and finalize and self._goal:
            clock = f"{now - self._start:.0f}s"
            head = f"{self._count(current)} - {clock} - {self._rate(duration)}"
            say("\n".join(_rows(head, self._metrics(), _room(self.verbose))))

    def add(self, n: int, values: Iterable[tuple[str, Any]] | None = None) -> None:
        """Show that `n` more steps are done."""
        self.update(self._seen + n, values)

    def _record(self, name: str, value: Any, steps: int, finalize: bool) -> None:
        if self.stateless_metrics is None:
            averaged = name not in (self.stateful_metrics or ())
        else:
            averaged = name in self.stateless_metrics
        if averaged and not finalize:
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + value * steps, count + steps
        else:
            self._sums[name] = value, 1

    def _step_duration(self, current: int, now: float) -> float:
        """Seconds a step, without the first ones as soon as there are as many others: these waited and compiled."""
        if not current:
            return 0.0
        if self._first is None:
            self._first = current, now
        done, then = self._first
        if current - done >= done:
            return (now - then) / (current - done)
        return (now - self._begun) / current

    @property
    def _goal(self) -> int:
        return max(self.target or 0, 0)  # 0: unknown

    def _count(self, current: int) -> str:
        goal = self._goal
        if self.unit_name == "byte":
            size, unit = (1e6, "MB") if max(current, goal) >= 1e6 else (1e3, "kB")
            return f"{current / size:.1f}{f'/{goal / size:.1f}' if goal else ''} {unit}"
        return f"{current:{len(str(goal))}d}/{goal}" if goal else f"{current:7d}/Unknown"

    def _rate(self, duration: float) -> str:
        if self.unit_name == "byte":
            return f"{1e-6 / duration if duration else 0:.1f} MB/s"
        for size, unit in ((1.0, "s"), (1e-3, "ms")):
            if duration >= size or not duration:
                return f"{duration / size:.0f}{unit}/{self.unit_name}"
        return f"{duration / 1e-6:.0f}us/{self.unit_name}"

    def _metrics(self) -> list[str]:
        texts = []
        for name, (total, count) in self._sums.items():
            mean = float(np.mean(total)) / count
            texts.append(f" - {name}: {mean:{'.4f' if abs(mean) > 1e-3 else '.4e'}}")
        return texts

    def _draw(self, current: int, now: float, duration: float, finalize: bool) -> None:
        screen = _redraws()
        if screen:
            waits = self._last_drawn is not None and now - self._last_drawn < self.interval
        else:
            waits = now - (self._last_drawn or self._start) < QUIET_SECONDS
        if waits and not finalize:
            return
        self._last_drawn = now
        goal, room, live = self._goal, _room(self.verbose), screen and not finalize
        clock = f"{now - self._start:.0f}s" if finalize or not goal else _remaining(duration * (goal - current))
        count, rate, metrics = self._count(current), f" {self._rate(duration)}", self._metrics()
        pieces = [(count, BOLD if goal else ""), (" ", "")]
        if goal:
            free = room - live - 1 - len(f"{count} {clock}{rate}")
            # A line that ends has its whole bar and may take several rows, or a shorter one that makes it fit in one.
            width = max(0, min(self.width, free - sum(map(len, metrics))))
            width = width or (0 if live else max(0, min(self.width, free)))
            done = int(width * min(current / goal, 1.0))
            pieces += [(BAR * done, GREEN), (BAR * (width - done), WHITE), (" " if width else "", "")]
        pieces += [(clock, BOLD), (rate, "")]
        if live:  # it must fit in one row: a carriage return cannot take back more
            pieces = _cut([*pieces, *((text, "") for text in metrics)], room - 1)
        else:
            head = "".join(text for text, _ in pieces)
            pieces += [("\n".join(_rows(head, metrics, room))[len(head) :], "")]
        self._print(pieces, screen, finalize)

    def _print(self, pieces: list[tuple[str, str]], screen: bool, finalize: bool) -> None:
        plain = "".join(text for text, _ in pieces)
        if not screen:
            say(plain)
            return
        if "NO_COLOR" in os.environ:
            pieces = [(plain, "")]
        painted = "".join(f"{style}{text}{RESET}" if style and text else text for text, style in pieces)
        _live.draw(self, painted, len(plain.partition("\n")[0]), last=finalize)


def _room(verbose: int) -> int:
    """The columns of a row: those of the terminal, 80 for a bar in a file; a notebook and logs need no rows."""
    if is_interactive_logging_enabled() and _is_terminal(sys.stdout):
        return shutil.get_terminal_size().columns
    return sys.maxsize if verbose == 2 or _redraws() or not is_interactive_logging_enabled() else 80


def _rows(head: str, metrics: list[str], room: int) -> list[str]:
    """`head` and the metrics behind it, in as many rows as they need; a name that is too long loses its middle."""
    rows = [head]
    for text in metrics:
        if len(text) > room:
            end = len(text) - text.rindex(":") + max(0, room // 4)
            text = f"{text[: max(0, room - end - 1)]}…{text[-end:]}"
        if len(rows[-1]) + len(text) <= room:
            rows[-1] += text
        else:
            rows.append(text)
    return rows


def _remaining(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    if seconds > 3600:
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}" if seconds > 60 else f"{int(seconds)}s"


def _cut(pieces: list[tuple[str, str]], room: int) -> list[tuple[str, str]]:
    """The pieces of text as far as they fit in `room` characters, with `…` at the end if some do not."""
    if sum(len(text) for text, _ in pieces) <= room:
        return pieces
    kept, room = [], room - 1
    for text, style in pieces:
        kept.append((text[:room], style))
        room -= len(text[:room])
    return [*kept, ("…", "")]
