"""One workload on one peer, in a process of its own; what it prints are results, a line of JSON each.

    echo turn | python -m benchmarks.worker mlp lamina   # what happens once, then what a line asks for, to the last
    python -m benchmarks.worker linear torch --whole     # import to prediction, for a watch held outside

Only the standard library is imported before the clock of "import" starts.
"""

import argparse
import json
import math
import os
import resource
import statistics
import sys
import time
from importlib import import_module

# What the import of a peer means, where it is not its name's first part.
MODULES = {"jax-optax": ("jax", "optax"), "flax-nnx": ("flax.nnx", "optax")}
EPOCHS, CALLS = 1.0, 0.25  # seconds of a turn: for epochs, and for each kind of call


def main() -> None:
    """Run what the command line names, and print its times in seconds."""
    args = arguments()
    started = time.perf_counter()
    name, *variant = args.peer.split("-")
    if name == "keras":
        os.environ["KERAS_BACKEND"] = variant[0]
    library, *_ = [import_module(module) for module in MODULES.get(args.peer, (name,))]
    imported = time.perf_counter() - started

    if args.workload == "growth":
        return print(json.dumps(import_module("benchmarks.growth").measure(library, args.quick)))
    # Only now: it imports numpy, which is a part of a library's own import.
    workload = import_module("benchmarks.workloads").WORKLOADS[args.workload]
    if args.workload == "own-loop":
        run = import_module("benchmarks.loops").LOOPS[args.peer](library, workload, args.quick)
    elif name == "torch":
        run = TorchRun(library, workload, args.quick, args.policy, compiled=variant == ["compile"])
    else:
        library.config.set_dtype_policy(args.policy)
        run = KerasRun(library, workload, args.quick, steps=int(variant[1]) if variant[1:] else 1)
    if args.whole:
        run.build()
        run.fit(workload.epochs)
        return run.predict(run.x)

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed is no answer
    result = {"import": imported, "build": seconds(run.build)}
    result["first_epoch"] = run.start(3 if args.quick else workload.epochs)
    run.evaluate()
    # Both clocks are the machine's monotonic one, so the parent's reading at the start can be used here.
    result["to_evaluation"] = time.monotonic() - args.started if args.started else None
    run.predict(run.x[:1]), run.call(run.x[:1]), run.train_on_batch(), run.train_on_batch()
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss counts bytes there, kilobytes elsewhere
    result["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(json.dumps(result | on_device()), file=answers)

    def last() -> dict[str, float]:
        counted = {"flops": run.flops()} if hasattr(run, "flops") and name in ("lamina", "jax") else {}
        streams = () if args.quick or name == "torch" else workload.streams  # they load other libraries
        return counted | {f"steady {stream}": run.stream(stream) for stream in streams}

    for line in sys.stdin:
        print(json.dumps({"turn": run.turn, "last": last}[line.strip()]()), file=answers)


def arguments() -> argparse.Namespace:
    """The command line: the parent has checked the names, so nothing is imported here to know them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker")
    parser.add_argument("workload")
    parser.add_argument("peer")
    parser.add_argument("--quick", action="store_true", help="fewer rows, epochs and repetitions")
    parser.add_argument("--policy", default="float32", help="the dtype policy of the model")
    parser.add_argument("--whole", action="store_true", help="only build, fit and predict; print nothing")
    parser.add_argument("--started", type=float, help="the parent's time.monotonic() at the start")
    return parser.parse_args()


def on_device() -> dict[str, int]:
    """The most bytes that were in use on a GPU, where there is one that a library of this process works on."""
    jax, torch = sys.modules.get("jax"), sys.modules.get("torch")
    if jax is not None and (found := jax.devices()[0].memory_stats()):
        return {"device_memory": found["peak_bytes_in_use"]}
    if torch is not None and torch.cuda.is_available():
        return {"device_memory": torch.cuda.max_memory_allocated()}
    return {}


def seconds(call) -> float:
    """Seconds that one call took."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def median(call, budget: float, at_least: int = 5) -> float:
    """Median seconds of a call, over as many as fit into `budget` seconds."""
    times = []
    while len(times) < at_least or sum(times) < budget:
        times.append(seconds(call))
    return statistics.median(times)


def first(outputs):
    """The tensor, or the first of several."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


class Run:
    """A workload's rows, made anew from a fixed seed; a subclass knows the library."""

    def __init__(self, library, workload, quick: bool):
        self.library, self.workload = library, workload
        self.x, self.y = workload.arrays(quick)
        self.count = 1  # epochs of a turn

    def start(self, count: int) -> float:
        """Run so many epochs, and return the seconds of the first."""
        (first,) = self.fit(1)
        self.count = count - 1
        spent = self.steady() * self.count
        self.count = math.ceil(self.count * EPOCHS / spent)
        return first

    def steady(self) -> float:
        """Seconds of a later epoch."""
        return statistics.median(self.fit(self.count))

    def turn(self) -> dict[str, float]:
        """What is done again and again, for a while each."""
        sample = self.x[:1]
        calls = {"predict": lambda: self.predict(sample), "call": lambda: self.call(sample)}
        calls["train_on_batch"] = self.train_on_batch
        found = {"steady_epoch": self.steady(), "evaluate": median(self.evaluate, CALLS, at_least=1)}
        return found | {name: median(call, CALLS) for name, call in calls.items()}


class KerasRun(Run):
    """lamina, or Keras on one of its backends: the same program, written as users write it."""

    def __init__(self, library, workload, quick: bool, steps: int = 1):
        super().__init__(library, workload, quick)
        self.options = {"steps_per_execution": steps} if steps > 1 else {}

    def build(self) -> None:
        workload = self.workload
        self.library.utils.set_random_seed(0)
        self.model = workload.model(self.library)
        loss = getattr(self.library.losses, workload.loss)(**workload.loss_options) if workload.loss else None
        self.model.compile(workload.optimizer, loss, metrics=list(workload.metrics), **self.options)

    def flops(self) -> int:
        """Floating point operations of a step of training, as lamina traces it."""
        model = self.model
        groups = model.trainable_variables, model.non_trainable_variables, model.optimizer.variables
        state = [[v.value for v in group] for group in (*groups, model.metrics_variables)]
        batch = self.x[: self.workload.batch], self.y[: self.workload.batch]
        return import_module("benchmarks.roofline").flops(model.train_step, state, batch)

    def stream(self, name: str) -> float:
        """Seconds of a steady epoch where the rows come from a stream."""
        make = import_module("benchmarks.streams").STREAMS[name]
        return statistics.median(self.fit(4, **make(self.library, self.x, self.y, self.workload.batch))[1:])

    def steady(self) -> float:
        return seconds(lambda: self.model.fit(**self.rows(), epochs=self.count, verbose=0)) / self.count  # nobody looks

    def rows(self) -> dict[str, object]:
        """The data of `fit`."""
        return {"x": self.x, "y": self.y, "batch_size": self.workload.batch}

    def fit(self, epochs: int, **data: object) -> list[float]:
        """Seconds of each epoch; the first counts from the call of `fit`, with all compilation."""
        data = data or self.rows()
        times = []

        class Clock(self.library.callbacks.Callback):
            # Epoch hooks only: a batch hook would slow the libraries that run several steps at once.
            def on_epoch_begin(self, epoch, logs=None):
                if epoch > 0:
                    self.start = time.perf_counter()

            def on_epoch_end(self, epoch, logs=None):
                float(logs["loss"])  # wait for the work, should the library hand out a promise
                times.append(time.perf_counter() - self.start)

        clock = Clock()
        clock.start = time.perf_counter()
        self.model.fit(**data, epochs=epochs, verbose=0, callbacks=[clock])
        return times

    def evaluate(self) -> None:
        self.model.evaluate(self.x, self.y, batch_size=self.workload.batch, verbose=0)

    def predict(self, x) -> None:
        self.model.predict(x, verbose=0)

    def call(self, x) -> None:
        self.library.ops.convert_to_numpy(first(self.model(x)))

    def train_on_batch(self) -> None:
        self.model.train_on_batch(self.x[: self.workload.batch], self.y[: self.workload.batch])


class TorchRun(Run):
    """Plain PyTorch, as one writes it by hand; the rows are tensors in memory, on the GPU if any, shuffled by index."""

    def __init__(self, library, workload, quick: bool, policy: str, compiled: bool):
        super().__init__(library, workload, quick)
        self.device = "cuda" if library.cuda.is_available() else "cpu"
        self.half, self.compiled = policy == "mixed_bfloat16", compiled
        # Channels first, as its users keep their images.
        self.x, self.y = (a.transpose(0, 3, 1, 2).copy() if a.ndim == 4 else a for a in (self.x, self.y))
        self.inputs, self.targets = self.tensor(self.x), self.tensor(self.y)

    def tensor(self, array):
        return self.library.from_numpy(array).to(self.device)

    def build(self) -> None:
        torch = self.library
        torch.manual_seed(0)
        self.model = self.workload.twin(torch).to(self.device)
        self.model = torch.compile(self.model) if self.compiled else self.model
        # Keras's constants, so that both do the same arithmetic.
        self.optimizer = {
            "adam": lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-7),
            "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, alpha=0.9, eps=1e-7),
        }[self.workload.optimizer](self.model.parameters())
        self.loss = self.workload.twin_loss(torch) if self.workload.twin_loss else self.named_loss()

    def named_loss(self):
        """What takes the logits where Keras takes probabilities."""
        nn, padding = self.library.nn, self.workload.padding
        crossentropy = nn.CrossEntropyLoss(ignore_index=padding)
        return {
            "MeanSquaredError": nn.MSELoss(),
            "BinaryCrossentropy": nn.BCEWithLogitsLoss(),
            # Classes in rows: those of a sentence's words follow each other.
            "SparseCategoricalCrossentropy": lambda out, true: crossentropy(out.flatten(0, -2), true.flatten()),
        }[self.workload.loss]

    def fit(self, epochs: int) -> list[float]:
        return [seconds(self.train) for _ in range(epochs)]

    def train(self) -> tuple[float, float]:
        self.model.train()
        return self.epoch(self.library.randperm(len(self.inputs), device=self.device), self.step)

    def evaluate(self) -> tuple[float, float]:
        self.model.eval()
        with self.library.no_grad():
            return self.epoch(self.library.arange(len(self.inputs), device=self.device), self.forward)

    def epoch(self, order, step) -> tuple[float, float]:
        """Mean loss and accuracy of `step` over all rows in the given order."""
        total, correct, counted = (self.library.zeros((), device=self.device) for _ in range(3))
        for rows in order.split(self.workload.batch):
            targets = self.targets[rows]
            outputs, loss = step(self.inputs[rows], targets)
            total += loss.detach() * len(rows)
            if self.workload.metrics:
                guess = outputs.argmax(-1) if "Categorical" in self.workload.loss else (outputs > 0).float()
                there = targets != self.workload.padding
                correct += ((guess == targets) & there).sum()
                counted += there.sum()
        return total.item() / len(order), correct.item() / max(counted.item(), 1)

    def forward(self, inputs, targets):
        with self.library.autocast(self.device, self.library.bfloat16, enabled=self.half):
            outputs = self.model(inputs)
            return outputs, self.loss(outputs, targets)

    def step(self, inputs, targets):
        outputs, loss = self.forward(inputs, targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return outputs, loss

    def predict(self, x) -> None:
        self.model.eval()
        with self.library.no_grad():
            first(self.model(self.tensor(x))).cpu().numpy()

    def call(self, x) -> None:
        first(self.model(self.tensor(x))).detach().cpu().numpy()

    def train_on_batch(self) -> None:
        self.model.train()
        self.step(self.inputs[: self.workload.batch], self.targets[: self.workload.batch])[1].item()


if __name__ == "__main__":
    main()
