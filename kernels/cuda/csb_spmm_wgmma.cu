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
//   csb_spmm_wgmma the product. With FUSED it splits B itself: more work a CTA, but no launch before it, which is
//                  what counts for few columns.
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
// 2^28 below the largest) is flagged by a negative scale. Values of A that may change after the plan was made (`live`) are
// looked at while they are scattered; a block that A's scale does not fit is flagged, too. Its products are left out and added afterwards
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
// A tile of B, 64 x 64, split by threads that have a sixteenth of 4 rows each: thread t row t / 4, columns
// [16 * (t % 4), + 16).
template <int KIND>
struct PartOfB {
    using Value = typename Class<KIND>::Value;
    static constexpr u32 INFINITE = KIND < 2 ? 0x7f800000u : KIND == 2 ? 0x7c00u : 0x7f80u;
    static constexpr u32 MAGNITUDE = KIND < 2 ? 0x7fffffffu : 0x7fffu;

    alignas(16) Value x[16];

    // What lies outside of B is zero.
    __device__ __forceinline__ void load(const Value* B, int row, int column, int in_rows, int n) {
        const Value* const from = B + size_t(row) * n + column;
        if (row < in_rows && column + 16 <= n && (reinterpret_cast<size_t>(from) & 15) == 0) {
#pragma unroll
            for (int i = 0; i < int(sizeof(x) / 16); i++)
                reinterpret_cast<uint4*>(x)[i] = reinterpret_cast<const uint4*>(from)[i];
        } else {
#pragma unroll
            for (int i = 0; i < 16; i++) x[i] = row < in_rows && column + i < n ? from[i] : Value(0);
        }
    }

    // Largest magnitude and, less one, smallest nonzero magnitude of the warp's rows, by their bits, which have the same
    // order; so zeros count as the largest number.
    __device__ __forceinline__ void extremes(u32& largest, u32& smallest) const {
        largest = 0, smallest = ~0u;
#pragma unroll
        for (int i = 0; i < 16; i++) {
            u32 bits;
            if constexpr (KIND < 2)
                bits = __float_as_uint(x[i]) & MAGNITUDE;
            else
                bits = x[i] & MAGNITUDE;
            largest = max(largest, bits);
            smallest = min(smallest, bits - 1);
        }
        largest = __reduce_max_sync(~0u, largest);
        smallest = __reduce_min_sync(~0u, smallest);
    }

    // The tile's scale, and what undoes it and A's; the latter is negative when the tile is flagged.
    static __device__ __forceinline__ float scale_of(u32 largest, u32 smallest, float inverse_a, float& inverse) {
        bool flagged = largest >= INFINITE;
        inverse = 1.0f;
        float scale = 1.0f;
        if constexpr (Class<KIND>::SCALED) {
            // 2^(14 - exponent of the largest), biased; at most 2^126, so that its inverse is a normal number.
            const int biased = largest == 0 ? 127 : min(268 - int(largest >> 23), 253);
            scale = flagged ? 0.0f : __uint_as_float(u32(biased) << 23);
            inverse = __uint_as_float(u32(254 - biased) << 23) * inverse_a;
            flagged |= smallest != ~0u && __uint_as_float(smallest + 1) * scale < 0x1p-14f;
            flagged |= inverse > 0x1.fffffep127f;  // beyond float32: zero times it would be NaN
        }
        if (flagged) inverse = -1.0f;
        return scale;
    }

    // Write the thread's share of the tile's image: two 16-byte chunks of row `row` of each half.
    __device__ __forceinline__ void write(uint4* image, int row, int t, float scale) const {
        const int position = position_of(row);
        uint4* const to = image + position * 8;
        // Chunk 2 * (t % 4) + j takes the columns 4 * q + 2 * j + {0, 1} of this thread's 16.
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
            const int chunk = (t % 4 * 2 + j) ^ (position & 7);
            to[chunk] = make_uint4(hi[0], hi[1], hi[2], hi[3]);
            if constexpr (Class<KIND>::HALVES == 2) to[chunk + B_PIECE / 16] = make_uint4(lo[0], lo[1], lo[2], lo[3]);
        }
    }
};

