// Sparse x dense on Hopper's tensor cores: C = A·B and C = Aᵀ·B from one stored copy of A in 64 x 64 blocks.
// sm_90a only.
//
// Idea. At the densities of pruned networks a tensor core multiplies a block with its zeros faster than a CUDA
// core multiplies its entries. So a CTA scatters compressed blocks into dense tiles in shared memory and feeds
// them to wgmma. float32 accuracy comes from splitting each operand into two 11-bit halves, x = hi + lo, and adding
// three products, lo·hi + hi·lo + hi·hi; classes of lower precision need one product.
//
//   csb_split_b    pre-pass: turns B into tiles of 64 x 64, split, scaled, and in the very order in which wgmma
//                  reads shared memory, so that one bulk copy brings a tile. Also finds each tile's scale.
//   csb_spmm_wgmma the product.
//
// KIND says which class:      0 float32     1 TF32 class          2 float16         3 bfloat16
//   values, B and C           float32       float32               float16           bfloat16
//   halves of an operand      2 x float16   1 x float16, scaled   1 x float16       1 x bfloat16
// All add up in float32, at most 64 products inside the tensor core (which truncates) before a rounded addition.
//
// One direction or the other. "out" is the side of a block that indexes C, "in" the side that indexes B (A·B: out =
// row, Aᵀ·B: out = column); block (u, b) of the product is block number u * unit_stride + b * block_stride. Nothing
// else differs: an entry goes to the place (out, in) of its tile.
//
// Range. A is scaled by one power of two, each 64 x 64 tile of B by its own, so that the largest magnitude lies in
// [2^14, 2^15). `scales` holds what undoes both. A tile of B that this cannot hold (Inf, NaN, or a nonzero magnitude
// 2^28 below the largest) is flagged by a negative scale. Its products are left out and added afterwards
// by CUDA cores from the compressed entries, slowly, but as a float32 product would: Inf never meets a zero that is not
// stored.
//
// B is in_rows x n, C is out_rows x n, both row-major and contiguous, at any address.

#include "csb_wgmma_ptx.cuh"

constexpr int EDGE = 64;             // of a block of A and of a tile of B
constexpr int B_PIECE = 64 * 64 * 2;  // bytes of one half of a tile of B
constexpr int MAX_STAGES = 8;  // of either ring
constexpr int PRODUCER_WARPS = 8;

using u8 = unsigned char;
using u16 = unsigned short;

template <int KIND>
struct Class {
    using Value = u16;  // float16 or bfloat16, by their bits
    static constexpr int HALVES = 1;
    static constexpr bool SCALED = false, BFLOAT = KIND == 3;
};
template <>
struct Class<0> {
    using Value = float;
    static constexpr int HALVES = 2;
    static constexpr bool SCALED = true, BFLOAT = false;
};
template <>
struct Class<1> {
    using Value = float;
    static constexpr int HALVES = 1;
    static constexpr bool SCALED = true, BFLOAT = false;
};

template <int KIND>
__device__ __forceinline__ float to_float(typename Class<KIND>::Value x) {
    if constexpr (KIND < 2)
        return x;
    else if constexpr (KIND == 2)
        return half_to_float(x);
    else
        return __uint_as_float(u32(x) << 16);
}
template <int KIND>
__device__ __forceinline__ u32 pack(float low, float high) {
    return Class<KIND>::BFLOAT ? pack_bfloat(low, high) : pack_half(low, high);
}

// ----------------------------------------------------------------------------------------------------------------
// The order inside a tile. Sums over "in" may be taken in any order, and columns of C may change places if they
// change back at the end. Both are used so that a thread of a warpgroup holds neighbours: position p = 16 * s + 8 * j +
// 2 * q + b of wgmma (j, b range [0, 2), q range [0, 4)) stands for index 16 * s + 4 * q + 2 * j + b. Then the four
// values that a thread needs of a row of A, and the four columns of C that it owns, are one 8- or 16-byte access.
__device__ __forceinline__ int position_of(int index) {
    return (index & ~15) | (index & 2) << 2 | (index & 12) >> 1 | (index & 1);
}

