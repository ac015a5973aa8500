"""Teach the digits on eight virtual devices, and then in two processes: the same script, and the same result.

    python examples/scale.py         (or `make demo-scale`, which installs what is needed first)

Prints for each plan the accuracy, and what travels between devices in a step.
"""

import os
import socket
import subprocess
import sys

import lamina
from lamina import distribution, layers
from lamina.core import placement

PLANS = ("none", "data", "fsdp")


def train():
    """What every device and process runs: a plan from the environment, and an ordinary program."""
    if "LAMINA_PROCESSES" in os.environ:
        address, count, number = os.environ["LAMINA_PROCESSES"].split()
        distribution.initialize(address, int(count), int(number))
    lamina.utils.set_random_seed(7)
    (x_train, y_train), (x_test, y_test) = lamina.datasets.digits.load_data()
    x_train, x_test = (x.reshape(len(x), 64).astype("float32") / 16 for x in (x_train, x_test))
    model = lamina.Sequential(
        [
            lamina.Input((64,)),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(256, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=64, epochs=10, verbose=0)
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    traffic = distribution.explain(model, x_train[:64], y_train[:64])
    if placement.is_first():
        print(f"accuracy {accuracy:.2%}, loss {loss:.6f}\n{traffic}")


def launch(plan, devices, processes=1):
    """Run this script again, in as many processes as are asked for."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started = []
    for number in range(processes):
        env = {**os.environ, "LAMINA_DISTRIBUTION": plan, "JAX_PLATFORMS": "cpu"}
        env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices // processes}"
        if processes > 1:
            env["LAMINA_PROCESSES"] = f"{address} {processes} {number}"
        command = [sys.executable, __file__, "worker"]
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
    for each in started:
        out, _ = each.communicate()
        if each.returncode:
            raise SystemExit(f"{plan} on {devices} devices: a process failed")
        # Not how they found each other.
        print("\n".join(line for line in out.splitlines() if not line.startswith("[Gloo]")))


def main():
    for plan in PLANS:
        print(f"== {plan}, {1 if plan == 'none' else 8} devices, 1 process")
        launch(plan, 1 if plan == "none" else 8)
    print("== fsdp, 8 devices, 2 processes")
    launch("fsdp", 8, processes=2)


if __name__ == "__main__":
    train() if "worker" in sys.argv else main()
