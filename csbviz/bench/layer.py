"""A whole layer, forward and backward: CSB from one copy against CSR with two and against the dense layer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np

from csbviz.bench.contender import FAILURES, note_failure
from csbviz.bench.gpu_timing import clocks
from csbviz.bench.names import LAYER_OPS
from csbviz.bench.noise import UNSTEADY, OthersLoad, spread
from csbviz.bench.record import OK, Record
from csbviz.bench.timing import time_cpu
from csbviz.bench.verify import ERROR_BOUNDS, relative_error
from csbviz.errors import OptionError
from csbviz.ops.devices import device_name, gpu_state, versions
from csbviz.ops.threads import check_threads, use_threads

__all__ = ["MAX_TOKENS", "bench_layer"]

MAX_TOKENS = 1 << 16

ROUNDS, EXTRA_ROUNDS = 3, 4
"""Contenders are timed in turn, and the unsteady ones a few times more, as in `csbviz.bench.run`."""

_PRODUCTS = {"layer.forward": 1, "layer.backward": 2, "layer": 3}
"""Products with the stored entries that a pass consists of: W·X, Wᵀ·G, and the one sampled there."""


def bench_layer(
    csr,
    *,
    name: str = "matrix",
    tokens: Sequence[int] = (128,),
    device: str = "cpu",
    threads: int | None = None,
    min_time: float = 0.2,
    seed: int = 0,
    dtype: str = "float32",
    block_shape: tuple[int, int] | None = None,
    order: str = "row",
    layout: str = "tokens_first",
    progress: Callable[[float, str], None] | None = None,
) -> list[Record]:
    """Verify and time the layer Y = X·Wᵀ + b with gradients of X, of the stored weights and of b.

    Parameters
    ----------
    csr : scipy.sparse.csr_matrix
        W, out_features x in_features; its entries are the trainable weights.
    name : str
        Name of the matrix in the records.
    tokens : sequence of int
        Numbers of rows of X.
    device : str
        "cpu" or "cuda".
    threads : int, optional
        Threads of every CPU contender; all processors by default.
    min_time : float
        Seconds of timing a contender and operation.
    seed : int
        Seed of X, b and the gradient of Y.
    dtype : str
        "float32" or "float64".
    block_shape, order
        Layout of the CSB matrix; blocks that suit the device by default.
    layout : {"tokens_first", "features_first"}
        How activations lie in memory. With the tokens first the sparse layers transpose X, Y and both
        gradients on the device, which is part of what is timed.
    progress : callable, optional
        ``progress(fraction, message)`` before each step.

    Returns
    -------
    records : list of Record
        For each number of tokens and each of `LAYER_OPS` one of the CSB layer, of the CSR layer that keeps a
        second, transposed copy, and of `torch.nn.Linear` with its zeros. `n` is the number of tokens; the
        error is the largest among Y and all gradients; `bytes` are those of the weights as stored. On a GPU
        times are those of CUDA graph replays.

    Raises
    ------
    OptionError
        If an option is not valid.
    JobError
        If a contender fails in a way that leaves this process without the GPU.
    """
    from csbviz.formats import choose_block_shape
    from csbviz.nn.linear import LAYOUTS

    _check(tokens, device, dtype, layout, LAYOUTS)
    threads = check_threads(threads)
    report = progress or (lambda fraction, message: None)
    csr = csr.astype(dtype).tocsr()
    csr.sort_indices()
    if block_shape is None:
        block_shape = choose_block_shape(csr.shape, csr.nnz, device=device)
    records: list[Record] = []
    for index, n in enumerate(tokens):

        def step(part: float, message: str, index=index, n=n) -> None:
            report((index + part) / len(tokens), f"Layer, {n} tokens: {message}")

        bench = _LayerBench(csr, name, n, device, threads, seed, tuple(block_shape), order, layout)
        records += bench.run(min_time, step)
    report(1.0, "Done")
    return records


def _check(tokens, device: str, dtype: str, layout: str, layouts) -> None:
    for n in tokens:
        if not 1 <= n <= MAX_TOKENS:
            raise OptionError(f"The number of tokens must be between 1 and {MAX_TOKENS}; {n} was asked for.")
    for what, value, known in (
        ("device", device, ("cpu", "cuda")),
        ("layout", layout, layouts),
    ):
        if value not in known:
            raise OptionError(f"There is no {what} {value!r}; known are {', '.join(known)}.")
    if dtype not in ("float32", "float64"):
        raise OptionError(f"Layers are timed with float32 or float64 values; {dtype} was asked for.")


class _Contender:
    """One layer with its records, one an operation."""

    def __init__(self, records: dict[str, Record], make: Callable):
        self.records, self._make = records, make
        self.layer = None
        self.timers: dict[str, Callable[[float], np.ndarray]] = {}
        self.samples: dict[str, list] = {op: [] for op in records}

    def prepare(self, case):
        start = time.perf_counter()
        self.layer = self._make(case)
        return time.perf_counter() - start

    @property
    def ok(self) -> bool:
        return all(record.status == OK for record in self.records.values())

    def fill(self, **values) -> None:
        for record in self.records.values():
            for key, value in values.items():
                setattr(record, key, value)

    def fail(self, error: Exception) -> None:
        for record in self.records.values():
            record.median_us = record.p25_us = record.p75_us = record.tflops = None
            record.samples = []
            note_failure(record, error)


class _LayerBench:
    """All contenders on one number of tokens."""

    def __init__(self, csr, name, n, device, threads, seed, block_shape, order, layout):
        from csbviz.bench.layer_weights import LAYERS, LayerCase

        rng = np.random.default_rng(seed)
        rows, columns = csr.shape

        def normal(*shape):
            return rng.standard_normal(shape, dtype=np.float32).astype(csr.dtype)

        self.X, self.G, bias = normal(n, columns), normal(n, rows), normal(rows)
        self.case = LayerCase(csr, bias, block_shape, order, n, device, layout, threads)
        self.contenders = [
            _Contender({op: self._blank(name, op, *entry) for op in LAYER_OPS}, make)
            for *entry, make in ((key, *value) for key, value in LAYERS.items())
        ]

    def _blank(self, name: str, op: str, kernel: str, title: str, format_name: str, copies: int) -> Record:
        case, csr = self.case, self.case.csr
        cells = csr.shape[0] * csr.shape[1]
        return Record(
            kernel=kernel,
            title=title,
            format=format_name,
            matrix=name,
            op=op,
            device=case.device,
            device_name=device_name(case.device),
            dtype=csr.dtype.name,
            precision="fp32" if csr.dtype == np.float32 else "fp64",
            m=csr.shape[0],
            k=csr.shape[1],
            n=case.tokens,
            nnz=csr.nnz,
            sparsity=1 - csr.nnz / cells if cells else 0.0,
            block_shape=case.block_shape,
            balance="auto" if format_name == "csb" else None,
            params={"layout": case.layout},
            threads=case.threads if case.device == "cpu" else None,
            mode="warm",
            copies=copies,
            versions=versions(),
            when=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def run(self, min_time: float, step: Callable[[float, str], None]) -> list[Record]:
        """Verify, time, compare."""
        reason = _missing(self.case.device)
        if reason:
            for contender in self.contenders:
                contender.fill(status="unavailable", message=reason)
        else:
            with _exact_float32(), use_threads(self.case.threads):
                self._verify_all(step)
                self._time_all(min_time, step)
        for op in LAYER_OPS:
            _add_speedups([contender.records[op] for contender in self.contenders])
        return [contender.records[op] for op in LAYER_OPS for contender in self.contenders]

    # ---- verification --------------------------------------------------------------------------------------

    def _verify_all(self, step) -> None:
        expected = self._expected()
        for index, contender in enumerate(self.contenders):
            title = contender.records["layer"].title
            step(0.4 * index / len(self.contenders), f"verifying {title}")
            try:
                seconds = contender.prepare(self.case)
                start = time.perf_counter()
                found = self._results(contender)
                contender.fill(prepare_us=(seconds + time.perf_counter() - start) * 1e6)
            except FAILURES as error:
                contender.fail(error)
                continue
            self._judge(contender, found, expected)

    def _expected(self) -> dict[str, np.ndarray]:
        """Y and the gradients in float64; that of the weights as a whole matrix."""
        csr, X, G = (array.astype(np.float64) for array in (self.case.csr, self.X, self.G))
        return {
            "Y": (csr @ X.T).T + self.case.bias.astype(np.float64),
            "gradient of X": (csr.T @ G.T).T,
            "gradient of the weights": G.T @ X,
            "gradient of the bias": G.sum(axis=0),
        }

    def _results(self, contender: _Contender) -> dict[str, np.ndarray]:
        import torch

        X, G = self._tensors()
        Y = contender.layer.module(X)
        gradients = torch.autograd.grad(Y, self._inputs(contender, X), G)
        back = [tensor.detach().cpu().numpy() for tensor in (Y, *gradients)]
        if self.case.features_first:
            back[:2] = back[0].T, back[1].T
        names = ("Y", "gradient of X", "gradient of the weights", "gradient of the bias")
        return dict(zip(names, back, strict=True))

    def _judge(self, contender: _Contender, found: dict, expected: dict) -> None:
        layer = contender.layer
        errors = {}
        for what, reference in expected.items():
            if what == "gradient of the weights" and layer.positions is not None:
                reference = reference[layer.positions]
            errors[what] = relative_error(found[what], reference)
        worst = max(errors, key=errors.get)
        bound = ERROR_BOUNDS[contender.records["layer"].precision]
        contender.fill(
            rel_error=errors[worst] if np.isfinite(errors[worst]) else None,
            bytes=layer.stored_bytes,
            params=layer.params(),
            notes=layer.notes,
        )
        if not errors[worst] <= bound:
            contender.fill(
                status="wrong",
                message=f"Its {worst} is off by {errors[worst]:.1e} where {bound:.0e} is the bound, so no "
                "time is stated.",
            )

    def _tensors(self):
        """X, which needs a gradient, and the gradient of Y, on the device."""
        import torch

        pair = (torch.from_numpy(array) for array in (self.X, self.G))
        if self.case.features_first:
            pair = (tensor.t().contiguous() for tensor in pair)
        X, G = (tensor.to(self.case.device) for tensor in pair)
        return X.requires_grad_(), G

    @staticmethod
    def _inputs(contender: _Contender, X) -> tuple:
        """What gradients are asked for: X, the weights, the bias; every module has them in this order."""
        return X, *contender.layer.module.parameters()

    # ---- timing --------------------------------------------------------------------------------------------

    def _time_all(self, min_time: float, step) -> None:
        ready = [contender for contender in self.contenders if contender.ok]
        load = OthersLoad()
        jobs = [(op, contender) for op in LAYER_OPS for contender in ready]
        for turn in range(ROUNDS + EXTRA_ROUNDS):
            if turn >= ROUNDS:
                jobs = [(op, c) for op, c in jobs if c.ok and spread(c.records[op]) > UNSTEADY]
            for index, (op, contender) in enumerate(jobs):
                part = 0.4 + 0.6 * (turn + index / len(jobs)) / (ROUNDS + EXTRA_ROUNDS)
                step(part, f"timing {contender.records[op].title}")
                if contender.ok:
                    self._time_one(op, contender, min_time / ROUNDS)
        share = load.share() if self.case.device == "cpu" else None
        speed = clocks() if ready and self.case.device == "cuda" else {}
        for contender in ready:
            contender.fill(others_load=share, clocks=speed)

    def _time_one(self, op: str, contender: _Contender, seconds: float) -> None:
        record, samples = contender.records[op], contender.samples[op]
        try:
            if op not in contender.timers:
                contender.timers[op] = self._timer(op, contender)
            samples.append(contender.timers[op](seconds))
        except FAILURES as error:
            contender.fail(error)
            return
        every = np.concatenate(samples)
        p25, median, p75 = (float(value) for value in np.percentile(every, (25, 50, 75)))
        record.median_us, record.p25_us, record.p75_us = median, p25, p75
        record.samples = [round(float(value), 3) for value in every]
        record.tflops = 2.0 * _PRODUCTS[op] * record.nnz * record.n / (median * 1e6)

    def _timer(self, op: str, contender: _Contender) -> Callable[[float], np.ndarray]:
        """``timer(seconds)`` gives microseconds a call, one number a sample."""
        case = self.case
        if case.device == "cuda":
            from csbviz.bench.layer_timing import GraphTimer

            return GraphTimer(lambda: self._pass(op, contender))
        run = self._pass(op, contender)

        def timer(seconds: float) -> np.ndarray:
            call = lambda B, out: run()  # noqa: E731
            return time_cpu(call, None, None, mode="warm", threads=case.threads, min_time=seconds)

        return timer

    def _pass(self, op: str, contender: _Contender) -> Callable[[], object]:
        """The call that is timed."""
        import torch

        module = contender.layer.module
        X, G = self._tensors()
        inputs = self._inputs(contender, X)
        if op == "layer.forward":
            return lambda: module(X)
        if op == "layer":
            return lambda: torch.autograd.grad(module(X), inputs, G)
        Y = module(X)
        return lambda: torch.autograd.grad(Y, inputs, G, retain_graph=True)


def _missing(device: str) -> str:
    """Why layers cannot run on the device, or ""."""
    if device == "cpu":
        return ""
    import torch

    name, reason = gpu_state()
    if name is None:
        return reason
    return "" if torch.cuda.is_available() else "PyTorch was installed without CUDA; layers need it."


@contextmanager
def _exact_float32():
    """Keep PyTorch's dense products from rounding float32 to TF32."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _add_speedups(records: list[Record]) -> None:
    """Times of the CSR and of the dense layer over that of each record."""
    times = {record.format: record.median_us for record in records if record.ok}
    for record in records:
        if record.ok:
            record.speedup_vs_csr = times["csr"] / record.median_us if "csr" in times else None
            record.speedup_vs_dense = times["dense"] / record.median_us if "dense" in times else None