// ----------------------------------------------------------------------------------------------------------------
// Pre-pass. CTA number b * groups + g makes the tile of rows [64 b, 64 b + 64) and columns [64 g, 64 g + 64) of B; what
// lies outside of B becomes zero. 256 threads; thread t: row t / 4, columns [16 * (t % 4), + 16).
// image   tile after tile: hi (8 KiB), then, for two halves, lo.
// scales  a float a tile: 1 / (scale of A * scale of the tile), negative when the tile is flagged.
template <int KIND>
__global__ void __launch_bounds__(256)
csb_split_b(const typename Class<KIND>::Value* B, int in_rows, int n, int groups, float inverse_a, u8* __restrict__ image,
            float* __restrict__ scales) {
    using Value = typename Class<KIND>::Value;
    constexpr int HALVES = Class<KIND>::HALVES;
    constexpr u32 INFINITE = KIND < 2 ? 0x7f800000u : KIND == 2 ? 0x7c00u : 0x7f80u;
    constexpr u32 MAGNITUDE = KIND < 2 ? 0x7fffffffu : 0x7fffu;
    __shared__ u32 largest_of[8], smallest_of[8];
    let_next_start();
    wait_for_previous();  // an earlier product may still read `image`, or write B

    const int t = threadIdx.x, in_row = t / 4;
    const int row = blockIdx.x / groups * EDGE + in_row, column = blockIdx.x % groups * EDGE + t % 4 * 16;
    alignas(16) Value x[16];
    const Value* const from = B + size_t(row) * n + column;
    if (row < in_rows && column + 16 <= n && ((reinterpret_cast<size_t>(from) | size_t(n) * sizeof(Value)) & 15) == 0) {
#pragma unroll
        for (int i = 0; i < int(sizeof(x) / 16); i++) reinterpret_cast<uint4*>(x)[i] = reinterpret_cast<const uint4*>(from)[i];
    } else {
#pragma unroll
        for (int i = 0; i < 16; i++) x[i] = row < in_rows && column + i < n ? from[i] : Value(0);
    }

    u32 largest = 0, smallest = ~0u;  // magnitudes by their bits, which have the same order
#pragma unroll
    for (int i = 0; i < 16; i++) {
        u32 bits;
        if constexpr (KIND < 2)
            bits = __float_as_uint(x[i]) & MAGNITUDE;
        else
            bits = x[i] & MAGNITUDE;
        largest = max(largest, bits);
        smallest = min(smallest, bits - 1);  // zero becomes the largest number
    }
    largest = __reduce_max_sync(~0u, largest);
    smallest = __reduce_min_sync(~0u, smallest);
    if (t % 32 == 0) largest_of[t / 32] = largest, smallest_of[t / 32] = smallest;
    __syncthreads();  // every warp's extremes are in place
#pragma unroll
    for (int w = 0; w < 8; w++) largest = max(largest, largest_of[w]), smallest = min(smallest, smallest_of[w]);

    bool flagged = largest >= INFINITE;
    float scale = 1.0f, inverse = 1.0f;
    if constexpr (Class<KIND>::SCALED) {
        // 2^(14 - exponent of the largest), biased; at most 2^126, so that the inverse is a normal number.
        const int biased = largest == 0 ? 127 : min(268 - int(largest >> 23), 253);
        scale = flagged ? 0.0f : __uint_as_float(u32(biased) << 23);
        inverse = __uint_as_float(u32(254 - biased) << 23) * inverse_a;
        flagged |= smallest != ~0u && __uint_as_float(smallest + 1) * scale < 0x1p-14f;
    }
    if (t == 0) scales[blockIdx.x] = flagged ? -1.0f : inverse;

    // Chunk 2 * (t % 4) + j of the row takes the columns 4 * q + 2 * j + {0, 1} of this thread's 16.
    uint4* const to = reinterpret_cast<uint4*>(image + size_t(blockIdx.x) * (HALVES * B_PIECE)) + position_of(in_row) * 8;
    const int swizzle = position_of(in_row) & 7;
#pragma unroll
    for (int j = 0; j < 2; j++) {
        u32 hi[4], lo[4];
#pragma unroll
        for (int q = 0; q < 4; q++) {
            if constexpr (KIND >= 2) {
                hi[q] = u32(x[4 * q + 2 * j]) | u32(x[4 * q + 2 * j + 1]) << 16;
            } else {
                const float first = x[4 * q + 2 * j] * scale, second = x[4 * q + 2 * j + 1] * scale;
                hi[q] = pack_half(first, second);
                lo[q] = pack_half(first - half_to_float(hi[q] & 0xffff), second - half_to_float(hi[q] >> 16));
            }
        }
        const int chunk = (t % 4 * 2 + j) ^ swizzle;
        to[chunk] = make_uint4(hi[0], hi[1], hi[2], hi[3]);
        if constexpr (HALVES == 2) to[chunk + B_PIECE / 16] = make_uint4(lo[0], lo[1], lo[2], lo[3]);
    }
}

