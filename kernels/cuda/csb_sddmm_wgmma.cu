// The sampled product out[e] = Σ_c U[row(e), c] · V[col(e), c] on Hopper's tensor cores, by wgmma: sm_90a only.
//
// The idea, the accuracy and the range are those of csb_sddmm_mma.cu: a tile of rows and columns of the matrix is
// multiplied whole, in TF32 with high and low parts, and the stored positions are picked from it. Here a warpgroup
// multiplies 64 x TILE_N at a time. Rows of U come through registers, where they are split; rows of V are read by
// wgmma itself from shared memory: as they are for the high part, since TF32 ignores the last 13 bits, and from
// a second tile for the low part, which is made for the next stage while this one is multiplied.
//
// Shared memory, from a multiple of 1024 on: two tiles of low parts of V, then STAGES stages of WARPGROUPS * 64 rows of U
// and TILE_N rows of V, 32 columns (128 bytes) each, 16-byte chunk c of row r at c ^ (r & 7), as wgmma reads it. A
// thread makes the low parts of what it has copied itself, so it waits for nobody else.

#include "csb_sddmm_tiles.cuh"
#include "csb_wgmma_registers.cuh"

using u64 = unsigned long long;

// 128-byte rows, 128-byte swizzle, groups of 8 rows 1024 bytes apart.
__device__ __forceinline__ u64 descriptor_of(u32 address) {
    return u64((address & 0x3FFFF) >> 4) | 1ull << 16 | u64(1024 >> 4) << 32 | 1ull << 62;
}

#define WGMMA(N, NAMES, A0, A1, A2, A3, B, ACC, ...)                                                                  \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #ACC ", 0;\n"                                                   \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k8.f32.tf32.tf32 {" NAMES "}, {%" #A0 ", %" #A1              \
                 ", %" #A2 ", %" #A3 "}, %" #B ", p, 1, 1;\n}"                                                       \
                 : __VA_ARGS__                                                                                        \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(descriptor), "r"(accumulate))

// d (64 x N of a warpgroup) += a (64 x 8, registers) · the N rows of 8 numbers at `descriptor`; or without the sum.
__device__ __forceinline__ void multiply_add(float (&d)[32], const u32 (&a)[4], u64 descriptor, int accumulate) {
    WGMMA(64, NAMES32, 32, 33, 34, 35, 36, 37, D32(0));
}
__device__ __forceinline__ void multiply_add(float (&d)[64], const u32 (&a)[4], u64 descriptor, int accumulate) {
    WGMMA(128, NAMES64, 64, 65, 66, 67, 68, 69, D32(0), D32(32));
}

// Grid: tiles * splits CTAs, in clusters of `splits`; tile number tile_row * tiles_n + tile_column. U is rows x n, V columns
// x n, row-major, contiguous. Blocks divide tiles.
template <typename RowIndex, typename ColIndex, typename Pointer, int WARPGROUPS, int TILE_N, int STAGES, bool VECTOR>
__global__ void __launch_bounds__(128 * WARPGROUPS, WARPGROUPS == 1 && TILE_N == 64 ? 3 : 1)
csb_sddmm_wgmma(const RowIndex* __restrict__ row_ind, const ColIndex* __restrict__ col_ind,
                const Pointer* __restrict__ blk_ptr, const Sizes s, const float* __restrict__ U,
                const float* __restrict__ V, float* __restrict__ out) {
    constexpr int TILE_M = 64 * WARPGROUPS, THREADS = 128 * WARPGROUPS, PITCH = TILE_N + 8;
    constexpr int STAGE_BYTES = (TILE_M + TILE_N) * ROW_BYTES, LOW_BYTES = TILE_N * ROW_BYTES;
    constexpr int STEP_ROWS = THREADS / 8;  // rows that the CTA copies at a time
    static_assert(TILE_M % STEP_ROWS == 0 && TILE_N % STEP_ROWS == 0, "a copy is of U or of V");
    extern __shared__ __align__(1024) unsigned char raw[];
    float* const shared = reinterpret_cast<float*>(raw + (0u - shared_address(raw) & 1023));
    __shared__ u32 doubtful[32];
    const int splits = s.splits, tile = blockIdx.x / splits, rank = blockIdx.x % splits, n = s.n;
    const SampledTile<TILE_M, TILE_N> sampled(s, tile / s.tiles_n, tile % s.tiles_n);
    const int t = threadIdx.x, lane = t % 32, warp = t / 32;

    // The CTA's share of the columns, in stages: numbers first, first + 1 … end - 1.
    const int all = (n + DEPTH - 1) / DEPTH;
    const int first = int((long long)all * rank / splits), end = int((long long)all * (rank + 1) / splits);
    const u32 low_tiles = shared_address(shared), ring = low_tiles + 2 * LOW_BYTES;
    const auto stage_of = [&](int number) { return ring + (number - first) % STAGES * STAGE_BYTES; };
    const u32 place = t / 8 * ROW_BYTES + ((t % 8 ^ t / 8 & 7) << 4);  // of the thread's chunk in each of its rows
    static_assert(STEP_ROWS % 8 == 0, "the swizzle is the same in all rows of a thread");

    const auto fetch = [&](int number) {
        if (number < end) {
            const int column = number * DEPTH + 4 * (t % 8);
            const u32 stage = stage_of(number);
#pragma unroll
            for (int r = 0; r < TILE_M + TILE_N; r += STEP_ROWS) {
                const int row = r + t / 8;
                // Rows past the end are read as the last one; nothing is stored there.
                const float* const from = r < TILE_M ? row_of(U, sampled.first_row + row, s.rows, n)
                                                     : row_of(V, sampled.first_column + row - TILE_M, s.columns, n);
                copy_async<VECTOR>(stage + r * ROW_BYTES + place, from, column, n);
            }
        }
        end_copies();
    };
    const auto low_of = [](float x) { return to_be_cut(x - high_part(x)); };
    // Low parts of the rows of V that this thread has copied, and the range of all of its rows.
    Range range;
    const auto make_low = [&](int number) {
        if (number >= end) return;
        const u32 u = stage_of(number) + place, v = u + TILE_M * ROW_BYTES;
        const u32 to = low_tiles + (number & 1) * LOW_BYTES + place;
        float4 x[TILE_N / STEP_ROWS];
#pragma unroll
        for (int i = 0; i < TILE_N / STEP_ROWS; i++) x[i] = load_shared(v + i * STEP_ROWS * ROW_BYTES);
#pragma unroll
        for (int i = 0; i < TILE_N / STEP_ROWS; i++) {
            range.add(x[i]);
            asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to + i * STEP_ROWS * ROW_BYTES),
                         "f"(low_of(x[i].x)), "f"(low_of(x[i].y)), "f"(low_of(x[i].z)), "f"(low_of(x[i].w))
                         : "memory");
        }
