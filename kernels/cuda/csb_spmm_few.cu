// Sparse x dense on Hopper's tensor cores for few columns: C = A·B and C = Aᵀ·B from one stored copy of A in 64 x 64
// blocks. sm_90a only.
//
// Idea. With few columns a product is over before a pipeline is full: what counts is the chain of things that wait for
// each other. csb_spmm_wgmma.cu hides that chain behind other tiles; here it is as short as can be. A CTA owns a tile
// of C and a few blocks of the sum, asks for everything it needs at once (where its entries are, its part of B, its
// entries), turns it into tiles in shared memory, multiplies, and adds its sums to those of the other CTAs of its
// cluster. There is no ring and no loop over blocks: a warpgroup prepares one block of the sum, B and A, and hands it to
// those that multiply, which begin with the first blocks while later ones are still on their way.
//
//   launch -> pointers -> entries ----> scatter | multiply -> send sums to their owners -> add, store
//          -> B -> its scale | split ----------/
//
// The two halves of an operand (KIND 0: float32 accuracy, three products; KIND 1: TF32 class, one product), scales and
// flags are those of csb_spmm_wgmma.cu, whose head explains them. Both operands of a multiplication lie in shared memory,
// each half in a tile of its own.
//
// B is in_rows x n, C is out_rows x n, both row-major and contiguous, at any address.

#include "csb_wgmma_ptx.cuh"
#include "csb_wgmma_tiles.cuh"
#include "csb_wgmma_edges.cuh"

__device__ __forceinline__ void store_float4(u32 address, float4 v) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w)
                 : "memory");
}
__device__ __forceinline__ float max_or_nan(float a, float b) {
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
    return larger;
}

// ---- wgmma with both operands in shared memory: d (64 x N) = A (64 x 16) x B (16 x N) + d ------------------------
// A is K-major: 128 bytes a row (64 columns of 16 bits), chunk c of row r at r * 128 + (c ^ (r & 7)) * 16. Thread t holds of
// d: d[4 * i + 2 * h + b] = row 16 * (t / 32) + t % 32 / 4 + 8 * h, column 8 * i + 2 * (t % 4) + b.
#define NAMES16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define NAMES24 NAMES16 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define D16(i) D4(i), D4(i + 4), D4(i + 8), D4(i + 12)
#define WGMMA_OF_TILES(N, NAMES, A, B, ACC, ...)                                                                      \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #ACC ", 0;\n"                                                   \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.f16.f16 {" NAMES "}, %" #A ", %" #B                  \
                 ", p, 1, 1, 0, 1;\n}"                                                                                \
                 : __VA_ARGS__                                                                                        \
                 : "l"(a), "l"(b), "r"(accumulate))
__device__ __forceinline__ void multiply_add(float (&d)[16], u64 a, u64 b, int accumulate) {
    WGMMA_OF_TILES(32, NAMES16, 16, 17, 18, D16(0));
}
__device__ __forceinline__ void multiply_add(float (&d)[24], u64 a, u64 b, int accumulate) {
    WGMMA_OF_TILES(48, NAMES24, 24, 25, 26, D16(0), D4(16), D4(20));
}
__device__ __forceinline__ void multiply_add(float (&d)[32], u64 a, u64 b, int accumulate) {
    WGMMA_OF_TILES(64, NAMES32, 32, 33, 34, D32(0));
}

// ----------------------------------------------------------------------------------------------------------------
// Four neighbouring entries of one block. Unlike a Quad none of them is another block's: the few that are left before
// and after the fours are fetched one by one, so that nothing is tested when they are stored.
template <int KIND>
struct Four {
    static constexpr bool TWO = Class<KIND>::HALVES == 2;
    float4 value;
    u32 out, in;

    // Entry e, a multiple of four.
    __device__ __forceinline__ void load(const float* values, const u8* out_ind, const u8* in_ind) {
        value = __ldg(reinterpret_cast<const float4*>(values));
        out = __ldg(reinterpret_cast<const u32*>(out_ind)), in = __ldg(reinterpret_cast<const u32*>(in_ind));
    }

    static __device__ __forceinline__ u32 place(u32 out, u32 in) { return out * 128 + ((in << 1) ^ (out & 7) << 4); }