// ----------------------------------------------------------------------------------------------------------------
// Tiles of A in shared memory. Two halves: 32 bits a cell, hi below lo, cell (out, in) at word out * 64 +
// (in ^ (out & 31)); so both entries that follow each other in a row and entries that follow each other in a column
// fall into different banks, and so do the 16-byte reads of a warp. One half: 16 bits a cell, byte out * 128 +
// (2 * in ^ 4 * (out & 31)).
template <int HALVES>
struct Tile {
    static constexpr int BYTES = EDGE * EDGE * 2 * HALVES;

    // Which row of the tile a thread's row of wgmma stands for (h = 0; h = 1 is two rows further): bits chosen so
    // that the exclusive-or above separates the lanes that read together.
    static __device__ __forceinline__ int row_of(int thread) {
        const int lane_row = thread % 32 / 4, warp = thread / 32;
        return (lane_row & 1) << 4 | (lane_row & 2) << 2 | (lane_row & 4) | (warp & 1) | (warp & 2) << 4;
    }

    // The thread's part of the tile in wgmma's order: hi[step][h + 2 * j], lo likewise.
    static __device__ __forceinline__ void load(u32 tile, int thread, u32 (&hi)[4][4], u32 (&lo)[4][4]) {
        const int row = row_of(thread), q = thread % 4;
        const bool odd = row & 1;  // swaps the words of each pair
        if constexpr (HALVES == 2) {
            const u32 low = odd ? 0x1054 : 0x5410, high = odd ? 0x3276 : 0x7632;
            const u32 base = tile + row * 256, offset = q * 16 ^ (row & 28) << 2;
#pragma unroll
            for (int step = 0; step < 4; step++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const uint4 v = load128(base + h * 512 + (offset ^ step * 64));
                    // Row bit 1 is h: it swaps the pairs.
                    const u32 a = h ? v.z : v.x, b = h ? v.w : v.y, c = h ? v.x : v.z, d = h ? v.y : v.w;
                    hi[step][h] = pick_bytes(a, b, low), lo[step][h] = pick_bytes(a, b, high);
                    hi[step][h + 2] = pick_bytes(c, d, low), lo[step][h + 2] = pick_bytes(c, d, high);
                }
        } else {
            const u32 base = tile + row * 128;
#pragma unroll
            for (int step = 0; step < 4; step++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const u32 offset = (step * 32 + q * 8) ^ ((row & 28) << 2 | h << 3);
                    const uint2 v = load64(base + h * 256 + offset);
                    hi[step][h] = odd ? v.y : v.x, hi[step][h + 2] = odd ? v.x : v.y;
                }
        }
    }
};

// Four neighbouring entries on their way into a tile: values, and four bytes of indices each.
template <int KIND>
struct Quad {
    typename Class<KIND>::Value value[4];
    u32 out, in;