#pragma unroll
        for (int i = 0; i < TILE_M / STEP_ROWS; i++) range.add(load_shared(u + i * STEP_ROWS * ROW_BYTES));
    };
    // What this thread has written is seen by wgmma after the next barrier.
    const auto publish = [] { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); };

#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) fetch(first + i);

    if (!sampled.has_entries(blk_ptr)) {  // asked while the first stages are on their way
        wait_for_copies<0>();
        return;  // all CTAs of the cluster
    }
    wait_for_copies<STAGES - 2>();
    make_low(first);
    publish();
    __syncthreads();  // the first stage is complete

    float sum[TILE_N / 2], part[TILE_N / 2];
#pragma unroll
    for (int i = 0; i < TILE_N / 2; i++) sum[i] = 0.0f;
    // ldmatrix: lane 8 q + r names row r of rows 8 (q & 1) + [0, 8), chunk q / 2 of two.
    const int fragment_row = warp * 16 + (lane >> 3 & 1) * 8 + lane % 8;
    const u32 fragment = fragment_row * ROW_BYTES;
    for (int number = first; number < end; number++) {
        const u32 stage = stage_of(number);
        u32 high[4][4], low[4][4];
#pragma unroll
        for (int step = 0; step < 4; step++) {
            u32 x[4];
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                         : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                         : "r"(stage + fragment + ((2 * step + (lane >> 4) ^ fragment_row & 7) << 4))
                         : "memory");
#pragma unroll
            for (int i = 0; i < 4; i++) {
                high[step][i] = __float_as_uint(rounded_part(__uint_as_float(x[i])));
                low[step][i] = __float_as_uint(__uint_as_float(x[i]) - __uint_as_float(high[step][i]));
            }
        }
        const u64 v = descriptor_of(stage + TILE_M * ROW_BYTES), v_low = descriptor_of(low_tiles + (number & 1) * LOW_BYTES);
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int step = 0; step < 4; step++) multiply_add(part, low[step], v + 2 * step, step > 0);
#pragma unroll
        for (int step = 0; step < 4; step++) multiply_add(part, high[step], v_low + 2 * step, 1);
#pragma unroll
        for (int step = 0; step < 4; step++) multiply_add(part, high[step], v + 2 * step, 1);
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        fetch(number + STAGES - 1);  // into the stage before this one, which everyone has left
        wait_for_copies<STAGES - 2>();
        make_low(number + 1);
        publish();
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
        for (int i = 0; i < TILE_N / 2; i++) sum[i] += part[i];
        __syncthreads();  // the next stage is complete, and everyone has left this one
    }
    wait_for_copies<0>();
    range.publish(doubtful, n);  // and everyone has left the last stage

#pragma unroll
    for (int j = 0; j < TILE_N / 8; j++)
#pragma unroll
        for (int h = 0; h < 2; h++)
            *reinterpret_cast<float2*>(shared + (warp * 16 + h * 8 + lane / 4) * PITCH + j * 8 + lane % 4 * 2) =
                make_float2(sum[4 * j + 2 * h], sum[4 * j + 2 * h + 1]);
    __syncthreads();  // the CTA's sums are complete
    if (splits > 1) cluster_barrier();  // those of the cluster too
    sampled.template pick<1, PITCH>(shared, doubtful, rank, row_ind, col_ind, blk_ptr, U, V, out);
    if (splits > 1) cluster_barrier();  // nobody reads the CTA's sums any more
}
