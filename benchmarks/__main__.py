"""Run every workload on every peer, each in its own process, and print the tables.

python -m benchmarks                                   # all of it
python -m benchmarks --quick                           # some of them, fewer rows, one turn: two to four minutes
python -m benchmarks --workloads mlp,lstm --peers lamina,torch --markdown table.md
python -m benchmarks --gpu --policy mixed_bfloat16     # on a GPU, into benchmarks/results
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console

from .noise import Watch
from .report import failures, machine, markdown, print_tables, tables
from .workloads import WORKLOADS
from .workloads.workload import PEERS

NAMES = (*WORKLOADS, "growth", "process")
ALL_PEERS = tuple(dict.fromkeys([*PEERS, *(peer for workload in WORKLOADS.values() for peer in workload.peers)]))
RESULTS = Path(__file__).parent / "results"
QUICK = ("linear", "convnet", "gpt", "own-loop", "growth", "process")
VARIANTS = ("keras-jax-32", "torch-compile")  # another setting of a peer: not in a quick look, nor as a process
NOT_ON_GPU, NOT_ON_CPU = ("keras-tensorflow",), ("torch-compile",)  # which has no GPU here, and needs a C++ compiler
LIMIT = 400  # seconds: a process that says nothing for so long is ended
ROUNDS = 4


def main() -> None:
    """Measure what the command line asks for; print the tables, and write them where it says."""
    args = arguments()
    console = Console(width=None if sys.stdout.isatty() else 150)
    about, watch = machine(), Watch()
    if args.gpu:
        name = card()
        about = f"{name}, {args.policy}; {about}"
        to = RESULTS / f"{'-'.join(name.lower().split())}-{args.policy}"
        args.json, args.markdown = args.json or to.with_suffix(".json"), args.markdown or to.with_suffix(".md")
        args.json.parent.mkdir(parents=True, exist_ok=True)
    peaks = measure_peaks(args.gpu)
    about += "".join(f"; {peak / 1e9:,.0f} GFLOP/s in float32 matmuls on {which}" for which, peak in peaks.items())
    console.print(about, style="dim", highlight=False)
    results = measure(args, console)
    report = tables(results, peaks, args.quick)
    notes = [*watch.notes(), *failures(results)]
    print_tables(report, notes, console)
    if args.json:
        everything = {"machine": about, "notes": notes, "peaks": peaks, "quick": args.quick, "results": results}
        args.json.write_text(json.dumps(everything, indent=2) + "\n")
    if args.markdown:
        args.markdown.write_text(markdown(report, notes, about))


def arguments() -> argparse.Namespace:
    """The command line, with lists of names checked."""

    def names(known):
        def parse(text):
            chosen = text.split(",")
            if unknown := [name for name in chosen if name not in known]:
                raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(known)}")
            return chosen

        return parse

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="lamina beside its peers")
    parser.add_argument("--workloads", type=names(NAMES), help=f"a comma-separated part of {','.join(NAMES)}")
    parser.add_argument("--peers", type=names(ALL_PEERS), help=f"a part of {','.join(ALL_PEERS)}")
    parser.add_argument("--rounds", type=int, help=f"turns of each peer; the best counts ({ROUNDS}; quick: 1)")
    parser.add_argument("--quick", action="store_true", help="some of them, fewer rows, one turn: a look")
    parser.add_argument("--gpu", action="store_true", help="on a GPU, with the peers that use it")
    parser.add_argument("--policy", default="float32", help="the dtype policy of all models, such as mixed_bfloat16")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every number, in seconds and bytes")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    args = parser.parse_args()
    args.workloads = args.workloads or (QUICK if args.quick else NAMES)
    without = NOT_ON_GPU if args.gpu else NOT_ON_CPU
    args.peers = args.peers or [peer for peer in ALL_PEERS if peer not in without]
    args.rounds = args.rounds or (1 if args.quick else ROUNDS)
    return args


def measure(args: argparse.Namespace, console: Console) -> dict:
    """`{workload: {peer: {what: value}}}`."""
    quick, options = args.quick, [*["--quick"] * args.quick, "--policy", args.policy]
    chosen = {name: peers_of(name, args.peers, quick) for name in args.workloads}
    results = {name: {peer: {} for peer in names} for name, names in chosen.items() if names}
    try:
        for name, by_peer in results.items():
            if name == "process":
                by_peer.update({peer: whole_process(peer, quick, args.policy) for peer in by_peer})
            elif name == "growth":
                by_peer["lamina"] = printed(["worker", name, "lamina", *options], "lamina")
            else:  # on a GPU one after the other: each takes most of its memory
                for group in [{peer: found} for peer, found in by_peer.items()] if args.gpu else [by_peer]:
                    side_by_side(name, group, options, args.rounds, console)
    except KeyboardInterrupt:
        console.print("stopped: the tables hold what was measured until now", style="dim")
    return results


def peers_of(name: str, chosen, quick: bool) -> list[str]:
    """Which of the chosen peers a workload is for."""
    known = {"growth": ("lamina",), "process": PEERS}.get(name) or WORKLOADS[name].peers
    without = VARIANTS if quick or name == "process" else ()
    return [peer for peer in chosen if peer in known and peer not in without]


def side_by_side(name: str, by_peer: dict, options: list[str], rounds: int, console: Console) -> None:
    """Have the processes of a workload's peers take turns, one at work at a time, so that noise meets all alike.

    The least value counts, as noise only adds.
    """
    with contextlib.ExitStack() as stack:
        # The compilation cache is empty, as on a first run.
        workers = {peer: stack.enter_context(Worker(name, peer, options)) for peer in by_peer}
        for turn, word in enumerate(("", *["turn"] * rounds, "last")):
            for peer, found in by_peer.items():
                if "failed" not in found:
                    start = time.monotonic()
                    keep_least(found, workers[peer].answer(word))
                    outcome = "failed" if "failed" in found else f"{time.monotonic() - start:.1f} s"
                    console.print(f"{name:12} {turn + 1}/{rounds + 2}  {peer:17} {outcome}", style="dim")


def keep_least(found: dict, new: dict) -> None:
    """Merge a round into what earlier ones found."""
    for key, value in new.items():
        found[key] = min(found[key], value) if key in found else value


class Worker:
    """A process of a workload and peer, which begins with the first question and works while it is asked."""

    def __init__(self, workload: str, peer: str, options: list[str]):
        self.command, self.peer, self.process = ["worker", workload, peer, *options], peer, None

    def __enter__(self):
        self.folder, self.errors = tempfile.TemporaryDirectory(), tempfile.TemporaryFile("w+")
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        self.errors.close()
        self.folder.cleanup()

    def answer(self, word: str) -> dict:
        """What the process says: without a word, of what happens once, when it begins."""
        if self.process is None:
            command = [*self.command, "--started", str(time.monotonic())]
            self.process = subprocess.Popen(
                **of_process(command, self.peer, self.folder.name), text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            )  # fmt: skip
        watch = threading.Timer(LIMIT, self.process.kill)
        watch.start()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{word}\n" if word else "")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        late = not watch.is_alive()
        watch.cancel()
        if line:
            return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        return {"failed": f"took more than {LIMIT} seconds" if late else last_line(self.errors.read())}


def card() -> str:
    """The name of the GPU that JAX finds."""
    found = printed(["roofline", "--card"], "jax")
    if isinstance(found, dict):
        sys.exit(f"python -m benchmarks --gpu: must run where JAX has a GPU, as jax[cuda12] does: {found['failed']}")
    return found


def measure_peaks(gpu: bool) -> dict[str, float]:
    """FLOPs a second that matmuls reach, on all cores and on one, or on the GPU."""
    kinds = {"all cores": []} | ({"one core": ["--one"]} if hasattr(os, "sched_setaffinity") else {})
    kinds = {"the GPU": []} if gpu else kinds
    found = {name: printed(["roofline", *options], "jax") for name, options in kinds.items()}
    return {name: value for name, value in found.items() if isinstance(value, float)}


def printed(command: list[str], peer: str):
    """What a process prints last, as JSON; its error if it has none."""
    with tempfile.TemporaryDirectory() as folder:
        done, error = run_to_end(command, peer, folder)
    return {"failed": error} if error else json.loads(done.stdout.splitlines()[-1])


def whole_process(peer: str, quick: bool, policy: str) -> dict:
    """Seconds of the linear classifier as a program: start, import, 20 epochs, predictions, exit."""
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        # The second run finds the executables that the first one stored, if the library stores any.
        for which in ("cold", "warm") if not quick or peer == "lamina" else ("cold",):
            start = time.perf_counter()
            _, error = run_to_end(["worker", "linear", peer, "--whole", "--policy", policy], peer, folder)
            if error:
                return {"failed": error}
            times[which] = time.perf_counter() - start
    return times


def run_to_end(command: list[str], peer: str, folder: str):
    """Run a module of ours to its end; its outcome, and its error if any."""
    try:
        done = subprocess.run(
            **of_process(command, peer, folder), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return None, f"took more than {LIMIT} seconds"
    return done, last_line(done.stderr) if done.returncode else None


def of_process(command: list[str], peer: str, folder: str) -> dict:
    """How a module of ours is run, untouched by the user's own settings."""
    module, *options = command
    settings = ("JAX_", "KERAS_", "TF_", "XLA_")
    kept = {"JAX_PLATFORMS"}  # which device to use is the user's choice
    env = {key: value for key, value in os.environ.items() if key in kept or not key.startswith(settings)}
    env |= {"KERAS_HOME": folder, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if peer == "lamina":  # it keeps compiled code between runs by default: here, in a folder of its own
        env["JAX_COMPILATION_CACHE_DIR"] = folder
    return {"args": [sys.executable, "-m", f"benchmarks.{module}", *options], "env": env}


def last_line(text: str) -> str:
    """The last line of an error that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it ended and said nothing"


if __name__ == "__main__":
    main()
