// What csb_spmm_mma.cu is made of: the precision classes, images, and instructions that have no C++ name.

typedef unsigned int u32;
typedef unsigned short u16;

constexpr int IMAGE_BYTES = 8192;  // a 64 x 64 image of 16-bit numbers

#if __CUDA_ARCH__ >= 800
constexpr bool FACTORS_IN_SHARED = true;
#else
constexpr bool FACTORS_IN_SHARED = false;
#endif

template <int CLASS>
struct Numbers {  // of classes 0 and 1
    using Value = float;
    static constexpr bool split = CLASS == 0, scaled = true;
    static constexpr float low_scale = 4096;  // of the low halves of B; they meet high halves of A times 2^-12
    // The least scaled number that its image represents well enough; see tests for the error bounds.
    static constexpr float least_a = CLASS == 0 ? 0x1p-4f : 0x1p-14f;
    static constexpr float least_b = CLASS == 0 ? 0x1p-16f : 0x1p-14f;
};
template <>
struct Numbers<2> {
    using Value = u16;
    static constexpr bool split = false, scaled = false;
    static constexpr u32 infinity = 0x7c00;
};
template <>
struct Numbers<3> {
    using Value = u16;
    static constexpr bool split = false, scaled = false;
    static constexpr u32 infinity = 0x7f80;
};

// ---------------------------------------------------------------------------------------------------------
// Instructions without a C++ name.

__device__ __forceinline__ u16 to_half(float x) {
    u16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}

__device__ __forceinline__ float from_half(u16 h) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
    return x;
}

// Two at once, the first in the low half: one instruction where the GPU has it.
__device__ __forceinline__ u32 to_halves(float x, float y) {
#if __CUDA_ARCH__ >= 800
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(y), "f"(x));
    return pair;
#else
    return to_half(x) | u32(to_half(y)) << 16;
#endif
}

template <int CLASS>
__device__ __forceinline__ float as_float(typename Numbers<CLASS>::Value value) {
    if constexpr (CLASS == 2) return from_half(value);
    else if constexpr (CLASS == 3) return __uint_as_float(u32(value) << 16);
    else return value;
}

// The sum as a number of the result's type, rounded to nearest even.
template <int CLASS>
__device__ __forceinline__ typename Numbers<CLASS>::Value as_result(float sum) {
    if constexpr (CLASS == 2) {
        return to_half(sum);
    } else if constexpr (CLASS == 3) {
        const u32 bits = __float_as_uint(sum);
        if ((bits & 0x7fffffff) > 0x7f800000) return u16(bits >> 16 | 0x40);  // NaN stays NaN
        return u16((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    } else {
        return sum;
    }
}

__device__ __forceinline__ u32 shared_address(const void* p) { return u32(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void store_shared(u32 at, u16 value) {
    asm volatile("st.shared.u16 [%0], %1;" ::"r"(at), "h"(value) : "memory");
}

__device__ __forceinline__ void store_shared(u32 at, uint4 v) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}

// COUNT times 16 bytes of a thread from device to shared memory, STEP times 16 bytes apart; complete after
// wait_copies() in the same thread.
template <int COUNT, int STEP>
__device__ __forceinline__ void copy(u32 to, const uint4* from) {
#if __CUDA_ARCH__ >= 800
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + 16 * STEP * i), "l"(from + STEP * i)
                     : "memory");
#else
    constexpr int BATCH = COUNT < 4 ? COUNT : 4;  // loads under way at once
    static_assert(COUNT % BATCH == 0, "whole batches");
#pragma unroll
    for (int i = 0; i < COUNT; i += BATCH) {
        uint4 words[BATCH];
#pragma unroll
        for (int j = 0; j < BATCH; j++) words[j] = __ldcg(from + STEP * (i + j));
#pragma unroll
        for (int j = 0; j < BATCH; j++) store_shared(to + 16 * STEP * (i + j), words[j]);
    }
#endif
}

__device__ __forceinline__ void wait_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// Programmatic dependent launch: from compute capability 9.0 on a kernel starts while the one before ends, and waits
// for it only where it reads what that wrote.
__device__ __forceinline__ void let_dependents_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ void wait_for_kernel_before() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Four 8 x 8 matrices of 16-bit numbers; lane 8 q + r gives the address of row r of matrix q.
template <bool TRANSPOSED>
__device__ __forceinline__ void load_matrices(u32 (&f)[4], u32 at) {
    if constexpr (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3]) : "r"(at) : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3]) : "r"(at) : "memory");
}

// d += a · b, or with FRESH d = a · b: 16 x 8, 16 x 16, 16 x 8. Turing multiplies eight terms at a time.
template <int CLASS, bool FRESH>
__device__ __forceinline__ void multiply_add(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    float c[4];
#pragma unroll
    for (int i = 0; i < 4; i++) c[i] = FRESH ? 0.0f : d[i];
#if __CUDA_ARCH__ >= 800
    if constexpr (CLASS == 3)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%10, %11, %12, %13};"
            : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%10, %11, %12, %13};"
            : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
#else
    if constexpr (CLASS == 3) __trap();  // Turing has no bf16: never launched there
#pragma unroll
    for (int half = 0; half < 2; half++) {
        asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %8, %9, %10};"
            : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
            : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(half ? b1 : b0), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
#pragma unroll
        for (int i = 0; i < 4; i++) c[i] = d[i];
    }
#endif
}

// Two fp16 numbers.
__device__ __forceinline__ u32 times_2_to_minus_12(u32 pair) {
    u32 scaled;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(scaled) : "r"(pair), "r"(0x0c000c00));
    return scaled;
}

// 2^e for e in [-126, 127].
__device__ __forceinline__ float power_of_two(int e) { return __int_as_float((e + 127) << 23); }
