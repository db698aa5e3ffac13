// Hopper's instructions, one function each: barriers in shared memory, bulk copies, clusters, wgmma. sm_90a only.
// Addresses of shared memory are 32-bit numbers, as the instructions take them.

#include "csb_wgmma_registers.cuh"

using u32 = unsigned int;
using u64 = unsigned long long;

__device__ __forceinline__ u32 shared_address(const void* p) { return u32(__cvta_generic_to_shared(p)); }

// ---- barriers ------------------------------------------------------------------------------------------------
// A phase of a barrier ends when `count` arrivals came and all bytes that were announced have landed.
__device__ __forceinline__ void barrier_init(u32 barrier, int count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
__device__ __forceinline__ void barrier_arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// Arrive at the barrier that lies at the same place in another CTA of the cluster.
__device__ __forceinline__ void barrier_arrive_at(u32 barrier, int rank) {
    asm volatile(
        "{\n.reg .b32 there;\n"
        "mapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" ::"r"(barrier), "r"(rank)
        : "memory");
}
__device__ __forceinline__ void barrier_expect(u32 barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// An acquire of cluster scope would empty the L1 cache every time; nothing here needs one.
// Wait until the phase of that parity has ended; a fresh barrier counts as having ended one of parity 1.
__device__ __forceinline__ void barrier_wait(u32 barrier, int parity) {
    u32 done;
    do {
        asm volatile(
            "{\n.reg .pred q;\n"
            "mbarrier.try_wait.parity.shared::cta.b64 q, [%1], %2;\n"
            "selp.u32 %0, 1, 0, q;\n}"
            : "=r"(done)
            : "r"(barrier), "r"(parity)
            : "memory");
    } while (!done);
}
// A barrier among `threads` threads of the CTA that has nothing to do with the others. id range [1, 16)
__device__ __forceinline__ void group_sync(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void group_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Registers of a thread, by warpgroup: those that leave some come before those that take them can go on.
template <int COUNT>
__device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
__device__ __forceinline__ void leave_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// ---- clusters ------------------------------------------------------------------------------------------------
// Orders nothing by itself: initialised barriers have their own fence.
__device__ __forceinline__ void cluster_arrive() {
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.aligned;" ::: "memory"); }
__device__ __forceinline__ u32 address_at(u32 address, int rank) {
    u32 there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}
// Store 16 bytes in another CTA's shared memory and count them at its barrier.
__device__ __forceinline__ void store_at(u32 there, float4 v, u32 barrier_there) {
    asm volatile(
        "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(there),
        "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "r"(barrier_there)
        : "memory");
}

// ---- bulk copies from global memory; `bytes` and both addresses are multiples of 16 ---------------------------
__device__ __forceinline__ void bulk_copy(u32 to, const void* from, int bytes, u32 barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
}
// The same bytes to the same place in all CTAs of the mask, each counting them at its own barrier.
__device__ __forceinline__ void bulk_copy_to_all(u32 to, const void* from, int bytes, u32 barrier, u32 mask) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], "
        "%4;" ::"r"(to),
        "l"(from), "r"(bytes), "r"(barrier), "h"((unsigned short)mask)
        : "memory");
}

// ---- programmatic dependent launch ---------------------------------------------------------------------------
// The next kernel of the stream may start; what it reads of ours it must wait for.
__device__ __forceinline__ void let_next_start() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
__device__ __forceinline__ void wait_for_previous() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// ---- conversions ---------------------------------------------------------------------------------------------
__device__ __forceinline__ u32 pack_half(float low, float high) {
    u32 packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}
__device__ __forceinline__ u32 pack_bfloat(float low, float high) {
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}
__device__ __forceinline__ float half_to_float(u32 bits) {
    float x;
    asm("{\n.reg .b16 h;\ncvt.u16.u32 h, %1;\ncvt.f32.f16 %0, h;\n}" : "=f"(x) : "r"(bits));
    return x;
}

// Bytes of high:low picked by the nibbles of a selector; nibble 8 + i repeats the sign of byte i.
__device__ __forceinline__ u32 pick_bytes(u32 low, u32 high, u32 selector) {
    u32 picked;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(picked) : "r"(low), "r"(high), "r"(selector));
    return picked;
}

// ---- global memory. Not as constants (.nc): those loads would be moved in front of fences, which wait for them. --
__device__ __forceinline__ u32 load_global(const void* p) {
    u32 x;
    asm volatile("ld.global.b32 %0, [%1];" : "=r"(x) : "l"(p) : "memory");
    return x;
}
__device__ __forceinline__ uint2 load_global2(const void* p) {
    uint2 v;
    asm volatile("ld.global.v2.b32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p) : "memory");
    return v;
}
__device__ __forceinline__ float4 load_global4(const void* p) {
    float4 v;
    asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(p) : "memory");
    return v;
}

