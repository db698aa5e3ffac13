"""A process that measures on the GPU, watched by another: a kernel that breaks it does not end the run."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["compile_all", "in_worker"]

_SILENCE_SECONDS = 40.0
"""A worker that says nothing for so long hangs."""


def in_worker(measure: Callable, count: int, *arguments) -> Iterator[tuple[str, Any]]:
    """What ``measure(index, skip, say, *arguments)`` says for each index, in a process of its own.

    Parameters
    ----------
    measure : callable
        A function of a module. `skip` is the set of kernels that broke a worker before; ``say(kind, value)``
        hands something on. It says ``"kernel"`` and a name before it runs a kernel.
    count : int
        Number of calls.

    Yields
    ------
    kind, value
        As said, and ``("lost", (index, kernel))`` for a kernel that took its process along; a new process
        begins that index once more, without the kernel.
    """
    context = multiprocessing.get_context("spawn")
    index, skip = 0, set()
    while index < count:
        mine, theirs = context.Pipe(duplex=False)
        arguments_now = (theirs, measure, index, count, skip, arguments)
        worker = context.Process(target=_work, args=arguments_now, daemon=True)
        worker.start()
        theirs.close()
        kernel = ""
        try:
            while mine.poll(_SILENCE_SECONDS):
                kind, value = mine.recv()
                if kind == "kernel":
                    kernel = value
                elif kind == "index":
                    index = value
                else:
                    yield kind, value
        except EOFError:
            pass
        finally:  # the caller may have had enough, too
            worker.kill()
            worker.join(5.0)
        if index < count:
            if kernel in skip or not kernel:
                raise SystemExit(f"The worker ended at matrix {index} and no kernel explains it.")
            skip.add(kernel)
            yield "lost", (index, kernel)


def _work(pipe, measure: Callable, first: int, count: int, skip: set, arguments: tuple) -> None:
    def say(kind: str, value: Any) -> None:
        pipe.send((kind, value))

    for index in range(first, count):
        measure(index, skip, say, *arguments)
        say("index", index + 1)


def compile_all(leave_out: tuple[str, ...] = ("float64", "int64", "uint16")) -> float:
    """Compile every instantiation for the first GPU into the cache on disk, in parallel; seconds taken.

    Parameters
    ----------
    leave_out : tuple of str
        Template arguments that the benchmark does not need.
    """
    from csbviz.ops.cuda.driver import read_driver
    from csbviz.ops.cuda.module import SOURCES, instantiations

    start = time.perf_counter()
    capability = read_driver().gpus[0].capability
    wanted = [
        (function, capability)
        for function in instantiations()
        if SOURCES[function.source].fits(capability)
        and not set(leave_out) & set(map(str, function.arguments))
    ]
    with multiprocessing.get_context("spawn").Pool() as pool:
        for problem in pool.imap_unordered(_compile, wanted, chunksize=1):
            if problem:
                print(problem, file=sys.stderr, flush=True)
    return time.perf_counter() - start


def _compile(job: tuple) -> str | None:
    from cupy_backends.cuda.libs import nvrtc

    from csbviz.errors import CSBVizError
    from csbviz.ops.cuda.compiler import architecture, compile_source
    from csbviz.ops.cuda.module import SOURCES, read_source

    function, capability = job
    target = architecture(capability, max(nvrtc.getSupportedArchs()), SOURCES[function.source].exact)
    try:
        compile_source(function.source, read_source(function.source), function.expression, target)
    except CSBVizError as error:
        return f"{function.expression}: {error}"
    return None