    static __device__ __forceinline__ void store(u32 at, float value, float scale) {
        const float x = value * scale;
        const u32 hi = pack_half(x, 0.0f);
        store16_if(true, at, hi);
        if constexpr (TWO) store16_if(true, at + B_PIECE, pack_half(x - half_to_float(hi), 0.0f));
    }

    __device__ __forceinline__ void scatter(u32 tile, float scale) const {
        // Twice `place` of all four at once: the low bytes here, the high bytes are `out`.
        const u32 low = (in << 2) ^ (out & 0x07070707) << 5;
        const float x[4] = {value.x, value.y, value.z, value.w};
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
            const float first = x[i] * scale, second = x[i + 1] * scale;
            const u32 at = tile + (pick_bytes(low, out, 0xCC40 + 0x1111 * i) >> 1);
            const u32 next = tile + (pick_bytes(low, out, 0xCC40 + 0x1111 * (i + 1)) >> 1);
            const u32 hi = pack_half(first, second);
            store16_if(true, at, hi), store16_if(true, next, hi >> 16);
            if constexpr (TWO) {
                const u32 lo = pack_half(first - half_to_float(hi & 0xffff), second - half_to_float(hi >> 16));
                store16_if(true, at + B_PIECE, lo), store16_if(true, next + B_PIECE, lo >> 16);
            }
        }
    }
};

// Whether a value of A that has changed since the plan was made does not fit A's scale.
__device__ __forceinline__ bool is_out_of_range(float value, float scale) {
    const float x = fabsf(value) * scale;
    return !(x <= 0x1p15f) || (value != 0.0f && x < 0x1p-14f);
}

// Adds the products with what was left out to rows [first, last) of the CTA's tile, which C already holds. All warps of the
// CTA take part, each of them in eight rows at a time and, one after the other, 32 columns.
template <int KIND, int COLS>
__device__ __noinline__ void add_left_out(const Sizes& z, const float* __restrict__ values, const u8* __restrict__ out_ind,
                                          const u8* __restrict__ in_ind, const int* __restrict__ blk_ptr, float scale_a,
                                          const float* B, float* C, int first_row, int first, int last, int first_column,
                                          int thread, int threads) {
    const int lane = thread % 32;
    for (int b = 0; b < z.blocks; b++) {
        u32 largest = 0, smallest = ~0u;
        for (int i = lane; i < EDGE * COLS; i += 32) {
            const int row = b * EDGE + i / COLS, column = first_column + i % COLS;
            const u32 bits = row < z.in_rows && column < z.n ? __float_as_uint(B[size_t(row) * z.n + column]) & 0x7fffffffu : 0;
            largest = max(largest, bits), smallest = min(smallest, bits - 1);
        }
        largest = __reduce_max_sync(~0u, largest), smallest = __reduce_min_sync(~0u, smallest);
        float inverse;
        PartOfB<KIND>::scale_of(largest, smallest, 1.0f / scale_a, inverse);
        for (int chunk = first + thread / 32 * 8; chunk < last; chunk += threads / 32 * 8) {
            const int unit = (first_row + chunk) / EDGE;
            if (unit >= z.units) break;
            const int* const at = blk_ptr + (size_t(unit) * z.unit_stride + size_t(b) * z.block_stride);
            const int begin = at[0], end = at[1];
            bool left_out = inverse < 0.0f;
            if (z.live && !left_out) {
                for (int e = begin + lane; e < end; e += 32) left_out |= is_out_of_range(values[e], scale_a);
                left_out = __any_sync(~0u, left_out);
            }
            if (!left_out) continue;
            for (int column = first_column + lane; column < min(first_column + COLS, z.n); column += 32) {
                float sum[8] = {};
                for (int e = begin; e < end; e++) {
                    const int row = int(out_ind[e]) - chunk % EDGE;
                    if (row < 0 || row >= 8) continue;
                    const float x = values[e] * B[size_t(b * EDGE + in_ind[e]) * z.n + column];
#pragma unroll
                    for (int i = 0; i < 8; i++)
                        if (row == i) sum[i] += x;
                }
#pragma unroll
                for (int i = 0; i < 8; i++)
                    if (first_row + chunk + i < z.out_rows) C[size_t(first_row + chunk + i) * z.n + column] += sum[i];
            }
        }
    }
}