    // Entries [e, e + 4) of the matrix, e a multiple of 4; those past its end read as anything.
    __device__ __forceinline__ void load(const typename Class<KIND>::Value* __restrict__ values, const u8* __restrict__ out_ind,
                                         const u8* __restrict__ in_ind, int e, int entries) {
        if (e + 4 <= entries) {
            out = __ldg(reinterpret_cast<const u32*>(out_ind + e)), in = __ldg(reinterpret_cast<const u32*>(in_ind + e));
            if constexpr (KIND < 2) {
                const float4 v = __ldg(reinterpret_cast<const float4*>(values + e));
                value[0] = v.x, value[1] = v.y, value[2] = v.z, value[3] = v.w;
            } else {
                const uint2 v = __ldg(reinterpret_cast<const uint2*>(values + e));
                value[0] = u16(v.x), value[1] = u16(v.x >> 16), value[2] = u16(v.y), value[3] = u16(v.y >> 16);
            }
        } else {
            out = in = 0;
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (e + i < entries) {
                    value[i] = values[e + i];
                    out |= u32(out_ind[e + i]) << 8 * i, in |= u32(in_ind[e + i]) << 8 * i;
                }
        }
    }

    // Store those that belong to [begin, end) where they belong.
    __device__ __forceinline__ void scatter(u32 tile, int e, int begin, int end, float scale) const {
        constexpr bool TWO = Class<KIND>::HALVES == 2;
        // Four bytes at a time: the low byte of each offset, of which the high byte is `out`.
        const u32 low = TWO ? (in ^ (out & 0x1f1f1f1f)) << 2 : (in << 2) ^ (out & 0x1f1f1f1f) << 3;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            // Selectors 8 and above repeat a byte's sign, 0 because indices are below 64.
            u32 offset = pick_bytes(low, out, 0xCC40 + 0x1111 * i);
            if constexpr (!TWO) offset >>= 1;
            if (u32(e + i - begin) >= u32(end - begin)) continue;
            if constexpr (TWO) {
                const float x = value[i] * scale;
                const float hi = half_to_float(pack_half(x, 0.0f));
                store32(tile + offset, pack_half(hi, x - hi));
            } else if constexpr (KIND == 1) {
                store16(tile + offset, pack_half(value[i] * scale, 0.0f));
            } else {
                store16(tile + offset, value[i]);
            }
        }
    }
};

// ----------------------------------------------------------------------------------------------------------------
// The product. A CTA computes tiles of 64 * ROWS x COLS of C. Its warps have two trades:
//   consumers  ROWS warpgroups, one a block row: read tiles of A from shared memory into registers, multiply
//   producers  8 warps: fetch compressed entries ahead of time, scatter them into zeroed tiles of A; their first
//              thread also starts the copies of tiles of B
// Tiles of A and of B travel through two rings of stages; a full and an empty barrier a stage.
//
// Clusters. split > 1: its CTAs share a tile of C, each takes a part of the sum and sends its partial rows to the CTA
// that owns them, which adds them in a fixed order. share > 1: its CTAs have neighbouring tile rows, so the same B;
// each brings a part of every tile of B to all of them. Not both. With split = 1 a CTA takes tile after tile,
// gridDim.x apart, so that storing one overlaps with the next.
//
// Dynamic shared memory: B stages | A stages | partial rows (split > 1) | barriers.
struct Sizes {
    int unit_stride, block_stride, units, blocks;  // blocks of A, as the product sees them
    int entries, out_rows, in_rows, n;
    int row_tiles, column_tiles;  // of C; row_tiles is a multiple of `share`
    int split, share, a_stages, b_stages;
};

template <int KIND>
__device__ __forceinline__ void store_row4(typename Class<KIND>::Value* C, const Sizes& z, int row, int column, bool aligned,
                                           float x0, float x1, float x2, float x3) {
    if (row >= z.out_rows) return;
    auto* const to = C + size_t(row) * z.n + column;
    if (aligned && column + 4 <= z.n) {
        if constexpr (KIND < 2)
            *reinterpret_cast<float4*>(to) = make_float4(x0, x1, x2, x3);
        else
            *reinterpret_cast<uint2*>(to) = make_uint2(pack<KIND>(x0, x1), pack<KIND>(x2, x3));
        return;
    }
    const float x[4] = {x0, x1, x2, x3};
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (column + i < z.n) {
            if constexpr (KIND < 2)
                to[i] = x[i];
            else
                to[i] = u16(pack<KIND>(x[i], 0.0f));
        }
}