// Pre-pass. CTA number b * groups + g makes the tile of rows [64 b, 64 b + 64) and columns [64 g, 64 g + 64) of B.
// image   tile after tile: hi (8 KiB), then, for two halves, lo.
// scales  16 bytes a tile, so that bulk copies can bring them; the first float is 1 / (scale of A * scale of the tile),
//         negative when the tile is flagged.
template <int KIND>
__global__ void __launch_bounds__(256)
csb_split_b(const typename Class<KIND>::Value* B, int in_rows, int n, int groups, float inverse_a, u8* __restrict__ image,
            float* __restrict__ scales) {
    __shared__ u32 largest_of[8], smallest_of[8];
    let_next_start();
    wait_for_previous();  // an earlier product may still read `image`, or write B

    const int t = threadIdx.x, row = t / 4;
    PartOfB<KIND> part;
    part.load(B, blockIdx.x / groups * EDGE + row, blockIdx.x % groups * EDGE + t % 4 * 16, in_rows, n);
    u32 largest, smallest;
    part.extremes(largest, smallest);
    if (t % 32 == 0) largest_of[t / 32] = largest, smallest_of[t / 32] = smallest;
    __syncthreads();  // every warp's extremes are in place
#pragma unroll
    for (int w = 0; w < 8; w++) largest = max(largest, largest_of[w]), smallest = min(smallest, smallest_of[w]);
    float inverse;
    const float scale = PartOfB<KIND>::scale_of(largest, smallest, inverse_a, inverse);
    if (t == 0) scales[size_t(blockIdx.x) * 4] = inverse;
    part.write(reinterpret_cast<uint4*>(image + size_t(blockIdx.x) * (Class<KIND>::HALVES * B_PIECE)), row, t, scale);
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

    // Entries [e, e + 4) of the matrix; e is a multiple of 4, and all of them exist.
    __device__ __forceinline__ void load(const typename Class<KIND>::Value* __restrict__ values, const u8* __restrict__ out_ind,
                                         const u8* __restrict__ in_ind, int e) {
        out = __ldg(reinterpret_cast<const u32*>(out_ind + e)), in = __ldg(reinterpret_cast<const u32*>(in_ind + e));
        if constexpr (KIND < 2) {
            const float4 v = __ldg(reinterpret_cast<const float4*>(values + e));
            value[0] = v.x, value[1] = v.y, value[2] = v.z, value[3] = v.w;
        } else {
            const uint2 v = __ldg(reinterpret_cast<const uint2*>(values + e));
            value[0] = u16(v.x), value[1] = u16(v.x >> 16), value[2] = u16(v.y), value[3] = u16(v.y >> 16);
        }
    }

    // The last entries of the matrix, fewer than four.
    __device__ __forceinline__ void load_rest(const typename Class<KIND>::Value* __restrict__ values,
                                              const u8* __restrict__ out_ind, const u8* __restrict__ in_ind, int e,
                                              int entries) {
        out = in = 0;
#pragma unroll
        for (int i = 0; i < 3; i++)
            if (e + i < entries) {
                value[i] = values[e + i];
                out |= u32(out_ind[e + i]) << 8 * i, in |= u32(in_ind[e + i]) << 8 * i;
            }
    }

    // Whether one of those in [begin, end) does not fit A's scale.
    __device__ __forceinline__ bool is_out_of_range(int e, int begin, int end, float scale) const {
        bool out_of_range = false;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (u32(e + i - begin) >= u32(end - begin)) continue;
            const float x = fabsf(to_float<KIND>(value[i]));
            const float least = Class<KIND>::SCALED ? 0x1p-14f : 0.0f, most = Class<KIND>::SCALED ? 0x1p15f : 0x1.fffffep127f;
            out_of_range |= !(x * scale <= most) || (x != 0.0f && x * scale < least);
        }
        return out_of_range;
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
            const bool mine = u32(e + i - begin) < u32(end - begin);
            if constexpr (TWO) {
                const float x = value[i] * scale;
                const float hi = half_to_float(pack_half(x, 0.0f));
                store32_if(mine, tile + offset, pack_half(hi, x - hi));
            } else if constexpr (KIND == 1) {
                store16_if(mine, tile + offset, pack_half(value[i] * scale, 0.0f));
            } else {
                store16_if(mine, tile + offset, value[i]);
            }
        }
    }
};