// ----------------------------------------------------------------------------------------------------------------
// Grid: (split, tile rows, tile columns), a cluster for each tile. A CTA computes 64 * ROWS x COLS of C, over blocks
// [part * steps, ...) of the sum, at most DEPTH. `z.split` is a power of two.
//
// A warpgroup multiplies 64 rows; where there are two for them, they take turns with the blocks (wgmma has little use for
// warpgroups that share out the columns: with 32 columns it takes three quarters of the time that it takes with 64), and
// trade half of their rows before they send them.
//
// Named barriers: 1 + s, block s is ready; 5 + s, those who prepare it are ready to fill it; 9 + r, the two that share the
// sum of 64 rows; 11 + g, a warpgroup.
//
// Shared memory: tiles of B | tiles of A | parts of the sum | traded sums (DEPTH 1) | barrier and small things.
template <int KIND, int ROWS, int DEPTH, int WARPS, int COLS>
__global__ void __launch_bounds__(WARPS * 32, WARPS == 8 && ROWS * DEPTH <= 2 ? 2 : 1)
csb_spmm_few(const float* __restrict__ values, const u8* __restrict__ out_ind, const u8* __restrict__ in_ind,
             const int* __restrict__ blk_ptr, const __grid_constant__ Sizes z, int most_steps, float scale_a,
             float inverse_a, const float* B, float* C) {
    constexpr int HALVES = Class<KIND>::HALVES, THREADS = WARPS * 32;
    constexpr int B_TILE = HALVES * B_PIECE, A_TILE = HALVES * B_PIECE, A_BLOCKS = ROWS * DEPTH;
    // Threads that share a block of A, a tile of B.
    constexpr int A_THREADS = THREADS / A_BLOCKS, B_THREADS = THREADS / DEPTH;
    static_assert(A_THREADS % 32 == 0 && B_THREADS % 32 == 0, "the scale of a tile is found by whole warps");
    constexpr int AHEAD = A_THREADS >= 256 ? 2 : A_THREADS >= 128 ? 3 : 5;  // fours a thread: enough for 30 % density
    // Groups of 16 columns. A warp takes eight rows at a time: of two groups four rows at once, of a last one all eight.
    constexpr int GROUPS = COLS / 16, B_WARPS = B_THREADS / 32, B_QUADS = GROUPS * 8 / B_WARPS;
    // Warpgroups that prepare a block of the sum, B and A: they wait for each other, not for the rest of the CTA.
    constexpr int PER = WARPS / (4 * DEPTH), PER_THREADS = PER * 128;
    static_assert(PER * 4 * DEPTH == WARPS && B_WARPS <= 8, "warpgroups prepare whole blocks");
    constexpr int SHARES = WARPS / 4 > ROWS ? 2 : 1;  // warpgroups that share the sum of the same rows
    constexpr int MULTIPLIERS = ROWS * SHARES;
    constexpr int TILE_BYTES = ROWS * EDGE * COLS * 4;

    extern __shared__ __align__(1024) u8 shared[];
    const u32 b_tiles = shared_address(shared), a_tiles = b_tiles + DEPTH * B_TILE;
    const u32 parts = a_tiles + A_BLOCKS * A_TILE, traded = parts + TILE_BYTES;
    const u32 received = traded + (DEPTH == 1 ? TILE_BYTES : 0), records = received + 16;  // 16 bytes a part and warpgroup
    const u32 scales = records + 16 * 8 * MULTIPLIERS;                                    // float[DEPTH]
    const u32 extremes = scales + 64;                                                     // u32[DEPTH][warps of a tile][2]
    const u32 misfits = extremes + 8 * WARPS;                                             // u32[A_BLOCKS][warps of a block]

    const u32 thread = threadIdx.x, warp = thread / 32, lane = thread % 32, own_step = warp / (4 * PER);
    const int part = blockIdx.x;
    const int first_block = part * most_steps, steps = min(most_steps, z.blocks - first_block);
    const int first_row = blockIdx.y * (ROWS * EDGE), first_column = blockIdx.z * COLS;
    let_next_start();

    // ---- where the entries of this thread's block are ----
    const u32 a_block = thread / A_THREADS, a_thread = thread % A_THREADS;
    const int a_step = a_block / ROWS, unit = blockIdx.y * ROWS + a_block % ROWS;
    int begin = 0, end = 0;
    if (unit < z.units && a_step < steps) {
        const int* const at = blk_ptr + (size_t(unit) * z.unit_stride + size_t(first_block + a_step) * z.block_stride);
        begin = __ldg(at), end = __ldg(at + 1);
    }
    if (thread == 0 && z.split > 1) {
        barrier_init(received, 1);
        barrier_expect(received, (TILE_BYTES / z.split + 16 * MULTIPLIERS) * (z.split - 1));
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncwarp();
    if (z.split > 1) cluster_arrive();  // waited for below
    wait_for_previous();                // it may write B, or values of A

    // ---- B: four neighbours of eight rows a warp ----
    const u32 b_tile = thread / B_THREADS, b_thread = thread % B_THREADS;
    // Row and column of quad i, of eight rows and COLS columns.
    const auto row_of = [&](int i) {
        return i % GROUPS < (GROUPS & ~1) ? (lane / 8 & 1) + lane / 16 * 4 + i % GROUPS % 2 * 2 : lane / 4;
    };
    const auto column_of = [&](int i) {
        return i % GROUPS < (GROUPS & ~1) ? i % GROUPS / 2 * 32 + lane % 8 * 4 : (GROUPS - 1) * 16 + lane % 4 * 4;
    };
    const int b_row = (first_block + b_tile) * EDGE + b_thread / 32 * 8;
    float4 b[B_QUADS];
    const bool has_b = int(b_tile) < steps;
    // One condition for all: loads under conditions of their own would follow each other.
    if (has_b && z.n % 4 == 0 && (reinterpret_cast<size_t>(B) & 15) == 0 && (first_block + steps) * EDGE <= z.in_rows) {
#pragma unroll
        for (int i = 0; i < B_QUADS; i++) {
            const int column = min(first_column + int(column_of(i)), z.n - 4);  // the last ones are read again, not skipped
            b[i] = *reinterpret_cast<const float4*>(B + size_t(b_row + i / GROUPS * (B_WARPS * 8) + row_of(i)) * z.n + column);
        }
        if (first_column + COLS > z.n)
#pragma unroll
            for (int i = 0; i < B_QUADS; i++)
                if (first_column + int(column_of(i)) >= z.n) b[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    } else {
#pragma unroll
        for (int i = 0; i < B_QUADS; i++) {
            const int row = b_row + i / GROUPS * (B_WARPS * 8) + row_of(i), column = first_column + column_of(i);
            const float* const p = B + size_t(row) * z.n + column;
            const int left = has_b && row < z.in_rows ? z.n - column : 0;
            b[i].x = left > 0 ? p[0] : 0.0f, b[i].y = left > 1 ? p[1] : 0.0f;
            b[i].z = left > 2 ? p[2] : 0.0f, b[i].w = left > 3 ? p[3] : 0.0f;
        }
    }

    // ---- entries: fours of the block, and for eight threads one before or after them ----
    const int whole = (begin + 3) & ~3, first = whole + 4 * a_thread, last = end & ~3;
    Four<KIND> ahead[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; i++) {
        const int e = first + 4 * i * A_THREADS;
        if (e < last) ahead[i].load(values + e, out_ind + e, in_ind + e);
    }
    const int edge = a_thread < 4 ? begin + a_thread : last + a_thread - 4;
    const bool has_edge = a_thread < 8 && edge < end && (a_thread < 4 ? edge < whole : edge >= whole);
    float edge_value = 0.0f;
    u32 edge_place = 0;
    if (has_edge) {
        edge_value = __ldg(values + edge);
        edge_place = Four<KIND>::place(__ldg(out_ind + edge), __ldg(in_ind + edge));
    }
    if (z.split > 1) cluster_wait();  // barriers of the whole cluster are ready; loads are under way

    // ---- while loads are under way; then the extremes of B ----
    const u32 cells = a_tiles + own_step * (ROWS * A_TILE) + thread % PER_THREADS * 16;
#pragma unroll
    for (int i = 0; i < ROWS * A_TILE / 16 / PER_THREADS; i++) store_zero16(cells + i * PER_THREADS * 16);
    float most = 0.0f;
    u32 least = ~0u;  // of 2 * bits - 1: the sign drops out, and zero becomes the largest number
#pragma unroll
    for (int i = 0; i < B_QUADS; i++) {
        const float x[4] = {b[i].x, b[i].y, b[i].z, b[i].w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            most = max_or_nan(most, fabsf(x[j]));
            least = min(least, __float_as_uint(x[j]) * 2 - 1);
        }
    }
    u32 largest = __reduce_max_sync(~0u, __float_as_uint(most) & 0x7fffffffu);
    u32 smallest = __reduce_min_sync(~0u, least);
    if (smallest != ~0u) smallest >>= 1;  // bits - 1, as scale_of takes it
    const u32 of_tile = extremes + b_tile * (B_THREADS / 32 * 8);
    if (lane == 0) {
        store32(of_tile + b_thread / 32 * 8, largest);
        store32(of_tile + b_thread / 32 * 8 + 4, smallest);
    }
    group_sync(5 + own_step, PER_THREADS);  // tiles of A are zero, extremes are in place

    // ---- B: split ----
#pragma unroll
    for (int w = 0; w < B_THREADS / 32; w++) {
        const uint2 of_warp = load64(of_tile + w * 8);
        largest = max(largest, of_warp.x), smallest = min(smallest, of_warp.y);
    }
    float inverse;
    const float scale = PartOfB<KIND>::scale_of(largest, smallest, inverse_a, inverse);
    if (b_thread == 0) store_float(scales + b_tile * 4, inverse);
    // What a warp stores at once fills all banks.
    const u32 to = b_tiles + b_tile * B_TILE + b_thread / 32 * 1024;
#pragma unroll
    for (int i = 0; i < B_QUADS; i++) {
        const u32 row = row_of(i), chunk = (column_of(i) / 16 * 2) ^ row;
        const u32 upper = to + i / GROUPS * (B_WARPS * 1024) + row * 128 + chunk * 16 + lane % 4 * 4, lower = upper ^ 16;
        const float x = b[i].x * scale, y = b[i].y * scale, v = b[i].z * scale, w = b[i].w * scale;
        const u32 xy = pack_half(x, y), vw = pack_half(v, w);
        store32(upper, xy), store32(lower, vw);
        if constexpr (HALVES == 2) {
            store32(upper + B_PIECE, pack_half(x - half_to_float(xy & 0xffff), y - half_to_float(xy >> 16)));
            store32(lower + B_PIECE, pack_half(v - half_to_float(vw & 0xffff), w - half_to_float(vw >> 16)));
        }
    }

    // ---- A: scatter ----
    const u32 tile = a_tiles + a_block * A_TILE;
#pragma unroll
    for (int i = 0; i < AHEAD; i++)
        if (first + int(4 * i * A_THREADS) < last) ahead[i].scatter(tile, scale_a);
    if (has_edge) Four<KIND>::store(tile + edge_place, edge_value, scale_a);
#pragma unroll 1
    for (int e = first + 4 * AHEAD * A_THREADS; e < last; e += 4 * A_THREADS) {  // in fuller blocks
        Four<KIND> four;
        four.load(values + e, out_ind + e, in_ind + e);
        four.scatter(tile, scale_a);
    }
    if (z.live) {
        bool misfit = false;
#pragma unroll 1
        for (int e = begin + a_thread; e < end; e += A_THREADS) misfit |= is_out_of_range(values[e], scale_a);
        misfit = __any_sync(~0u, misfit);
        if (lane == 0) store32(misfits + warp * 4, misfit);
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // wgmma reads what was stored

    // ---- multiply ----
    const u32 group = warp / 4, t = thread % 128, row_block = group % ROWS, share = group / ROWS;
    const bool multiplies = group < MULTIPLIERS;
    float sums[COLS / 2];
#pragma unroll
    for (int i = 0; i < COLS / 2; i++) sums[i] = 0.0f;
    bool flagged = false;
    // Step s is ready when those who prepared it and those who multiply it have met.
    const auto threads_of = [&](u32 s) {
        const u32 first = s % SHARES * ROWS;
        return 128 * (ROWS + (PER > 1 ? 0 : s < first || s >= first + ROWS));
    };
    if (PER == 1 && !(multiplies && own_step % SHARES == share)) group_arrive(1 + own_step, threads_of(own_step));
    if (PER > 1) __syncthreads();
    if (multiplies) {
        // A warpgroup's share: some of the blocks, or of one block half of its rows of B.
        constexpr int BLOCKS = DEPTH >= SHARES ? DEPTH / SHARES : 1, PAIRS = DEPTH >= SHARES ? 2 : 1;
        const u32 first_step = DEPTH >= SHARES ? share : 0, first_pair = DEPTH >= SHARES ? 0 : share;
        const u32 a_base = a_tiles + (first_step * ROWS + row_block) * A_TILE + first_pair * 64;
        const u32 b_base = b_tiles + first_step * B_TILE + first_pair * 4096;
#pragma unroll
        for (int s = 0; s < BLOCKS; s++) {
            if (PER == 1) group_sync(1 + first_step + s * SHARES, threads_of(first_step + s * SHARES));
            float product[COLS / 2];
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < 2 * PAIRS; k++) {
                const u32 rows = b_base + s * SHARES * B_TILE + k * 2048, cells = a_base + s * SHARES * ROWS * A_TILE + k * 32;
                const u64 a = tile_descriptor(cells, B_TILE), b_hi = tile_descriptor(rows, B_TILE);
                // Small products first: the tensor core truncates less while the sum is small.
                if constexpr (HALVES == 2) {
                    multiply_add(product, tile_descriptor(cells + B_PIECE, B_TILE), b_hi, k > 0);
                    multiply_add(product, a, tile_descriptor(rows + B_PIECE, B_TILE), 1);
                }
                multiply_add(product, a, b_hi, HALVES == 2 || k > 0);
            }
            wgmma_commit();
            const float inverse = load_float(scales + (first_step + s * SHARES) * 4);
            bool misfit = false;
            if (z.live)
#pragma unroll
                for (int w = 0; w < A_THREADS / 32; w++)
                    misfit |= load_float(misfits + (((first_step + s * SHARES) * ROWS + row_block) * (A_THREADS / 32) + w) * 4) != 0.0f;
            wgmma_wait<0>();
#pragma unroll
            for (int i = 0; i < COLS / 2; i++) asm volatile("" : "+f"(product[i])::"memory");
            if (inverse < 0.0f || misfit) {
                flagged = true;
            } else {
#pragma unroll
                for (int i = 0; i < COLS / 2; i++) sums[i] = fmaf(product[i], inverse, sums[i]);
            }
        }
    }
    // Two that share a sum trade: the first one keeps the upper of each thread's two rows. What a thread gives away is what the
    // same thread of the other one keeps. It goes where the giver's own tiles of A were, which nobody else reads.
    constexpr int KEPT = 2 / SHARES;  // rows of a thread
    // Columns column0 + 16 * i + {0, 1, 2, 3} of a row.
    const auto four = [&](int i, int h) {
        return make_float4(sums[8 * i + 2 * h], sums[8 * i + 2 * h + 1], sums[8 * i + 4 + 2 * h], sums[8 * i + 5 + 2 * h]);
    };
    float4 total[KEPT][GROUPS];
    if constexpr (SHARES == 1) {
#pragma unroll
        for (int i = 0; i < GROUPS; i++) total[0][i] = four(i, 0), total[1][i] = four(i, 1);
    } else if (multiplies) {
        const auto place = [&](u32 of) {
            const u32 tile = DEPTH == 1 ? traded + (of * ROWS + row_block) * (TILE_BYTES / MULTIPLIERS)
                                        : a_tiles + (of * ROWS + row_block) * A_TILE;
            return tile + t * 16;
        };
        const u32 give = place(share), get = place(1 - share);
        group_sync(11 + group, 128);  // all four warps have read those tiles
#pragma unroll
        for (int i = 0; i < GROUPS; i++) {
            const float4 first = four(i, 0), second = four(i, 1);
            total[0][i] = share ? second : first;
            store_float4(give + i * 2048, share ? first : second);
        }
        group_sync(9 + row_block, 256);
#pragma unroll
        for (int i = 0; i < GROUPS; i++) {
            const float4 other = load_float4(get + i * 2048);
            total[0][i].x += other.x, total[0][i].y += other.y, total[0][i].z += other.z, total[0][i].w += other.w;
        }
    }

    // ---- sums ----
    const int row0 = row_block * EDGE + t / 32 * 16 + lane / 4 + 8 * (SHARES == 2 ? share : 0), column0 = t % 4 * 4;
    const bool aligned = z.n % 4 == 0 && (reinterpret_cast<size_t>(C) & 15) == 0;
    if (z.split == 1) {
        if (multiplies)
#pragma unroll
            for (int i = 0; i < KEPT * GROUPS; i++)
                store_some<KIND>(C, z, first_row + row0 + 8 * (i % KEPT), first_column + column0 + 16 * (i / KEPT), aligned,
                                 total[i % KEPT][i / KEPT]);
        if (__syncthreads_or(flagged))  // the tile is in C before others add to it
            add_left_out<KIND, COLS>(z, values, out_ind, in_ind, blk_ptr, scale_a, B, C, first_row, 0, ROWS * EDGE, first_column,
                                    thread, THREADS);
        return;
    }
    // Row r of the tile goes to CTA r / rows_each, which keeps what part p sends at [p][r % rows_each]. The exclusive-or on
    // the column spreads neighbouring rows over the banks.
    const int rows_each = ROWS * EDGE / z.split, shift = 31 - __clz(rows_each), first_mine = part * rows_each;
    if (multiplies) {
        if (t < z.split) {  // tell every owner whether something was left out
            const u32 to = records + 16 * (part * MULTIPLIERS + group);
            const float4 record = make_float4(flagged ? 1.0f : 0.0f, 0.0f, 0.0f, 0.0f);
            if (t == part)
                store_float4(to, record);
            else
                store_at(address_at(to, t), record, address_at(received, t));
        }
#pragma unroll
        for (int h = 0; h < KEPT; h++) {
            const int row = row0 + 8 * h, owner = row >> shift, spread = COLS % 32 ? 0 : (row & 1) << 4;
            const u32 here = parts + (part * rows_each + (row & (rows_each - 1))) * (COLS * 4);
            if (owner == part) {
#pragma unroll
                for (int i = 0; i < GROUPS; i++) store_float4(here + ((column0 + 16 * i) ^ spread) * 4, total[h][i]);
            } else {
                const u32 there = address_at(here, owner), barrier = address_at(received, owner);
#pragma unroll
                for (int i = 0; i < GROUPS; i++) store_at(there + ((column0 + 16 * i) ^ spread) * 4, total[h][i], barrier);
            }
        }
    }
    __syncthreads();  // this CTA's own part is in place
    barrier_wait(received, 0);
    const u32 record = lane < u32(z.split * MULTIPLIERS) ? load64(records + 16 * lane).x : 0;
    for (int q = thread; q < rows_each * (COLS / 4); q += THREADS) {
        const int row = first_mine + q / (COLS / 4), column = q % (COLS / 4) * 4;
        const u32 spread = COLS % 32 ? 0 : (row & 1) << 4, from = parts + (row - first_mine) * (COLS * 4) + (column ^ spread) * 4;
        float4 of_part[8];
#pragma unroll
        for (int p = 0; p < 8; p++)
            if (p < z.split) of_part[p] = load_float4(from + p * rows_each * (COLS * 4));
        float4 sum = of_part[0];  // always in this order
#pragma unroll
        for (int p = 1; p < 8; p++)
            if (p < z.split) sum.x += of_part[p].x, sum.y += of_part[p].y, sum.z += of_part[p].z, sum.w += of_part[p].w;
        store_some<KIND>(C, z, first_row + row, first_column + column, aligned, sum);
    }
    if (__any_sync(~0u, record != 0)) {
        __syncthreads();  // the rows are in C before others add to them; all warps see the same records
        add_left_out<KIND, COLS>(z, values, out_ind, in_ind, blk_ptr, scale_a, B, C, first_row, first_mine, first_mine + rows_each,
                                first_column, thread, THREADS);
    }
}
