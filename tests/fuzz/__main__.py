"""Fuzz the parsers: ``python -m tests.fuzz [TARGET ...] [--inputs N | --minutes M] [--processes P] [--seed S]``.

Prints a table: inputs, inputs per second, the slowest input, the peak memory, and every crash with its input in base64.
With ``--atheris TARGET`` coverage guides the mutations instead (``pip install atheris``); what follows is libFuzzer's.
"""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.runs import fuzz, guided


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the parsers of foreign bytes.")
    parser.add_argument("targets", nargs="*", help="names of targets (default: all)")
    parser.add_argument("--inputs", type=float, default=1e5, metavar="N", help="inputs of all targets together")
    parser.add_argument("--minutes", type=float, metavar="M", help="run for so long, in turns, instead of --inputs")
    parser.add_argument("--long", action="store_true", help="run until 1e8 inputs, or --minutes, are over")
    parser.add_argument("--processes", type=int, default=1, metavar="P")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true", help="let coverage guide the mutations of one target")
    options, rest = parser.parse_known_args()
    if options.atheris:
        return guided(options.targets[0], rest)
    inputs = int(1e8 if options.long else options.inputs)
    return fuzz(options.targets, inputs, options.minutes, options.processes, options.seed)


if __name__ == "__main__":
    sys.exit(main())
