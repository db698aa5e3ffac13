"""A small SIMD vocabulary for Numba: vectors that stay in registers.

Numba keeps array accumulators in memory. The functions here act on a type of its own, a vector of `lanes`
floating-point numbers that LLVM holds in as many registers as it takes (64 floats are four AVX-512 registers,
eight AVX ones, sixteen NEON ones), so one source is right on every CPU and fast on most.

Addresses are plain ``int64``. A *witness* is an argument of which only the type counts: for vectors a pointer
to a tuple of `lanes` numbers (a type of Numba's own, so that compiled code in a cache names nothing of this
module), for `read` a scalar of the wanted type.
"""

from __future__ import annotations

import sys

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import PrimitiveModel, register_default
from numba.extending import intrinsic

__all__ = [
    "VectorType",
    "call_worker",
    "element_bytes",
    "prefetch",
    "read",
    "read_two",
    "vector_add",
    "vector_bytes",
    "vector_fma",
    "vector_load",
    "vector_store",
    "vector_zero",
    "witness_type",
    "write",
]

_WORD = ir.IntType(64)


class VectorType(types.Type):
    """Numba's type of a vector of `lanes` numbers of the scalar type `dtype`."""

    def __init__(self, dtype, lanes):
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"vector({dtype} x {lanes})")


@register_default(VectorType)
class VectorModel(PrimitiveModel):
    """A vector is one LLVM vector value."""

    def __init__(self, manager, fe_type):
        element = manager.lookup(fe_type.dtype).get_value_type()
        super().__init__(manager, fe_type, ir.VectorType(element, fe_type.lanes))


def witness_type(dtype, lanes: int):
    """The type of a witness for vectors of `lanes` numbers of the Numba type `dtype`."""
    return types.CPointer(types.UniTuple(dtype, lanes))


def _vector_of(witness) -> VectorType:
    return VectorType(witness.dtype.dtype, witness.dtype.count)


def _llvm_type(context, vector):
    return ir.VectorType(context.get_value_type(vector.dtype), vector.lanes)


def _pointer(builder, address, llvm_type):
    return builder.inttoptr(address, llvm_type.as_pointer())


@intrinsic
def vector_bytes(typingctx, witness):
    """Bytes of a vector."""
    size = _vector_of(witness).lanes * witness.dtype.dtype.bitwidth // 8
    return types.int64(witness), lambda context, builder, signature, args: ir.Constant(_WORD, size)


@intrinsic
def element_bytes(typingctx, witness):
    """Bytes of one number of a vector."""
    size = witness.dtype.dtype.bitwidth // 8
    return types.int64(witness), lambda context, builder, signature, args: ir.Constant(_WORD, size)


@intrinsic
def vector_zero(typingctx, witness):
    """The vector of zeros."""
    vector = _vector_of(witness)

    def codegen(context, builder, signature, args):
        return ir.Constant(_llvm_type(context, vector), None)

    return vector(witness), codegen


@intrinsic
def vector_load(typingctx, address, witness):
    """The vector at `address`, which needs the alignment of one number only."""
    vector = _vector_of(witness)

    def codegen(context, builder, signature, args):
        pointer = _pointer(builder, args[0], _llvm_type(context, vector))
        return builder.load(pointer, align=vector.dtype.bitwidth // 8)

    return vector(types.int64, witness), codegen


@intrinsic
def vector_store(typingctx, address, vector):
    """Write `vector` to `address`, which needs the alignment of one number only."""

    def codegen(context, builder, signature, args):
        pointer = _pointer(builder, args[0], args[1].type)
        builder.store(args[1], pointer, align=vector.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(types.int64, vector), codegen


@intrinsic
def vector_add(typingctx, left, right):
    """``left + right``, lane by lane."""

    def codegen(context, builder, signature, args):
        return builder.fadd(args[0], args[1])

    return left(left, left), codegen


@intrinsic
def vector_fma(typingctx, scalar, vector, total):
    """``scalar * vector + total``, lane by lane: fused where the CPU can, never skipped or assumed finite."""

    def codegen(context, builder, signature, args):
        kind = args[1].type
        undefined = ir.Constant(kind, ir.Undefined)
        first = builder.insert_element(undefined, args[0], ir.Constant(ir.IntType(32), 0))
        all_first = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), None)
        spread = builder.shuffle_vector(first, undefined, all_first)
        name = f"llvm.fmuladd.v{vector.lanes}f{vector.dtype.bitwidth}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
        return builder.call(function, [spread, args[1], args[2]])

    return vector(vector.dtype, vector, vector), codegen


@intrinsic
def read(typingctx, address, witness):
    """The number of the type of `witness` at `address`."""

    def codegen(context, builder, signature, args):
        pointer = _pointer(builder, args[0], context.get_value_type(witness))
        return builder.load(pointer, align=witness.bitwidth // 8)

    return witness(types.int64, witness), codegen


@intrinsic
def read_two(typingctx, pointer, at):
    """``pointer[at]`` and ``pointer[at + 1]``, unsigned integers, with one access to memory."""
    width = pointer.dtype.bitwidth
    pair = types.UniTuple(types.int64, 2)

    def codegen(context, builder, signature, args):
        both = ir.IntType(2 * width)
        address = builder.bitcast(builder.gep(args[0], [args[1]]), both.as_pointer())
        word = builder.load(address, align=width // 8)
        low = builder.zext(builder.trunc(word, ir.IntType(width)), _WORD)
        high = builder.zext(builder.trunc(builder.lshr(word, both(width)), ir.IntType(width)), _WORD)
        numbers = (low, high) if sys.byteorder == "little" else (high, low)
        return context.make_tuple(builder, signature.return_type, numbers)

    return pair(pointer, types.int64), codegen


@intrinsic
def write(typingctx, address, number):
    """Write `number` to `address`."""

    def codegen(context, builder, signature, args):
        pointer = _pointer(builder, args[0], args[1].type)
        builder.store(args[1], pointer, align=number.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(types.int64, number), codegen


@intrinsic
def prefetch(typingctx, address, witness):
    """Ask for the vector at `address` to come to the second-level cache; any address is harmless."""
    size = _vector_of(witness).lanes * witness.dtype.dtype.bitwidth // 8

    def codegen(context, builder, signature, args):
        number, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        reading, second_level, data = number(0), number(2), number(1)
        for line in range(0, size, 64):
            at = builder.inttoptr(builder.add(args[0], _WORD(line)), byte)
            builder.call(function, [at, reading, second_level, data])
        return context.get_dummy_value()

    return types.void(types.int64, witness), codegen


@intrinsic
def call_worker(typingctx, function, values, index, order, program, worker):
    """Call the compiled worker at the address `function` (see `spmm.multiply` for its arguments)."""

    def codegen(context, builder, signature, args):
        target, values, index, order, program, worker = args
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * 6)
        no_witness = ir.Constant(_WORD, 0)
        builder.call(_pointer(builder, target, kind), [values, index, order, no_witness, program, worker])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen
