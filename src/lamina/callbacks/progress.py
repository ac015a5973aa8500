"""What training prints: the progress bar, and the switch between the screen and the log.

The bar is drawn with plain carriage returns, not with `rich`: its one line is Keras's, a `rich` live display
would take over stdout and start a thread of its own, and a carriage return works in a notebook too.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

_logger = logging.getLogger("lamina")
_settings = {"interactive": True}
_open_bars: list[Progbar] = []  # the bar whose line is still open on the screen, if any

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
    for bar in _open_bars:
        bar.clear()
    _write(f"{message}\n")


def _write(text: str) -> None:
    if sys.stdout is None:  # a process without a console
        return
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:  # such as an ASCII terminal
        text = text.replace(BAR, "=").encode(encoding, "replace").decode(encoding)
    sys.stdout.write(text)
    sys.stdout.flush()


def _is_terminal() -> bool:
    isatty = getattr(sys.stdout, "isatty", None)
    return isatty is not None and isatty() and os.environ.get("TERM") != "dumb"


def _redraws() -> bool:
    """Whether stdout is a screen that `\\r` takes a line back on: a terminal, a notebook, PyCharm."""
    in_notebook = type(sys.stdout).__module__.startswith("ipykernel")
    in_pycharm = "PYCHARM_HOSTED" in os.environ and sys.stdout is sys.__stdout__
    return is_interactive_logging_enabled() and (_is_terminal() or in_notebook or in_pycharm)


class Progbar:
    """A line such as `88/88 ━━━━━━━━━━━━━━━━━━━━ 0s 1ms/step - loss: 0.6`, redrawn in place on a screen.

    Where stdout is no screen (a file, a pipe), the last state alone is printed, without control characters.

    Args:
        target: how many steps there will be; `None` if unknown.
        width: characters of the bar; fewer where the terminal is too narrow for the line.
        verbose: 0 prints nothing, 1 draws the bar, 2 prints one short line at the end.
        interval: seconds between two drawings at least.
        stateful_metrics: names whose values are shown as they are; all others are averaged over the steps.
        stateless_metrics: names whose values are averaged, all others being shown as they are.
        unit_name: what a step is called.
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
        if stateful_metrics is not None and stateless_metrics is not None:
            raise ValueError(
                "Progbar: stateful_metrics and stateless_metrics must not be given both, "
                f"got {stateful_metrics!r} and {stateless_metrics!r}."
            )
        if verbose not in (0, 1, 2):
            raise ValueError(f"Progbar: verbose must be 0, 1 or 2, got {verbose!r}.")
        self.target = target
        self.width = width
        self.verbose = verbose
        self.interval = interval
        self.unit_name = unit_name
        self.stateful_metrics = set(stateful_metrics or ()) if stateless_metrics is None else None
        self.stateless_metrics = None if stateless_metrics is None else set(stateless_metrics)
        self._sums: dict[str, tuple[Any, int]] = {}  # name -> sum of the values, and of how many
        self._seen = 0
        self._start = time.monotonic()
        self._first: float | None = None  # when the first step was done: compilation is over
        self._last_drawn = -float("inf")
        self._shown = 0  # characters of the open line ...
        self._screen: Any = None  # ... and the stream that shows them

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
            say(f"{self._count(current)} - {clock} - {self._rate(duration)}{self._metrics()}")

    def add(self, n: int, values: Iterable[tuple[str, Any]] | None = None) -> None:
        """Show that `n` more steps are done."""
        self.update(self._seen + n, values)

    def clear(self) -> None:
        """Take the open line from the screen; the next update draws it anew."""
        if self._screen is sys.stdout:
            _write(f"\r{' ' * self._shown}\r")
        self._close()

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
        """Seconds a step, not counting the first one, which compiles, if it was alone."""
        if current == 1:
            self._first = now
        if self._first is not None and current > 1:
            return (now - self._first) / (current - 1)
        return (now - self._start) / current if current else 0.0

    @property
    def _goal(self) -> int:
        return max(self.target or 0, 0)  # 0: unknown

    def _count(self, current: int) -> str:
        goal = self._goal
        return f"{current:{len(str(goal))}d}/{goal}" if goal else f"{current:7d}/Unknown"

    def _rate(self, duration: float) -> str:
        for size, unit in ((1.0, "s"), (1e-3, "ms")):
            if duration >= size or not duration:
                return f"{duration / size:.0f}{unit}/{self.unit_name}"
        return f"{duration / 1e-6:.0f}us/{self.unit_name}"

    def _metrics(self) -> str:
        text = ""
        for name, (total, count) in self._sums.items():
            mean = float(np.mean(total)) / count
            text += f" - {name}: {mean:{'.4f' if abs(mean) > 1e-3 else '.4e'}}"
        return text

    def _draw(self, current: int, now: float, duration: float, finalize: bool) -> None:
        screen = _redraws()
        if not finalize and (not screen or now - self._last_drawn < self.interval):
            return
        self._last_drawn = now
        goal = self._goal
        ahead = goal and not finalize
        clock = _remaining(duration * (goal - current)) if ahead else f"{now - self._start:.0f}s"
        pieces = [(self._count(current), BOLD if goal else ""), (" ", "")]
        tail = [(clock, BOLD), (f" {self._rate(duration)}{self._metrics()}", "")]
        room = shutil.get_terminal_size().columns - 1 if _is_terminal() else sys.maxsize
        if goal:
            width = max(0, min(self.width, room - 1 - sum(len(text) for text, _ in pieces + tail)))
            width = width or (self.width if finalize else 0)  # the last line may wrap
            done = int(width * min(current / goal, 1.0))
            pieces += [(BAR * done, GREEN), (BAR * (width - done), WHITE), (" " if width else "", "")]
        # A live line must fit in one row: a carriage return cannot take back more.
        self._print(pieces + tail if finalize else _cut(pieces + tail, room), screen, finalize)

    def _print(self, pieces: list[tuple[str, str]], screen: bool, finalize: bool) -> None:
        plain = "".join(text for text, _ in pieces)
        if not screen:
            say(plain)
            return
        for bar in [each for each in _open_bars if each is not self]:  # an outer bar, or one left by Ctrl-C
            if bar._screen is sys.stdout:
                _write("\n")
            bar._close()
        if "NO_COLOR" in os.environ:
            pieces = [(plain, "")]
        painted = "".join(f"{style}{text}{RESET}" if style and text else text for text, style in pieces)
        # Spaces, and no "erase line" code: notebooks do not know it.
        _write(f"\r{painted}{' ' * (self._shown - len(plain))}" + ("\n" if finalize else ""))
        self._close()
        if not finalize:
            _open_bars.append(self)
            self._shown, self._screen = len(plain), sys.stdout

    def _close(self) -> None:
        self._shown, self._screen = 0, None
        if self in _open_bars:
            _open_bars.remove(self)


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