// Adds the products with flagged tiles of B to rows [first, last) of the CTA's tile, which C already holds. `thread`
// range [0, threads): COLS threads side by side own a column each, their groups eight rows at a time.
template <int KIND, int COLS>
__device__ __noinline__ void add_flagged(const Sizes& z, const typename Class<KIND>::Value* __restrict__ values,
                                         const u8* __restrict__ out_ind, const u8* __restrict__ in_ind,
                                         const int* __restrict__ blk_ptr, const typename Class<KIND>::Value* B,
                                         const float* scales, typename Class<KIND>::Value* C, int first_row, int first,
                                         int last, int first_column, int thread, int threads) {
    const int column = first_column + thread % COLS, groups = z.column_tiles * (COLS / EDGE);
    if (column >= z.n) return;
    for (int chunk = first + thread / COLS * 8; chunk < last; chunk += threads / COLS * 8) {
        const int unit = (first_row + chunk) / EDGE;
        if (unit >= z.units) return;
        float sum[8] = {};
        bool any = false;
        for (int b = 0; b < z.blocks; b++) {
            if (scales[size_t(b) * groups + column / EDGE] >= 0.0f) continue;
            any = true;
            const int* const at = blk_ptr + (size_t(unit) * z.unit_stride + size_t(b) * z.block_stride);
            for (int e = at[0]; e < at[1]; e++) {
                const int row = int(out_ind[e]) - chunk % EDGE;
                if (row < 0 || row >= 8) continue;
                const float x = to_float<KIND>(values[e]) * to_float<KIND>(B[size_t(b * EDGE + in_ind[e]) * z.n + column]);
#pragma unroll
                for (int i = 0; i < 8; i++)
                    if (row == i) sum[i] += x;
            }
        }
        if (!any) return;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int row = first_row + chunk + i;
            if (row >= z.out_rows) break;
            auto* const to = C + size_t(row) * z.n + column;
            const float total = to_float<KIND>(*to) + sum[i];
            if constexpr (KIND < 2)
                *to = total;
            else
                *to = u16(pack<KIND>(total, 0.0f));
        }
    }
}

