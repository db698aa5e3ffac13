"""The command line: ``python -m csbviz doctor | info | prune | compress | evaluate | layout | bench | tune``.

This module holds the arguments, the exit codes and the messages; what a command does is in the module of
`csbviz.commands` that bears its name, and is imported only when the command runs.

Exit codes: 0 done, 1 a kernel computed a wrong result, 2 bad input (one line on stderr), 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from csbviz.errors import CSBVizError, InputError

__all__ = ["build_parser", "main"]

_MODEL_HELP = "model (.safetensors .pt .pth .onnx .npz .csbz), or sample:NAME"
_FILE_HELP = _MODEL_HELP.replace("or sample", "matrix (.smtx .mtx .npz, also .gz), or sample")


class _OneLineParser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _list_of(convert=str):
    """An argument type: values separated by commas."""

    def parse(text: str) -> list:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if not parts:
            raise argparse.ArgumentTypeError("a value or a list separated by commas is needed")
        return [convert(part) for part in parts]

    return parse


def _number(convert, fits, what: str):
    """An argument type: a number that fits."""

    def parse(text: str):
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return parse


_positive = _number(int, lambda value: value >= 1, "a whole number above zero")
_seed = _number(int, lambda value: 0 <= value < 2**32, "a whole number from 0 to 4294967295")
_fraction = _number(float, lambda value: 0 <= value < 1, "a fraction from 0 to below 1, such as 0.9")
_seconds = _number(float, lambda value: 0 < value < 1e6, "a number of seconds above zero")


def _block_size(text: str) -> tuple[int, int] | None:
    """``64``, ``64x32`` or ``auto`` (None)."""
    if text == "auto":
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r} is not a block size such as 64, 64x32 or auto")
    shape = tuple(int(side) for side in sides)
    for side in shape:
        if side < 1 or side & (side - 1):
            raise argparse.ArgumentTypeError(f"block size {text!r}: {side} is not a power of two")
    return shape if len(shape) == 2 else (shape[0], shape[0])


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from csbviz import __version__

    parser = _OneLineParser(
        prog="csbviz", description="See a pruned network's sparsity and its CSB blocks, and time its kernels."
    )
    parser.add_argument("--version", action="version", version=f"csbviz {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    adders = (
        _add_doctor,
        _add_info,
        _add_prune,
        _add_compress,
        _add_evaluate,
        _add_layout,
        _add_bench,
        _add_tune,
        _add_record,
    )
    for add in adders:
        command = add(commands)
        command.add_argument(
            "--json", metavar="PATH", help="write the result as JSON; - writes it to stdout instead of tables"
        )
    return parser


def _add_doctor(commands) -> argparse.ArgumentParser:
    return commands.add_parser("doctor", help="devices, versions, and which kernels can run here")


def _add_layers(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--layer",
        "--layers",
        metavar="NAME",
        action="append",
        help="only this layer of a model (repeatable; * and ? match; default: every prunable layer)",
    )


def _add_info(commands) -> argparse.ArgumentParser:
    command = commands.add_parser("info", help="layers or matrix: shape, nonzeros, sparsity")
    command.add_argument("file", metavar="FILE", help=_FILE_HELP)
    _add_layers(command)
    return command


def _add_prune(commands) -> argparse.ArgumentParser:
    command = commands.add_parser("prune", help="prune a model and save it")
    command.add_argument("file", metavar="FILE", help=_MODEL_HELP)
    command.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help="file to write (.safetensors, .npz; .onnx if FILE is one)",
    )
    command.add_argument(
        "--method",
        default="magnitude",
        help="magnitude, l2, random, …: what makes a weight worth keeping (default: %(default)s)",
    )
    command.add_argument(
        "--granularity",
        help="what goes as one (default: weight): nm, block, kernel, filter, row, column, head, layer",
    )
    command.add_argument("--nm", metavar="N:M", help="keep N of every M neighbours (usual: 2:4)")
    command.add_argument("--block", metavar="RxC", help="rows and columns of a block (usual: 8x8)")
    command.add_argument(
        "--heads", type=_positive, metavar="H", help="attention heads of a layer (usual: told from its width)"
    )
    command.add_argument(
        "--scope", default="global", help="global (one threshold) or layer (default: %(default)s)"
    )
    command.add_argument(
        "--sparsity",
        type=_fraction,
        default=0.9,
        help="fraction of the units that go; N:M goes by N and M (default: %(default)s)",
    )
    command.add_argument(
        "--seed", type=_seed, default=0, help="seed of random choices (default: %(default)s)"
    )
    _add_layers(command)
    command.add_argument(
        "--lock",
        metavar="NAME",
        action="append",
        help="leave this layer as it is (repeatable; * and ? match)",
    )
    return command


def _add_compress(commands) -> argparse.ArgumentParser:
    command = commands.add_parser("compress", help="quantise and Huffman-code a model, and save it")
    command.add_argument("file", metavar="FILE", help=_MODEL_HELP)
    command.add_argument("-o", "--output", metavar="OUT", required=True, help="file to write (.csbz)")
    for kind, usual in (("conv", 8), ("linear", 5)):
        command.add_argument(
            f"--{kind}-bits",
            type=_positive,
            default=usual,
            metavar="B",
            help=f"a {kind} layer keeps 2^B - 1 values and zero, B at most 8 (default: %(default)s)",
        )
    command.add_argument(
        "--sparsity", type=_fraction, help="prune by magnitude to this share first (default: as it is)"
    )
    command.add_argument("--evaluate", action="store_true", help="measure the accuracy after each stage")
    return command


def _add_evaluate(commands) -> argparse.ArgumentParser:
    command = commands.add_parser(
        "evaluate", help="accuracy, compression and theoretical speed-up of a model"
    )
    command.add_argument("file", metavar="FILE", help=_MODEL_HELP)
    command.add_argument("--task", help="what to measure it on (default: told from its tensors)")
    command.add_argument(
        "--limit", type=_positive, metavar="N", help="only the first N test examples: a quick look"
    )
    return command


def _add_blocks(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--block-size",
        type=_block_size,
        default=default,
        metavar="B",
        help="64, 64x32 or auto (default: %(default)s)",
    )


def _add_layout(commands) -> argparse.ArgumentParser:
    command = commands.add_parser("layout", help="CSB block grid, bytes per format, balance per strategy")
    command.add_argument("file", metavar="FILE", help=_FILE_HELP)
    _add_blocks(command, "auto")
    command.add_argument(
        "--order",
        choices=("row", "col", "morton"),
        default="row",
        help="order of the entries inside a block (default: %(default)s)",
    )
    command.add_argument(
        "--workers",
        type=_positive,
        help="workers that share the products (default: the processors of this machine)",
    )
    _add_layers(command)
    return command


def _add_bench(commands) -> argparse.ArgumentParser:
    command = commands.add_parser(
        "bench", help="verify and time kernels, and say whether sparse is faster here"
    )
    command.add_argument("files", metavar="FILE", nargs="+", help=_FILE_HELP)
    _add_measuring(command)
    return command


def _add_record(commands) -> argparse.ArgumentParser:
    command = commands.add_parser("record", help="measure, and save the run for the app to show anywhere")
    command.add_argument("files", metavar="FILE", nargs="*", help=_FILE_HELP)
    command.add_argument("--sample", metavar="ID", action="append", help="a sample model (repeatable)")
    command.add_argument("-o", "--output", metavar="OUT", required=True, help="file to write (.json)")
    command.add_argument("--title", help="name of the recording (default: the names of the files)")
    command.add_argument(
        "--prune", type=_fraction, metavar="S", help="prune models by magnitude to this sparsity first"
    )
    command.add_argument(
        "--strategies",
        action="store_true",
        help="record instead, for the page Balance, what each multiprocessor of a GPU does and when: "
        "one product (one layer, --op and --n) under every balance strategy",
    )
    _add_measuring(command)
    return command


def _add_measuring(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--n",
        type=_list_of(_positive),
        default="128",
        metavar="N,…",
        help="columns of B, or rows of a layer's input (default: %(default)s)",
    )
    command.add_argument(
        "--op",
        type=_list_of(),
        default="A@B,A.T@B",
        metavar="OP,…",
        help="A@B, A.T@B, A@x, A.T@x, and layer: forward and backward (default: %(default)s)",
    )
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    command.add_argument(
        "--dtype",
        type=_list_of(),
        default="float32",
        metavar="TYPE,…",
        help="float32, float64, float16, bfloat16 (default: %(default)s)",
    )
    command.add_argument(
        "--kernels", type=_list_of(), metavar="NAME,…", help="kernels to compare (default: all of the device)"
    )
    command.add_argument(
        "--threads", type=_positive, help="threads of every CPU kernel (default: all processors)"
    )
    command.add_argument(
        "--mode",
        choices=("warm", "cold"),
        default="warm",
        help="operands in cache, or weights from memory (default: %(default)s)",
    )
    command.add_argument(
        "--balance", default="auto", help="balance strategy of the CSB kernels (default: %(default)s)"
    )
    command.add_argument(
        "--min-time",
        type=_seconds,
        default=0.2,
        metavar="S",
        help="seconds of timing a kernel (default: %(default)s)",
    )
    _add_blocks(command, "auto")
    command.add_argument("--seed", type=_seed, default=0, help="seed of B and of pattern files' values")
    _add_layers(command)


def _add_tune(commands) -> argparse.ArgumentParser:
    command = commands.add_parser("tune", help="time every variant of the CSB kernels, and name the fastest")
    command.add_argument("files", metavar="FILE", nargs="+", help=_FILE_HELP)
    command.add_argument(
        "--n",
        type=_list_of(_positive),
        default="128",
        metavar="N,…",
        help="columns of B (default: %(default)s)",
    )
    command.add_argument(
        "--op", type=_list_of(), default="A@B,A.T@B", metavar="OP,…", help="operations (default: %(default)s)"
    )
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    command.add_argument("--dtype", default="float32", help="type of the values (default: %(default)s)")
    command.add_argument(
        "--kernels", type=_list_of(), metavar="NAME,…", help="CSB kernels to try (default: all of the class)"
    )
    command.add_argument(
        "--budget", type=_seconds, default=30.0, help="seconds for each product (default: %(default)g)"
    )
    _add_blocks(command, "auto")
    _add_layers(command)
    return command


def _check_json(destination: str | None) -> None:
    """Refuse a place where the JSON cannot be written before the work is done for it."""
    if destination in (None, "-"):
        return
    path = Path(destination)
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(
            f"--json: {destination} cannot be written; a file in an existing folder, or -, is needed."
        )


def _fail(message: str) -> int:
    print("csbviz: " + " ".join(message.split()), file=sys.stderr)
    return 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    code : int
        The exit code.
    """
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed help, the version or its one line
        return int(stop.code or 0)
    try:
        _check_json(args.json)
        command = importlib.import_module(f"csbviz.commands.{args.command}")
        code = command.run(args)
        sys.stdout.flush()
        return code
    except CSBVizError as error:
        return _fail(str(error))
    except BrokenPipeError:  # the reader of a pipe, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