// ----------------------------------------------------------------------------------------------------------------
// The product. A CTA computes tiles of 64 * ROWS x COLS of C. Its warps have two trades:
//   consumers  ROWS warpgroups, one a block row: read tiles of A from shared memory into registers, multiply; a
//              thread of the last one also starts the copies of tiles of B, as soon as a stage is free
//   producers  2 groups of 4 warps: fetch compressed entries ahead of time, scatter them into zeroed tiles of A. With
//              two block rows a group has one of them, with one every second step. Fused, a group also splits the tiles
//              of B of every second step.
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
    int live;  // whether values of A may have changed since its scale was chosen
};

// Four neighbours of a row of C, at an address that is a multiple of their size.
template <int KIND>
__device__ __forceinline__ void store4(typename Class<KIND>::Value* to, float4 x) {
    if constexpr (KIND < 2)
        *reinterpret_cast<float4*>(to) = x;
    else
        *reinterpret_cast<uint2*>(to) = make_uint2(pack<KIND>(x.x, x.y), pack<KIND>(x.z, x.w));
}

// The same where some may lie outside of C.
template <int KIND>
__device__ __forceinline__ void store_some(typename Class<KIND>::Value* C, const Sizes& z, int row, int column, bool aligned,
                                           float4 v) {
    if (row >= z.out_rows) return;
    auto* const to = C + size_t(row) * z.n + column;
    if (aligned && column + 4 <= z.n) return store4<KIND>(to, v);
    const float x[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (column + i < z.n) {
            if constexpr (KIND < 2)
                to[i] = x[i];
            else
                to[i] = u16(pack<KIND>(x[i], 0.0f));
        }
}

// Whether a tile of B must be left to CUDA cores; all lanes of the warp ask for the same tile.
template <int KIND>
__device__ bool is_flagged(const typename Class<KIND>::Value* B, int row, int column, int in_rows, int n) {
    u32 largest = 0, smallest = ~0u;
    for (int t = threadIdx.x % 32; t < 256; t += 32) {
        PartOfB<KIND> part;
        part.load(B, row + t / 4, column + t % 4 * 16, in_rows, n);
        u32 most, least;
        part.extremes(most, least);
        largest = max(largest, most), smallest = min(smallest, least);
    }
    float inverse;
    PartOfB<KIND>::scale_of(largest, smallest, 1.0f, inverse);
    return inverse < 0.0f;
}

// Whether a block of A must be left to CUDA cores; all lanes of the warp ask for the same block.
template <int KIND>
__device__ bool is_flagged(const typename Class<KIND>::Value* values, int begin, int end, float scale) {
    Quad<KIND> quad{};
    bool flagged = false;
    for (int e = begin + threadIdx.x % 32; e < end; e += 32) {
        quad.value[0] = values[e];
        flagged |= quad.is_out_of_range(e, e, e + 1, scale);
    }
    return __any_sync(~0u, flagged);
}

// Adds the products with flagged tiles of B to rows [first, last) of the CTA's tile, which C already holds. `thread`
// range [0, threads): COLS threads side by side own a column each, their groups eight rows at a time.
template <int KIND, int COLS>
__device__ __noinline__ void add_flagged(const Sizes& z, const typename Class<KIND>::Value* __restrict__ values,
                                         const u8* __restrict__ out_ind, const u8* __restrict__ in_ind,
                                         const int* __restrict__ blk_ptr, float scale_a,
                                         const typename Class<KIND>::Value* B, typename Class<KIND>::Value* C, int first_row, int first, int last,
                                         int first_column, int thread, int threads) {
    const int column = first_column + thread % COLS;
    for (int chunk = first + thread / COLS * 8; chunk < last; chunk += threads / COLS * 8) {
        const int unit = (first_row + chunk) / EDGE;
        if (unit >= z.units) return;
        float sum[8] = {};
        for (int b = 0; b < z.blocks; b++) {
            const int* const at = blk_ptr + (size_t(unit) * z.unit_stride + size_t(b) * z.block_stride);
            bool flagged = is_flagged<KIND>(B, b * EDGE, column & -EDGE, z.in_rows, z.n);
            if (z.live) flagged |= is_flagged<KIND>(values, at[0], at[1], scale_a);
            if (!flagged || column >= z.n) continue;
            for (int e = at[0]; e < at[1]; e++) {
                const int row = int(out_ind[e]) - chunk % EDGE;
                if (row < 0 || row >= 8) continue;
                const float x = to_float<KIND>(values[e]) * to_float<KIND>(B[size_t(b * EDGE + in_ind[e]) * z.n + column]);
#pragma unroll
                for (int i = 0; i < 8; i++)
                    if (row == i) sum[i] += x;
            }
        }
        if (column >= z.n) continue;
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

template <int KIND, int ROWS, int COLS, bool FUSED, bool TURNS>
__global__ void __launch_bounds__(ROWS * 128 + PRODUCER_WARPS * 32, 1)
csb_spmm_wgmma(const typename Class<KIND>::Value* __restrict__ values, const u8* __restrict__ out_ind,
               const u8* __restrict__ in_ind, const int* __restrict__ blk_ptr, const __grid_constant__ Sizes z, float scale_a, float inverse_a,
               const u8* image, const float* scales, const typename Class<KIND>::Value* B, typename Class<KIND>::Value* C) {
    constexpr int HALVES = Class<KIND>::HALVES, GROUPS = COLS / EDGE, REGISTERS = COLS / 2;
    constexpr bool BFLOAT = Class<KIND>::BFLOAT;
    constexpr int B_TILE = HALVES * B_PIECE, B_STAGE = GROUPS * B_TILE, A_TILE = Tile<HALVES>::BYTES, A_STAGE = ROWS * A_TILE;
    static_assert(!FUSED || COLS == EDGE, "the producers of a CTA split one tile of B a step");
    constexpr int CONSUMERS = ROWS * 128, GROUP_WARPS = PRODUCER_WARPS / 2, GROUP = GROUP_WARPS * 32;
    constexpr int AHEAD = 3;  // quads that a producer fetches ahead

    extern __shared__ __align__(1024) u8 shared[];
    const u32 b_ring = shared_address(shared), a_ring = b_ring + z.b_stages * B_STAGE;
    const u32 partials = a_ring + z.a_stages * A_STAGE;
    const u32 full_b = partials + (z.split > 1 ? CONSUMERS / 2 * COLS * 4 : 0), empty_b = full_b + 8 * MAX_STAGES;
    const u32 full_a = empty_b + 8 * MAX_STAGES, empty_a = full_a + 8 * MAX_STAGES * ROWS;
    const u32 received = empty_a + 8 * MAX_STAGES * ROWS, records = received + 16;  // 16 bytes a part of the sum
    const u32 stage_scales = records + 16 * MAX_STAGES;                              // 16 bytes a stage and group
    const u32 extremes = stage_scales + 32 * MAX_STAGES;                             // u32[2 groups][2 turns][2][4 warps]
    const u32 misfits = extremes + 128;                                              // float[a_stages][ROWS][4 warps]

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
            barrier_init(full_b + 8 * s, FUSED ? GROUP_WARPS : 1);
            barrier_init(empty_b + 8 * s, ROWS * 4 * z.share);
        }
        for (int s = 0; s < z.a_stages * ROWS; s++) {
            barrier_init(full_a + 8 * s, GROUP_WARPS);
            barrier_init(empty_a + 8 * s, 4);
        }
        barrier_init(received, 1);
        barrier_expect(received, CONSUMERS / 2 * COLS * 4 + 16 * z.split);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();  // barriers are ready
    if (z.split * z.share > 1) {
        cluster_arrive();
        cluster_wait();  // those of the whole cluster, too
    }

    if (warp < ROWS * 4) {
        // ---- consumers ----
        take_registers<ROWS == 1 ? 232 : COLS == 128 ? 184 : 136>();
        const int row_block = warp / 4, t = thread % 128;
        const int row0 = row_block * EDGE + Tile<HALVES>::row_of(t), column0 = t % 4 * 4;
        const bool aligned = z.n % 4 == 0 && (reinterpret_cast<size_t>(C) & (4 * sizeof(*C) - 1)) == 0;
        int a_stage = 0, a_phase = 0, b_stage = 0, b_phase = 0;
        // The courier's work: tiles of B in the order of the steps.
        const int all_groups = z.column_tiles * GROUPS;
        int fill_stage = 0, fill_phase = 1, fill_step = 0, fill_tile = first_tile;
        int fill_at = first_block * all_groups + first_tile / z.row_tiles * GROUPS;
        auto fill = [&]() {
            if (fill_tile >= first_tile + my_tiles * int(gridDim.x)) return;
            const u32 full = full_b + 8 * fill_stage, to = b_ring + fill_stage * B_STAGE;
            const u8* const from = image + size_t(fill_at) * B_TILE;
            barrier_wait(empty_b + 8 * fill_stage, fill_phase);
            barrier_expect(full, B_STAGE + 16 * GROUPS);
            if (z.share == 1) {
                bulk_copy(to, from, B_STAGE, full);
            } else {
                const int bytes = B_STAGE / z.share;
                bulk_copy_to_all(to + rank * bytes, from + rank * bytes, bytes, full, (1u << z.share) - 1);
            }
            bulk_copy(stage_scales + fill_stage * 32, scales + size_t(fill_at) * 4, 16 * GROUPS, full);
            if (++fill_stage == z.b_stages) fill_stage = 0, fill_phase ^= 1;
            fill_at += all_groups;
            if (++fill_step == steps) {
                fill_step = 0, fill_tile += gridDim.x;
                fill_at = first_block * all_groups + fill_tile / z.row_tiles * GROUPS;
            }
        };
        const bool courier = !FUSED && thread == CONSUMERS - 128;
        if (courier) {
            wait_for_previous();  // the pre-pass wrote what is copied here
            for (int i = 0; i < z.b_stages; i++) fill();
        }
        __syncwarp();
        if (TURNS && row_block == 1) group_arrive(10, CONSUMERS);  // the first turn is the other one's
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
                bool misfit = false;
                if (z.live)
                    for (int w = 0; w < GROUP_WARPS; w++)
                        misfit |= load_float(misfits + (a_slot * GROUP_WARPS + w) * 4) != 0.0f;
                __syncwarp();
                if (lane == 0) barrier_arrive(empty_a + 8 * a_slot);
                if (++a_stage == z.a_stages) a_stage = 0, a_phase ^= 1;

                barrier_wait(full_b + 8 * b_stage, b_phase);
                const u32 tile_b = b_ring + b_stage * B_STAGE;
                float product[REGISTERS];
                if constexpr (TURNS) group_sync(10 + row_block, CONSUMERS);  // wait for this warpgroup's turn
                wgmma_fence();
                // Small products first: the tensor core truncates less while the sum is small.
                if constexpr (HALVES == 2) {
#pragma unroll
                    for (int s = 0; s < 4; s++) {
                        wgmma<BFLOAT>(product, lo[s], tile_descriptor(tile_b + s * 2048, B_TILE), s > 0);
                        wgmma<BFLOAT>(product, hi[s], tile_descriptor(tile_b + B_PIECE + s * 2048, B_TILE), 1);
                    }
                    wgmma_commit();
                }
#pragma unroll
                for (int s = 0; s < 4; s++) {
                    wgmma<BFLOAT>(product, hi[s], tile_descriptor(tile_b + s * 2048, B_TILE), HALVES == 2 || s > 0);
                    if (HALVES == 1 && s == 1) wgmma_commit();
                }
                wgmma_commit();
                if constexpr (TURNS) {
                    wgmma_wait<1>();  // what is left keeps the tensor cores busy until the other one starts
                    if (row_block == 0 || k + 1 < my_tiles || step + 1 < steps) group_arrive(11 - row_block, CONSUMERS);
                }
                float inverse[GROUPS];
#pragma unroll
                for (int g = 0; g < GROUPS; g++) inverse[g] = load_float(stage_scales + b_stage * 32 + g * 16);
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
                // Refill the stage of the step before this one: that one surely is free, or will be at once.
                if (courier && k + step > 0) fill();
                __syncwarp();
#pragma unroll
                for (int g = 0; g < GROUPS; g++) {
                    if (inverse[g] < 0.0f || misfit) {
                        flagged = true;
                        continue;
                    }
#pragma unroll
                    for (int i = g * 32; i < g * 32 + 32; i++) total[i] = fmaf(product[i], inverse[g], total[i]);
                }
            }

            // Columns column0 + 16 * i + {0, 1, 2, 3} of the thread's row h.
            auto four = [&](int i, int h) {
                return make_float4(total[8 * i + 2 * h], total[8 * i + 2 * h + 1], total[8 * i + 4 + 2 * h],
                                   total[8 * i + 5 + 2 * h]);
            };
            if (z.split == 1) {
                const bool inside = first_row + ROWS * EDGE <= z.out_rows && first_column + COLS <= z.n;
                const int row = first_row + row0, column = first_column + column0;
                if (inside && aligned) {
                    auto* const to = C + size_t(row) * z.n + column;
#pragma unroll
                    for (int i = 0; i < COLS / 16; i++) store4<KIND>(to + 16 * i, four(i, 0));
#pragma unroll
                    for (int i = 0; i < COLS / 16; i++) store4<KIND>(to + size_t(2) * z.n + 16 * i, four(i, 1));
                } else {
#pragma unroll
                    for (int i = 0; i < COLS / 8; i++)
                        store_some<KIND>(C, z, row + 2 * (i & 1), column + 16 * (i / 2), aligned, four(i / 2, i & 1));
                }
                if (flagged) {
                    group_sync(8 + row_block, 128);  // the tile is in C before others add to it
                    add_flagged<KIND, COLS>(z, values, out_ind, in_ind, blk_ptr, scale_a, B, C, first_row, row_block * EDGE,
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
                    store_at(to + ((column0 + 16 * i) ^ spread) * 4, four(i, h), barrier);
            }
            if (thread < z.split)  // tell every owner whether something was left out
                store_at(address_at(records + 16 * part, thread), make_float4(flagged ? 1.0f : 0.0f, 0.0f, 0.0f, 0.0f),
                         address_at(received, thread));
            barrier_wait(received, 0);
            for (int q = thread; q < rows_each * (COLS / 4); q += CONSUMERS) {
                const int r = q / (COLS / 4), row = part * rows_each + r, column = q % (COLS / 4) * 4;
                const u32 from = partials + r * (COLS * 4) + (column ^ (row >> 2 & (COLS / 16 - 1)) << 4) * 4;
                float4 sum = load_float4(from);
                for (int p = 1; p < z.split; p++) {
                    const float4 v = load_float4(from + p * rows_each * (COLS * 4));
                    sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
                }
                store_some<KIND>(C, z, first_row + row, first_column + column, aligned, sum);
            }
            for (int p = 0; p < z.split; p++) flagged |= load_float(records + 16 * p) != 0.0f;
            if (flagged) {
                group_sync(8, CONSUMERS);  // the rows are in C before others add to them
                add_flagged<KIND, COLS>(z, values, out_ind, in_ind, blk_ptr, scale_a, B, C, first_row, part * rows_each,
                                        part * rows_each + rows_each, first_column, thread, CONSUMERS);
            }
        }
    } else {
        // ---- producers ----
        leave_registers<ROWS == 1 ? 136 : COLS == 128 ? 72 : 120>();
        const int group = (thread - CONSUMERS) / GROUP, t = thread % GROUP, row_block = ROWS == 2 ? group : 0;
        constexpr int STRIDE = ROWS == 2 ? 1 : 2;  // steps from one of this group's tiles of A to the next
        // What is held in `ahead`: entries [begin, end) of a block. What comes after it: [next_begin, next_end), of the
        // block before block `next_step` of tile `next_tile`.
        Quad<KIND> ahead[AHEAD];
        const int whole = z.entries & ~3;
        int begin = 0, end = 0, next_begin = 0, next_end = 0;
        int next_tile = first_tile, next_step = STRIDE == 2 ? group : 0, unit = 0;
        const int end_tile = first_tile + my_tiles * int(gridDim.x);
        const int* at = blk_ptr;
        auto point = [&]() {
            while (next_step >= steps) next_step -= steps, next_tile += gridDim.x;
            unit = next_tile % z.row_tiles * ROWS + row_block;
            at = blk_ptr + (size_t(unit) * z.unit_stride + size_t(first_block + next_step) * z.block_stride);
        };
        auto locate = [&]() {
            next_begin = next_end = 0;
            if (next_tile >= end_tile) return;
            if (unit < z.units) next_begin = __ldg(at), next_end = __ldg(at + 1);
            next_step += STRIDE, at += STRIDE * z.block_stride;
            if (next_step >= steps) point();
        };
        auto fetch = [&]() {
            begin = next_begin, end = next_end;
            const int first = (begin & ~3) + 4 * t, last = min(end, whole);
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                if (first + 4 * i * GROUP < last) ahead[i].load(values, out_ind, in_ind, first + 4 * i * GROUP);
            if (end > whole)  // hardly ever
#pragma unroll
                for (int i = 0; i < AHEAD; i++)
                    if (first + 4 * i * GROUP == whole) ahead[i].load_rest(values, out_ind, in_ind, whole, z.entries);
        };
        // Two sixteenths of rows of B, for the next step of which this group splits the tile.
        PartOfB<KIND> part_b[2];
        int b_stage = group, b_phase = 1, b_tile = first_tile, b_step = group;
        auto fetch_b = [&]() {
            while (b_step >= steps) b_step -= steps, b_tile += gridDim.x;
            if (b_tile >= end_tile) return;
#pragma unroll
            for (int i = 0; i < 2; i++)
                part_b[i].load(B, (first_block + b_step) * EDGE + t / 4 + 32 * i, b_tile / z.row_tiles * COLS + t % 4 * 16,
                               z.in_rows, z.n);
            b_step += 2;
        };
        const int all_steps = my_tiles * steps;
        point();
        locate();
        fetch();
        locate();
        if constexpr (FUSED) {
            wait_for_previous();  // it may write B
            fetch_b();
        }
        int stage = STRIDE == 2 ? group : 0, phase = 1;
        for (int k = stage; k < all_steps; k += STRIDE) {
            const u32 slot = stage * ROWS + row_block, tile = a_ring + slot * A_TILE;
            const bool splits = FUSED && (k & 1) == group;
            barrier_wait(empty_a + 8 * slot, phase);
#pragma unroll
            for (int i = 0; i < A_TILE / (16 * GROUP); i++) store_zero16(tile + 16 * (t + i * GROUP));
            const u32 turn = extremes + group * 64 + (k >> 1 & 1) * 32;
            if (splits) {
                u32 largest, smallest, largest2, smallest2;
                part_b[0].extremes(largest, smallest);
                part_b[1].extremes(largest2, smallest2);
                if (lane == 0) {
                    store32(turn + t / 8, max(largest, largest2));
                    store32(turn + 16 + t / 8, min(smallest, smallest2));
                }
            }
            group_sync(1 + group, GROUP);  // the tile is zero and extremes are in place
            if (splits) {
                const uint4 a = load128(turn), b = load128(turn + 16);
                float inverse;
                const float scale = PartOfB<KIND>::scale_of(max(max(a.x, a.y), max(a.z, a.w)), min(min(b.x, b.y), min(b.z, b.w)),
                                                            inverse_a, inverse);
                barrier_wait(empty_b + 8 * b_stage, b_phase);
                if (t == 0) store_float(stage_scales + 32 * b_stage, inverse);
#pragma unroll
                for (int i = 0; i < 2; i++)
                    part_b[i].write(reinterpret_cast<uint4*>(shared + b_stage * B_STAGE), t / 4 + 32 * i, t, scale);
                asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // wgmma reads what was stored
                __syncwarp();
                if (lane == 0) barrier_arrive(full_b + 8 * b_stage);
                b_stage += 2;
                if (b_stage >= z.b_stages) b_stage -= z.b_stages, b_phase ^= 1;
                fetch_b();
            }
            const int first = (begin & ~3) + 4 * t;
            bool misfit = false;
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                if (first - 4 * lane + 4 * i * GROUP >= end) break;  // the same for the whole warp
                ahead[i].scatter(tile, first + 4 * i * GROUP, begin, end, scale_a);
                if (z.live) misfit |= ahead[i].is_out_of_range(first + 4 * i * GROUP, begin, end, scale_a);
            }
            for (int e = first + 4 * AHEAD * GROUP; e < end; e += 4 * GROUP) {  // in fuller blocks
                Quad<KIND> quad;
                if (e < whole)
                    quad.load(values, out_ind, in_ind, e);
                else
                    quad.load_rest(values, out_ind, in_ind, e, z.entries);
                quad.scatter(tile, e, begin, end, scale_a);
                if (z.live) misfit |= quad.is_out_of_range(e, begin, end, scale_a);
            }
            if (z.live) {
                misfit = __any_sync(~0u, misfit);
                if (lane == 0) store_float(misfits + (slot * GROUP_WARPS + t / 32) * 4, misfit ? 1.0f : 0.0f);
            }
            __syncwarp();
            if (lane == 0) barrier_arrive(full_a + 8 * slot);
            stage += STRIDE;
            if (stage >= z.a_stages) stage -= z.a_stages, phase ^= 1;
            fetch();
            locate();
        }
    }
    if (z.share > 1) {
        // Stay until no other CTA of the cluster can reach into this one's shared memory any more.
        __syncwarp();
        cluster_arrive();
        cluster_wait();
    }
}
