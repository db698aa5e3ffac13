// The sampled product out[e] = Σ_c U[row(e), c] · V[col(e), c] on tensor cores: compute capability 8.0 or newer.
//
// Idea. At the densities of pruned networks it is faster to multiply all rows of a tile with all its columns and to
// pick the stored positions from the result than to multiply entry by entry: a row of U and a row of V leave the
// L2 cache once for a tile, and tensor cores do the multiplications.
//
// float32 accuracy. TF32 keeps float32's exponent and 11 of its 24 significant bits. x = high + low, high the number
// without its last 13 bits; three products are added, low·high + high·low + high·high. The tensor cores' additions may
// truncate, so each 16 columns are summed there and then added to float32 registers.
//
// Range. A number that is not finite makes every sum that it takes part in not finite, and no other. So sums that are
// not finite are computed anew, as float32; nothing has to be looked at beforehand.
//
// Who does what. A CTA has a tile of TILE_M rows and TILE_N columns of the matrix, made of whole blocks; a warp 32 x 32
// of it. GROUPS groups of warps take different columns of U and V, each through a ring of STAGES stages of its own, and
// do not wait for each other until the end. The CTAs of a cluster share a tile in the same way (compute capability
// 9.0). In the end every CTA leaves the sums of its groups in shared memory, and each entry is added up in the order of
// CTAs and groups: every run gives the same bits. Tiles without entries end at once.
//
// Shared memory: a stage of a group has TILE_M rows of U and TILE_N rows of V, 32 columns (128 bytes) each; 16-byte
// chunk c of row r lies at c ^ 4 (r & 1), so that the two rows that a quarter of a warp reads are in different banks.
// The columns of a step may come in any order if it is the same for U and V: a lane takes four neighbours, of
// which the first two are columns t and t + 4 of one 8-deep multiplication, the others of the next.

#include "csb_sddmm_tiles.cuh"

// d += a · b, or with FRESH d = a · b: 16 x 8, 16 x 8, 8 x 8.
template <bool FRESH>
__device__ __forceinline__ void multiply_add(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    float c[4];
#pragma unroll
    for (int i = 0; i < 4; i++) c[i] = FRESH ? 0.0f : d[i];
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%10, %11, %12, %13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

__device__ __forceinline__ void split(float x, u32& high, u32& low) {
    high = __float_as_uint(rounded_part(x)), low = __float_as_uint(x - __uint_as_float(high));
}

// Fragments of two 8-deep multiplications: [step][register].
struct RowsOfU {
    u32 high[2][4], low[2][4];
    __device__ __forceinline__ void load(u32 at, Range& range) {  // 16 rows; `at`: the lane's chunk of its first row
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float4 v = load_shared(at + h * 8 * ROW_BYTES);
            range.add(v);
            split(v.x, high[0][h], low[0][h]), split(v.y, high[0][h + 2], low[0][h + 2]);
            split(v.z, high[1][h], low[1][h]), split(v.w, high[1][h + 2], low[1][h + 2]);
        }
    }
};
struct RowsOfV {
    u32 high[2][2], low[2][2];
    __device__ __forceinline__ void load(u32 at, Range& range) {  // 8 rows
        const float4 v = load_shared(at);
        range.add(v);
        split(v.x, high[0][0], low[0][0]), split(v.y, high[0][1], low[0][1]);
        split(v.z, high[1][0], low[1][0]), split(v.w, high[1][1], low[1][1]);
    }
};