// ---- shared memory -------------------------------------------------------------------------------------------
__device__ __forceinline__ void store_zero16(u32 address) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(address), "r"(0) : "memory");
}
__device__ __forceinline__ void store32(u32 address, u32 value) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
__device__ __forceinline__ void store8(u32 address, u32 value) {
    asm volatile("st.shared.b8 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
// Predicated rather than branched around.
__device__ __forceinline__ void store32_if(bool wanted, u32 address, u32 value) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %2, 0;\n@p st.shared.b32 [%0], %1;\n}" ::"r"(address), "r"(value),
                 "r"(int(wanted))
                 : "memory");
}
__device__ __forceinline__ void store16_if(bool wanted, u32 address, u32 value) {
    asm volatile(
        "{\n.reg .pred p;\n.reg .b16 h;\nsetp.ne.b32 p, %2, 0;\ncvt.u16.u32 h, %1;\n@p st.shared.b16 [%0], h;\n}" ::"r"(
            address),
        "r"(value), "r"(int(wanted))
        : "memory");
}
__device__ __forceinline__ void store_float(u32 address, float value) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
}
__device__ __forceinline__ float load_float(u32 address) {
    float x;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(address) : "memory");
    return x;
}
__device__ __forceinline__ float4 load_float4(u32 address) {
    float4 v;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "r"(address)
                 : "memory");
    return v;
}
__device__ __forceinline__ uint4 load128(u32 address) {
    uint4 v;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(address)
                 : "memory");
    return v;
}
__device__ __forceinline__ uint2 load64(u32 address) {
    uint2 v;
    asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(address) : "memory");
    return v;
}

// ---- wgmma: D (64 x N, fp32, registers) = A (64 x 16, registers) x B (16 x N, shared memory) + D ----------------
// Thread t of the four warps holds of D: d[4 * i + 2 * h + b] = row 16 * (t / 32) + t % 32 / 4 + 8 * h, column
// 8 * i + 2 * (t % 4) + b; of A: a[h + 2 * j] = that row, columns 2 * (t % 4) + {0, 1} + 8 * j (16 bits each).
// B is row-major in 128-byte rows (64 columns of 16 bits) with the 128-byte swizzle: the 16-byte chunk c of row
// p lies at p * 128 + (c ^ (p & 7)) * 16. `descriptor` says where; accumulate = 0 starts from zero.
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
// Groups of 64 columns lie `group_bytes` apart, groups of 8 rows 1024.
__device__ __forceinline__ u64 tile_descriptor(u32 address, int group_bytes) {
    return u64((address & 0x3FFFF) >> 4) | u64(group_bytes >> 4) << 16 | u64(1024 >> 4) << 32 | 1ull << 62;
}

#define WGMMA(N, TYPE, NAMES, A0, A1, A2, A3, B, ACC, ...)                                                            \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #ACC ", 0;\n"                                                   \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" NAMES "}, {%" #A0 ", %" #A1     \
                 ", %" #A2 ", %" #A3 "}, %" #B ", p, 1, 1, 1;\n}"                                                     \
                 : __VA_ARGS__                                                                                        \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(descriptor), "r"(accumulate))

template <bool BFLOAT>
__device__ __forceinline__ void wgmma(float (&d)[32], const u32 (&a)[4], u64 descriptor, int accumulate) {
    if constexpr (BFLOAT)
        WGMMA(64, "bf16", NAMES32, 32, 33, 34, 35, 36, 37, D32(0));
    else
        WGMMA(64, "f16", NAMES32, 32, 33, 34, 35, 36, 37, D32(0));
}
template <bool BFLOAT>
__device__ __forceinline__ void wgmma(float (&d)[64], const u32 (&a)[4], u64 descriptor, int accumulate) {
    if constexpr (BFLOAT)
        WGMMA(128, "bf16", NAMES64, 64, 65, 66, 67, 68, 69, D32(0), D32(32));
    else
        WGMMA(128, "f16", NAMES64, 64, 65, 66, 67, 68, 69, D32(0), D32(32));
}

// The same with A in shared memory, in rows of 128 bytes and with the swizzle like B: a row is one of "out", 64 of "in"
// wide, or, SIDEWAYS, one of "in", 64 of "out" wide.
#define WGMMA_SHARED(N, TYPE, NAMES, A, B, ACC, SIDE, ...)                                                             \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #ACC ", 0;\n"                                                   \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" NAMES "}, %" #A ", %" #B         \
                 ", p, 1, 1, %" #SIDE ", 1;\n}"                                                                       \
                 : __VA_ARGS__                                                                                        \
                 : "l"(a), "l"(b), "r"(accumulate), "n"(int(SIDEWAYS)))

template <bool BFLOAT, bool SIDEWAYS>
__device__ __forceinline__ void wgmma_shared(float (&d)[32], u64 a, u64 b, int accumulate) {
    if constexpr (BFLOAT)
        WGMMA_SHARED(64, "bf16", NAMES32, 32, 33, 34, 35, D32(0));
    else
        WGMMA_SHARED(64, "f16", NAMES32, 32, 33, 34, 35, D32(0));
}
template <bool BFLOAT, bool SIDEWAYS>
__device__ __forceinline__ void wgmma_shared(float (&d)[64], u64 a, u64 b, int accumulate) {
    if constexpr (BFLOAT)
        WGMMA_SHARED(128, "bf16", NAMES64, 64, 65, 66, 67, D32(0), D32(32));
    else
        WGMMA_SHARED(128, "f16", NAMES64, 64, 65, 66, 67, D32(0), D32(32));
}
