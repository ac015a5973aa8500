"""From numbers to tables: one structure, printed in colour or written as Markdown."""

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import geometric_mean

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from .workloads import WORKLOADS

ROWS = {
    "import": "import",
    "build": "build and compile()",
    "first_epoch": "first epoch",
    "steady_epoch": "steady epoch",
    "evaluate": "evaluate",
    "predict": "predict, one sample",
    "call": "model(x), one sample",
    "train_on_batch": "train_on_batch",
    "memory": "peak memory",
    "to_evaluation": "start to evaluation",
}
PROCESS_ROWS = {"cold": "first run", "warm": "every later run"}
PROCESS = f"A whole process: import, {WORKLOADS['linear'].epochs} epochs of the linear classifier, prediction, exit"
NOTE = "A ratio is to lamina's value in the same row: 3.0x means that lamina needs a third."


@dataclass(frozen=True)
class Cell:
    """A value as text, and how many times lamina's it is."""

    text: str
    ratio: float | None = None


@dataclass(frozen=True)
class Table:
    """Rows of cells, one for each peer."""

    title: str
    peers: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def tables(results: dict, peers, quick: bool) -> list[Table]:
    """One table for each workload, and a last one of the steady epochs."""
    found = []
    for name, by_peer in results.items():
        if name == "process":
            title, labels = PROCESS, PROCESS_ROWS
        else:
            title, labels = WORKLOADS[name].title.format(rows=WORKLOADS[name].size(quick)), ROWS
            labels |= {f"steady {stream}": f"epoch from {stream}" for stream in streams_of(name, by_peer)}
        rows = tuple((label, cells(by_peer, peers, key)) for key, label in labels.items())
        found.append(Table(title, tuple(peers), rows))
    trained = {name: by_peer for name, by_peer in results.items() if name != "process"}
    if len(trained) > 1:
        rows = [(name, cells(by_peer, peers, "steady_epoch")) for name, by_peer in trained.items()]
        found.append(Table("Summary: steady epoch", tuple(peers), (*rows, means(rows))))
    return found


def streams_of(name: str, by_peer: dict) -> tuple[str, ...]:
    """The streams that were measured."""
    return (
        WORKLOADS[name].streams
        if any(f"steady {s}" in v for v in by_peer.values() for s in WORKLOADS[name].streams)
        else ()
    )


def cells(by_peer: dict, peers, key: str) -> tuple[Cell, ...]:
    """One row: the value of each peer, and its ratio to lamina's where there is one."""
    base = by_peer.get("lamina", {}).get(key)

    def cell(peer):
        value = by_peer[peer].get(key)
        if value is None:
            return Cell("failed" if "failed" in by_peer[peer] else "-")
        text = f"{value / 2**20:,.0f} MB" if key == "memory" else duration(value)
        return Cell(text, value / base if base and peer != "lamina" else None)

    return tuple(cell(peer) for peer in peers)


def means(rows) -> tuple[str, tuple[Cell, ...]]:
    """The last row of the summary: the geometric mean of each peer's ratios."""
    columns = zip(*(row for _, row in rows))
    ratios = [[cell.ratio for cell in column if cell.ratio is not None] for column in columns]
    return "geometric mean", tuple(Cell("", geometric_mean(column) if column else None) for column in ratios)


def failures(results: dict) -> list[str]:
    """A line for each process that did not finish."""
    return [
        f"{name} on {peer} failed: {found['failed']}"
        for name, by_peer in results.items()
        for peer, found in by_peer.items()
        if "failed" in found
    ]


def duration(seconds: float) -> str:
    """Seconds as text of three digits, in the unit that fits."""
    unit, size = next((u for u in (("s", 1.0), ("ms", 1e-3)) if seconds >= u[1]), ("µs", 1e-6))
    value = seconds / size
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f} {unit}"


def times(ratio: float) -> str:
    """A ratio as text."""
    return f"{ratio:.2f}x" if ratio < 0.95 else f"{ratio:.1f}x" if ratio < 99.5 else f"{ratio:,.0f}x"


def machine() -> str:
    """One line about what the numbers were taken on."""
    versions = []
    for name in ("lamina", "keras", "jax", "tensorflow", "tensorflow-cpu", "torch"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor()}, {cores} cores; Python {platform.python_version()}, {', '.join(versions)}"


def processor() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def print_tables(report: list[Table], notes: list[str], console: Console) -> None:
    """Print all tables; green where lamina needs less, red where it needs more."""
    for table in report:
        # Not on rich's title, which would be wrapped to the width of a narrow table.
        console.print(f"\n[bold]{table.title}[/bold]", highlight=False)
        rich = RichTable(header_style="bold")
        rich.add_column("")
        for peer in table.peers:
            rich.add_column(peer, justify="right")
        for label, row in table.rows:
            rich.add_row(label, *(coloured(cell) for cell in row))
        console.print(rich)
    console.print(NOTE, style="dim")
    for line in notes:
        console.print(line, style="red", markup=False, highlight=False)


def coloured(cell: Cell) -> Text:
    """A cell for the terminal."""
    text = Text(cell.text, style="red" if cell.text == "failed" else "")
    if cell.ratio is not None:
        style = "green" if cell.ratio > 1.05 else "red" if cell.ratio < 0.95 else "dim"
        text.append(f" {times(cell.ratio):>6}", style=style)
    return text


def markdown(report: list[Table], notes: list[str], about: str) -> str:
    """All tables as Markdown."""
    lines = [f"Measured on {about}.", "", NOTE]
    for table in report:
        lines += ["", f"**{table.title}**", "", "| | " + " | ".join(table.peers) + " |"]
        lines.append("|---|" + "---:|" * len(table.peers))
        for label, row in table.rows:
            lines.append(f"| {label} | " + " | ".join(plain(cell) for cell in row) + " |")
    if notes:
        lines += ["", *(f"- {line}" for line in notes)]
    return "\n".join(lines) + "\n"


def plain(cell: Cell) -> str:
    """A cell for Markdown."""
    return f"{cell.text} ({times(cell.ratio)})".strip() if cell.ratio is not None else cell.text
