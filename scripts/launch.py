"""Starts a program as several processes of one job, on this machine.

  python scripts/launch.py --processes=2 --devices=4 main.py --config=configs/vlbert_pretrain.py
  python scripts/launch.py --processes=2 -- -m package.module

Each process is told who the others are, and how many virtual CPU devices it has (`--devices`;
without it, the devices are JAX' own choice). Lines of output begin with the process' number.
SIGTERM and Ctrl-C are passed on. When one process fails, the others have `--grace` seconds to end.
The exit code is that of the first process that failed, else 0.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading
import time


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def environment(number: int, count: int, port: int, devices: int | None) -> dict[str, str]:
    """What a process finds around it; runtime/cluster.py reads it."""
    told = dict(
        JAX_COORDINATOR_ADDRESS=f"127.0.0.1:{port}",
        JAX_NUM_PROCESSES=str(count),
        JAX_PROCESS_ID=str(number),
    )
    if devices is not None:
        told |= dict(JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES=str(devices))
    return os.environ | told


def copy_lines(number: int, process: subprocess.Popen) -> None:
    """Prints what a process prints, line by line."""
    for line in process.stdout:
        sys.stdout.write(f"[{number}] {line}")
        sys.stdout.flush()


def wait(processes: list[subprocess.Popen], grace: float) -> int:
    """Waits for all; after the first failure for `grace` seconds. Returns the exit code."""
    failed, until = 0, None
    while any(process.poll() is None for process in processes):
        codes = [process.poll() for process in processes]
        if not failed and any(codes):
            failed = next(code for code in codes if code)
            number = codes.index(failed)
            print(f"process {number} ended with exit code {failed}", flush=True)
            until = time.monotonic() + grace
        if until and time.monotonic() > until:
            late = [i for i, process in enumerate(processes) if process.poll() is None]
            print(f"ending processes {late}, {grace:g} s after that", flush=True)
            for number in late:
                processes[number].kill()
            until = None
        time.sleep(0.05)
    failed = failed or next((p.returncode for p in processes if p.returncode), 0)
    return failed if failed >= 0 else 128 - failed  # ended by a signal


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--devices", type=int, help="virtual CPU devices of each process")
    parser.add_argument("--grace", type=float, default=30, help="seconds, after a failure")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="arguments of Python")
    args = parser.parse_args()
    args.command = args.command[args.command[:1] == ["--"] :]
    if not args.command or args.processes < 1:
        parser.error("give at least one process, and what to run, such as main.py --config=…")
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, *args.command],
            env=environment(number, args.processes, port, args.devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches them once, through this process
        )
        for number in range(args.processes)
    ]

    def pass_on(number, frame):
        del frame
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    printers = [
        threading.Thread(target=copy_lines, args=pair, daemon=True) for pair in enumerate(processes)
    ]
    for printer in printers:
        printer.start()
    code = wait(processes, args.grace)
    for printer in printers:
        printer.join(timeout=5)
    return code


if __name__ == "__main__":
    sys.exit(main())