template <int KIND, int ROWS, int COLS>
__global__ void __launch_bounds__(ROWS * 128 + PRODUCER_WARPS * 32, 1)
csb_spmm_wgmma(const typename Class<KIND>::Value* __restrict__ values, const u8* __restrict__ out_ind,
               const u8* __restrict__ in_ind, const int* __restrict__ blk_ptr, const __grid_constant__ Sizes z, float scale_a, const u8* image,
               const float* scales, const typename Class<KIND>::Value* B, typename Class<KIND>::Value* C) {
    constexpr int HALVES = Class<KIND>::HALVES, GROUPS = COLS / EDGE, REGISTERS = COLS / 2;
    constexpr bool BFLOAT = Class<KIND>::BFLOAT;
    constexpr int B_TILE = HALVES * B_PIECE, B_STAGE = GROUPS * B_TILE, A_TILE = Tile<HALVES>::BYTES, A_STAGE = ROWS * A_TILE;
    constexpr int CONSUMERS = ROWS * 128, PART = PRODUCER_WARPS * 32 / ROWS;  // producers of one block row
    constexpr int AHEAD = ROWS == 2 ? 3 : 2;                                   // quads a producer fetches ahead

    extern __shared__ __align__(1024) u8 shared[];
    const u32 b_ring = shared_address(shared), a_ring = b_ring + z.b_stages * B_STAGE;
    const u32 partials = a_ring + z.a_stages * A_STAGE;
    const u32 full_b = partials + (z.split > 1 ? CONSUMERS / 2 * COLS * 4 : 0), empty_b = full_b + 8 * MAX_STAGES;
    const u32 full_a = empty_b + 8 * MAX_STAGES, empty_a = full_a + 8 * MAX_STAGES * ROWS;
    const u32 received = empty_a + 8 * MAX_STAGES * ROWS;

    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int rank = blockIdx.x % (z.split * z.share);  // in the cluster
    const int part = z.split > 1 ? rank : 0;
    // Blocks [first_block, first_block + steps) of a block row; tiles first_tile, first_tile + gridDim.x, ...
    const int first_block = int((long long)z.blocks * part / z.split);
    const int steps = int((long long)z.blocks * (part + 1) / z.split) - first_block;
    const int tiles = z.row_tiles * z.column_tiles, first_tile = blockIdx.x / z.split;
    const int my_tiles = z.split > 1 ? 1 : (tiles - first_tile + int(gridDim.x) - 1) / int(gridDim.x);

    let_next_start();
    if (thread == 0) {
        for (int s = 0; s < z.b_stages; s++) {
            barrier_init(full_b + 8 * s, 1);
            barrier_init(empty_b + 8 * s, ROWS * 4 * z.share);
        }
        for (int s = 0; s < z.a_stages * ROWS; s++) {
            barrier_init(full_a + 8 * s, PRODUCER_WARPS / ROWS);
            barrier_init(empty_a + 8 * s, 4);
        }
        barrier_init(received, 1);
        barrier_expect(received, CONSUMERS / 2 * COLS * 4);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();  // barriers are ready
    if (z.split * z.share > 1) {
        cluster_arrive();
        cluster_wait();  // those of the whole cluster, too
    }

    if (warp < ROWS * 4) {
        // ---- consumers ----
        if constexpr (ROWS == 2)
            asm volatile("setmaxnreg.inc.sync.aligned.u32 184;");
        else
            asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        const int row_block = warp / 4, t = thread % 128;
        const int row0 = row_block * EDGE + Tile<HALVES>::row_of(t), column0 = t % 4 * 4;
        const bool aligned = z.n % 4 == 0 && (reinterpret_cast<size_t>(C) & (4 * sizeof(*C) - 1)) == 0;
        int a_stage = 0, a_phase = 0, b_stage = 0, b_phase = 0;
        for (int k = 0; k < my_tiles; k++) {
            const int tile = first_tile + k * gridDim.x;
            const int first_row = tile % z.row_tiles * (ROWS * EDGE), first_column = tile / z.row_tiles * COLS;
            float total[REGISTERS];
#pragma unroll
            for (int i = 0; i < REGISTERS; i++) total[i] = 0.0f;
            bool flagged = false;
            for (int step = 0; step < steps; step++) {
                u32 hi[4][4], lo[4][4];
                const u32 a_slot = a_stage * ROWS + row_block;
                barrier_wait(full_a + 8 * a_slot, a_phase);
                Tile<HALVES>::load(a_ring + a_slot * A_TILE, t, hi, lo);
                __syncwarp();
                if (lane == 0) barrier_arrive(empty_a + 8 * a_slot);
                if (++a_stage == z.a_stages) a_stage = 0, a_phase ^= 1;

                barrier_wait(full_b + 8 * b_stage, b_phase);
                const u32 tile_b = b_ring + b_stage * B_STAGE;
                float product[REGISTERS];
                wgmma_fence();
                // Small products first: the tensor core truncates less while the sum is small.
                if constexpr (HALVES == 2) {
#pragma unroll
                    for (int s = 0; s < 4; s++) {
                        wgmma<BFLOAT>(product, lo[s], tile_descriptor(tile_b + s * 2048, B_TILE), s > 0);
                        wgmma<BFLOAT>(product, hi[s], tile_descriptor(tile_b + B_PIECE + s * 2048, B_TILE), 1);
                    }
                }
#pragma unroll
                for (int s = 0; s < 4; s++)
                    wgmma<BFLOAT>(product, hi[s], tile_descriptor(tile_b + s * 2048, B_TILE), HALVES == 2 || s > 0);
                wgmma_commit();
                float inverse[GROUPS];  // who waited for the copies of the pre-pass's tiles sees its scales, too
#pragma unroll
                for (int g = 0; g < GROUPS; g++)
                    inverse[g] = *(volatile const float*)(scales + size_t(first_block + step) * (z.column_tiles * GROUPS) +
                                                          first_column / EDGE + g);
                wgmma_wait<0>();
#pragma unroll
                for (int i = 0; i < REGISTERS; i++) asm volatile("" : "+f"(product[i])::"memory");
                if (lane == 0) {
                    if (z.share == 1)
                        barrier_arrive(empty_b + 8 * b_stage);
                    else
                        for (int r = 0; r < z.share; r++) barrier_arrive_at(empty_b + 8 * b_stage, r);
                }
                if (++b_stage == z.b_stages) b_stage = 0, b_phase ^= 1;
#pragma unroll
                for (int g = 0; g < GROUPS; g++) {
                    if (inverse[g] < 0.0f) {
                        flagged = true;
                        continue;
                    }
#pragma unroll
                    for (int i = g * 32; i < g * 32 + 32; i++) total[i] = fmaf(product[i], inverse[g], total[i]);
                }
            }

            if (z.split == 1) {
#pragma unroll
                for (int h = 0; h < 2; h++)
#pragma unroll
                    for (int i = 0; i < COLS / 16; i++)
                        store_row4<KIND>(C, z, first_row + row0 + 2 * h, first_column + column0 + 16 * i, aligned,
                                         total[8 * i + 2 * h], total[8 * i + 2 * h + 1], total[8 * i + 4 + 2 * h],
                                         total[8 * i + 5 + 2 * h]);
                if (flagged) {
                    group_sync(8 + row_block, 128);  // the tile is in C before others add to it
                    add_flagged<KIND, COLS>(z, values, out_ind, in_ind, blk_ptr, B, scales, C, first_row, row_block * EDGE,
                                            row_block * EDGE + EDGE, first_column, t, 128);
                }
                continue;
            }
            // Row r of the tile goes to CTA r / rows_each, which keeps what part p sends at [p][r % rows_each]. The
            // exclusive-or on the column spreads the rows of a warp over the banks.
            const int rows_each = ROWS * EDGE / z.split;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int row = row0 + 2 * h, owner = row / rows_each;
                const u32 to = address_at(partials + (part * rows_each + row % rows_each) * (COLS * 4), owner);
                const u32 barrier = address_at(received, owner);
                const int spread = (row >> 2 & (COLS / 16 - 1)) << 4;
#pragma unroll
                for (int i = 0; i < COLS / 16; i++)
                    store_at(to + ((column0 + 16 * i) ^ spread) * 4, total[8 * i + 2 * h], total[8 * i + 2 * h + 1],
                             total[8 * i + 4 + 2 * h], total[8 * i + 5 + 2 * h], barrier);
            }
            barrier_wait(received, 0);
            for (int q = thread; q < rows_each * (COLS / 4); q += CONSUMERS) {
                const int r = q / (COLS / 4), row = part * rows_each + r, column = q % (COLS / 4) * 4;
                const u32 from = partials + r * (COLS * 4) + (column ^ (row >> 2 & (COLS / 16 - 1)) << 4) * 4;
                float4 sum = load_float4(from);
                for (int p = 1; p < z.split; p++) {
                    const float4 v = load_float4(from + p * rows_each * (COLS * 4));
                    sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
                }
                store_row4<KIND>(C, z, first_row + row, first_column + column, aligned, sum.x, sum.y, sum.z, sum.w);
            }
            // Another part may have met a flag: ask for all of them. Nearly always there is none.
            bool any = false;
            const int groups = z.column_tiles * GROUPS;
            for (int q = lane; q < z.blocks * GROUPS; q += 32)
                any |= scales[size_t(q / GROUPS) * groups + first_column / EDGE + q % GROUPS] < 0.0f;
            if (__any_sync(~0u, any)) {
                group_sync(8, CONSUMERS);  // the rows are in C before others add to them
                add_flagged<KIND, COLS>(z, values, out_ind, in_ind, blk_ptr, B, scales, C, first_row, part * rows_each,
                                        part * rows_each + rows_each, first_column, thread, CONSUMERS);
            }
        }
    } else {
        // ---- producers ----
        if constexpr (ROWS == 2)
            asm volatile("setmaxnreg.dec.sync.aligned.u32 72;");
        else
            asm volatile("setmaxnreg.dec.sync.aligned.u32 136;");
        const int p = thread - CONSUMERS, row_block = p / PART, t = p % PART;
        // What is held in `ahead`, and what comes after it: tile, step, and the entries [begin, end).
        Quad<KIND> ahead[AHEAD];
        int begin = 0, end = 0, next_begin = 0, next_end = 0;
        int next_tile = 0, next_step = 0;
        auto locate = [&]() {  // pointers of the block (next_tile, next_step); then on to the block after it
            next_begin = next_end = 0;
            if (next_tile >= my_tiles) return;
            const int unit = (first_tile + next_tile * int(gridDim.x)) % z.row_tiles * ROWS + row_block;
            if (unit < z.units) {
                const int* const at = blk_ptr + (unit * z.unit_stride + (first_block + next_step) * z.block_stride);
                next_begin = __ldg(at), next_end = __ldg(at + 1);
            }
            if (++next_step == steps) next_step = 0, next_tile++;
        };
        auto fetch = [&]() {
            begin = next_begin, end = next_end;
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                const int e = (begin & ~3) + 4 * (t + i * PART);
                if (e < end) ahead[i].load(values, out_ind, in_ind, e, z.entries);
            }
        };
        // The courier's work: tiles of B in the order of the steps.
        int brought = 0, b_stage = 0, b_phase = 1, b_tile = first_tile, b_step = 0;
        auto bring = [&]() {
            const size_t at = size_t(first_block + b_step) * (z.column_tiles * GROUPS) + b_tile / z.row_tiles * GROUPS;
            const u32 full = full_b + 8 * b_stage, to = b_ring + b_stage * B_STAGE;
            barrier_wait(empty_b + 8 * b_stage, b_phase);
            barrier_expect(full, B_STAGE);
            if (z.share == 1) {
                bulk_copy(to, image + at * B_TILE, B_STAGE, full);
            } else {
                const int bytes = B_STAGE / z.share;
                bulk_copy_to_all(to + rank * bytes, image + at * B_TILE + rank * bytes, bytes, full, (1u << z.share) - 1);
            }
            if (++b_stage == z.b_stages) b_stage = 0, b_phase ^= 1;
            if (++b_step == steps) b_step = 0, b_tile += gridDim.x;
            brought++;
        };
        const int all_steps = my_tiles * steps;
        locate();
        fetch();
        locate();
        int stage = 0, phase = 1;
        for (int k = 0; k < all_steps; k++) {
            const u32 slot = stage * ROWS + row_block, tile = a_ring + slot * A_TILE;
            barrier_wait(empty_a + 8 * slot, phase);
#pragma unroll
            for (int i = 0; i < A_TILE / (16 * PART); i++) store_zero16(tile + 16 * (t + i * PART));
            group_sync(1 + row_block, PART);  // all of the tile is zero before anyone scatters
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                const int e = (begin & ~3) + 4 * (t + i * PART);
                if (e < end) ahead[i].scatter(tile, e, begin, end, scale_a);
            }
            for (int e = (begin & ~3) + 4 * (t + AHEAD * PART); e < end; e += 4 * PART) {
                Quad<KIND> quad;
                quad.load(values, out_ind, in_ind, e, z.entries);
                quad.scatter(tile, e, begin, end, scale_a);
            }
            __syncwarp();
            if (lane == 0) barrier_arrive(full_a + 8 * slot);
            if (++stage == z.a_stages) stage = 0, phase ^= 1;
            fetch();
            locate();
            // Two tiles of A are ready before anyone waits for the pre-pass. Later the stage of B that is asked for was
            // in use three steps ago, so that asking hardly ever waits.
            if (p == 0 && (k > 0 || all_steps == 1)) {
                if (brought == 0) wait_for_previous();
                while (brought < all_steps && brought <= k + z.b_stages - 3) bring();
            }
            __syncwarp();
        }
    }
    if (z.share > 1) {
        // Stay until no other CTA of the cluster can reach into this one's shared memory any more.
        __syncwarp();
        cluster_arrive();
        cluster_wait();
    }
}