// Grid: tiles * splits CTAs, in clusters of `splits`; tile number tile_row * tiles_n + tile_column. U is rows x n, V columns
// x n, row-major, contiguous. Blocks divide tiles.
// Dynamic shared memory: the larger of GROUPS * STAGES stages and GROUPS tiles of sums.
template <typename RowIndex, typename ColIndex, typename Pointer, int TILE_M, int TILE_N, int GROUPS, int STAGES, bool VECTOR>
__global__ void __launch_bounds__(TILE_M * TILE_N / 32 * GROUPS, TILE_M * TILE_N / 32 * GROUPS <= 256 ? 2 : 1)
csb_sddmm_mma(const RowIndex* __restrict__ row_ind, const ColIndex* __restrict__ col_ind,
              const Pointer* __restrict__ blk_ptr, const Sizes s, const float* __restrict__ U,
              const float* __restrict__ V, float* __restrict__ out) {
    constexpr int GROUP_THREADS = TILE_M * TILE_N / 32, WARPS_N = TILE_N / 32;
    constexpr int STAGE_BYTES = (TILE_M + TILE_N) * ROW_BYTES, PITCH = TILE_N + 8;
    constexpr int STEP_ROWS = GROUP_THREADS / 8;  // rows that a group copies at a time
    static_assert(TILE_M % STEP_ROWS == 0 && TILE_N % STEP_ROWS == 0, "a copy is of U or of V");
    extern __shared__ __align__(128) float shared[];
    __shared__ u32 doubtful[32];
    const int splits = s.splits, tile = blockIdx.x / splits, rank = blockIdx.x % splits, n = s.n;
    const SampledTile<TILE_M, TILE_N> sampled(s, tile / s.tiles_n, tile % s.tiles_n);
    const int group = threadIdx.x / GROUP_THREADS, t = threadIdx.x % GROUP_THREADS, lane = t % 32;
    const int warp_m = t / 32 / WARPS_N, warp_n = t / 32 % WARPS_N;

    // The group's share of the columns, in stages: numbers first, first + 1 … end - 1.
    const int all = (n + DEPTH - 1) / DEPTH, shares = splits * GROUPS, share = rank * GROUPS + group;
    const int first = int((long long)all * share / shares), end = int((long long)all * (share + 1) / shares);
    const u32 ring = shared_address(shared) + group * (STAGES * STAGE_BYTES);

    const auto fetch = [&](int number) {
        if (number < end) {
            const int chunk = t % 8, column = number * DEPTH + 4 * chunk;
            const u32 stage = ring + (number - first) % STAGES * STAGE_BYTES;
#pragma unroll
            for (int r = 0; r < TILE_M + TILE_N; r += STEP_ROWS) {
                const int row = r + t / 8;
                // Rows past the end are read as the last one; nothing is stored there.
                const float* const from = r < TILE_M ? row_of(U, sampled.first_row + row, s.rows, n)
                                                     : row_of(V, sampled.first_column + row - TILE_M, s.columns, n);
                copy_async<VECTOR>(stage + row * ROW_BYTES + ((chunk ^ (row & 1) << 2) << 4), from, column, n);
            }
        }
        end_copies();
    };
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) fetch(first + i);

    if (!sampled.has_entries(blk_ptr)) {  // asked while the first stages are on their way
        wait_for_copies<0>();
        return;  // all CTAs of the cluster
    }

    Range range;
    float sum[2][4][4];
#pragma unroll
    for (int i = 0; i < 32; i++) sum[i / 16][i / 4 % 4][i % 4] = 0.0f;
    const u32 swizzle = (lane >> 2 & 1) << 6, at_chunk = lane % 4 << 4;
    const u32 at_u = (warp_m * 32 + lane / 4) * ROW_BYTES + at_chunk;
    const u32 at_v = (TILE_M + warp_n * 32 + lane / 4) * ROW_BYTES + at_chunk;
    for (int number = first; number < end; number++) {
        wait_for_copies<STAGES - 2>();
        asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "n"(GROUP_THREADS) : "memory");
        fetch(number + STAGES - 1);
        const u32 stage = ring + (number - first) % STAGES * STAGE_BYTES;
#pragma unroll
        for (int half = 0; half < 2; half++) {  // 16 columns each
            RowsOfU u[2];
#pragma unroll
            for (int i = 0; i < 2; i++) u[i].load(stage + at_u + i * 16 * ROW_BYTES + (half * 64 ^ swizzle), range);
#pragma unroll
            for (int pair = 0; pair < 2; pair++) {
                RowsOfV v[2];
#pragma unroll
                for (int j = 0; j < 2; j++)
                    v[j].load(stage + at_v + (2 * pair + j) * 8 * ROW_BYTES + (half * 64 ^ swizzle), range);
                float part[2][2][4];
#pragma unroll
                for (int product = 0; product < 6; product++) {
                    const int step = product % 2;
#pragma unroll
                    for (int i = 0; i < 2; i++)
#pragma unroll
                        for (int j = 0; j < 2; j++) {
                            const auto& a = product / 2 == 0 ? u[i].low[step] : u[i].high[step];
                            const auto& b = product / 2 == 1 ? v[j].low[step] : v[j].high[step];
                            if (product == 0) multiply_add<true>(part[i][j], a, b);
                            else multiply_add<false>(part[i][j], a, b);
                        }
                }
#pragma unroll
                for (int i = 0; i < 2; i++)
#pragma unroll
                    for (int j = 0; j < 2; j++)
#pragma unroll
                        for (int c = 0; c < 4; c++) sum[i][2 * pair + j][c] += part[i][j][c];
            }
        }
    }
    wait_for_copies<0>();
    range.publish(doubtful, n);  // and nobody reads a stage any more

    float* const mine = shared + group * (TILE_M * PITCH);
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int row = warp_m * 32 + i * 16 + h * 8 + lane / 4, column = warp_n * 32 + j * 8 + lane % 4 * 2;
                *reinterpret_cast<float2*>(mine + row * PITCH + column) = make_float2(sum[i][j][2 * h], sum[i][j][2 * h + 1]);
            }
    __syncthreads();  // the CTA's sums are complete
    if (splits > 1) cluster_barrier();  // those of the cluster too
    sampled.template pick<GROUPS, PITCH>(shared, doubtful, rank, row_ind, col_ind, blk_ptr, U, V, out);
    if (splits > 1) cluster_barrier();  // nobody reads the CTA's sums any more
}
