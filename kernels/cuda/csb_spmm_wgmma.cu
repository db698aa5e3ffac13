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
// 2^28 below the largest) is flagged by a negative scale. Values of A that may have changed since the plan was made
// (`live`) are looked at while they are scattered, and a block that A's scale does not fit counts as flagged, too. The
// products of what is flagged are left out, and added afterwards by CUDA cores from the compressed entries: slowly,
// but as a float32 product would, so Inf never meets a zero that is not stored.
//
// B is in_rows x n, C is out_rows x n, both row-major and contiguous, at any address.

#include "csb_wgmma_ptx.cuh"
#include "csb_wgmma_tiles.cuh"
#include "csb_wgmma_edges.cuh"

// ----------------------------------------------------------------------------------------------------------------
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
    // All sixteen bytes: bulk copies read them.
    if (t == 0) reinterpret_cast<float4*>(scales)[blockIdx.x] = make_float4(inverse, 0.0f, 0.0f, 0.0f);
    part.write_sectors(reinterpret_cast<uint4*>(image + size_t(blockIdx.x) * (Class<KIND>::HALVES * B_PIECE)), row, t, scale);
}

// ----------------------------------------------------------------------------------------------------------------
// The product. A CTA computes tiles of 64 * ROWS x COLS of C. Its warps have two trades:
//   consumers  ROWS warpgroups, one a block row: read tiles of A from shared memory into registers, multiply; a
//              thread of the last one also starts the copies of tiles of B, as soon as a stage is free
//   producers  groups of 4 warps: fetch compressed entries ahead of time, scatter them into zeroed tiles of A. With two
//              block rows there are two groups, one for each; with one there are three or four that take turns with the
//              steps. Fused, they also take turns with splitting the tiles of B.
// Tiles of A and of B travel through two rings of stages; a full and an empty barrier a stage. One lane arrives for
// its warp: __syncwarp orders the accesses of the other lanes before the arrival, which releases them too. racecheck
// does not follow that order and reports every such hand-over; with all lanes arriving (benchmarks/sanitize.py) it
// finds nothing.
//
// Clusters. split > 1: its CTAs share a tile of C, each takes a part of the sum and sends its partial rows to the CTA
// that owns them, which adds them in a fixed order. share > 1: its CTAs have neighbouring tile rows, so the same B;
// each brings a part of every tile of B to all of them. Not both. With split = 1 a CTA takes tile after tile,
// gridDim.x apart, so that storing one overlaps with the next.
//
// Dynamic shared memory: B stages | A stages | partial rows (split > 1) | barriers.
template <int KIND, int ROWS, int COLS, bool FUSED, bool TURNS>
__global__ void __launch_bounds__((ROWS + producer_groups(ROWS, FUSED)) * 128, 1)
csb_spmm_wgmma(const typename Class<KIND>::Value* __restrict__ values, const u8* __restrict__ out_ind,
               const u8* __restrict__ in_ind, const int* __restrict__ blk_ptr, const __grid_constant__ Sizes z,
               float scale_a, float inverse_a, const u8* image, const float* scales,
               const typename Class<KIND>::Value* B, typename Class<KIND>::Value* C) {
    constexpr int HALVES = Class<KIND>::HALVES, GROUPS = COLS / EDGE, REGISTERS = COLS / 2;
    constexpr bool BFLOAT = Class<KIND>::BFLOAT;
    constexpr int B_TILE = HALVES * B_PIECE, B_STAGE = GROUPS * B_TILE, A_TILE = Tile<HALVES>::BYTES, A_STAGE = ROWS * A_TILE;
    static_assert(!FUSED || COLS == EDGE, "the producers of a CTA split one tile of B a step");
    constexpr int CONSUMERS = ROWS * 128, GROUP = 128, GROUP_WARPS = 4, TURNS_OF_B = producer_groups(ROWS, FUSED);
    constexpr int AHEAD = 3;  // quads that a producer fetches ahead

    extern __shared__ __align__(1024) u8 shared[];
    const u32 b_ring = shared_address(shared), a_ring = b_ring + z.b_stages * B_STAGE;
    const u32 partials = a_ring + z.a_stages * A_STAGE;
    const u32 full_b = partials + (z.split > 1 ? CONSUMERS / 2 * COLS * 4 : 0), empty_b = full_b + 8 * MAX_STAGES;
    const u32 full_a = empty_b + 8 * MAX_STAGES, empty_a = full_a + 8 * MAX_STAGES * ROWS;
    const u32 received = empty_a + 8 * MAX_STAGES * ROWS, records = received + 16;  // 16 bytes a part and block row
    const u32 stage_scales = records + 32 * MAX_STAGES;                              // 16 bytes a stage and group
    const u32 extremes = stage_scales + 32 * MAX_STAGES;                             // u32[4 groups][2 turns][2][4 warps]
    const u32 misfits = extremes + 256;                                              // u32[a_stages][ROWS][4 warps]

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
        barrier_expect(received, CONSUMERS / 2 * COLS * 4 + 16 * ROWS * z.split);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();  // barriers are ready
    if (z.split * z.share > 1) {
        cluster_arrive();
        cluster_wait();  // those of the whole cluster, too
    }

    if (warp < ROWS * 4) {
        // ---- consumers ----
        take_registers<ROWS == 2 ? (COLS == 128 ? 200 : 144) : FUSED ? 152 : COLS == 128 ? 224 : 160>();
        const int row_block = warp / 4, t = thread % 128;
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
        // The first half of the tile of A of the next step is read while wgmma is busy with this one.
        const u32 a_base = a_ring + Tile<HALVES>::base_of(t), a_offset = Tile<HALVES>::offset_of(t);
        const bool odd = Tile<HALVES>::row_of(t) & 1;
        typename Tile<HALVES>::Pair first_half;
        auto begin_a = [&]() {
            barrier_wait(full_a + 8 * (a_stage * ROWS + row_block), a_phase);
            first_half.load(a_base + (a_stage * ROWS + row_block) * A_TILE, a_offset, 0);
        };
        begin_a();
        for (int k = 0; k < my_tiles; k++) {
            float total[REGISTERS];
#pragma unroll
            for (int i = 0; i < REGISTERS; i++) total[i] = 0.0f;
            bool flagged = false;
            for (int step = 0; step < steps; step++) {
                const u32 a_slot = a_stage * ROWS + row_block;
                typename Tile<HALVES>::Pair second_half;
                second_half.load(a_base + a_slot * A_TILE, a_offset, 2);
                bool misfit = false;
                if (z.live) {
                    const uint4 found = load128(misfits + a_slot * (GROUP_WARPS * 4));
                    misfit = (found.x | found.y | found.z | found.w) != 0;
                }
                u32 hi[4][4], lo[4][4];
                first_half.unpack(0, odd, hi[0], lo[0]);
                barrier_wait(full_b + 8 * b_stage, b_phase);
                const u32 tile_b = b_ring + b_stage * B_STAGE;
                const bool last = k + 1 == my_tiles && step + 1 == steps;
                float product[REGISTERS];
                if constexpr (TURNS) group_sync(10 + row_block, CONSUMERS);  // wait for this warpgroup's turn
#pragma unroll
                for (int s = 0; s < 4; s++) {
                    if (s > 0) (s < 2 ? first_half : second_half).unpack(s % 2, odd, hi[s], lo[s]);
                    wgmma_fence();
                    // Small products first: the tensor core truncates less while the sum is small.
                    if constexpr (HALVES == 2) {
                        wgmma<BFLOAT>(product, lo[s], tile_descriptor(tile_b + s * 2048, B_TILE), s > 0);
                        wgmma<BFLOAT>(product, hi[s], tile_descriptor(tile_b + B_PIECE + s * 2048, B_TILE), 1);
                    }
                    wgmma<BFLOAT>(product, hi[s], tile_descriptor(tile_b + s * 2048, B_TILE), HALVES == 2 || s > 0);
                    if (s >= 2) wgmma_commit();
                }
                __syncwarp();
                if (lane == 0) barrier_arrive(empty_a + 8 * a_slot);
                if (++a_stage == z.a_stages) a_stage = 0, a_phase ^= 1;
                if constexpr (TURNS) {
                    wgmma_wait<1>();  // what is left keeps the tensor cores busy until the other one starts
                    if (row_block == 0 || !last) group_arrive(11 - row_block, CONSUMERS);
                }
                if (!last) begin_a();
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
#pragma unroll 1
                        for (int r = 0; r < z.share; r++) barrier_arrive_at(empty_b + 8 * b_stage, r);
                }
                if (++b_stage == z.b_stages) b_stage = 0, b_phase ^= 1;
#pragma unroll
                for (int g = 0; g < GROUPS; g++) {
                    if (inverse[g] < 0.0f || misfit) {
                        flagged = true;
                        continue;
                    }
#pragma unroll
                    for (int i = g * 32; i < g * 32 + 32; i++) total[i] = fmaf(product[i], inverse[g], total[i]);
                }
                // Refill the stage of the step before this one: that one surely is free, or will be at once.
                if (courier && k + step > 0) fill();
                __syncwarp();
            }

            const int tile = first_tile + k * int(gridDim.x);
            const int first_row = tile % z.row_tiles * (ROWS * EDGE), first_column = tile / z.row_tiles * COLS;
            const int row0 = row_block * EDGE + Tile<HALVES>::row_of(t), column0 = t % 4 * 4;
            const bool aligned = z.n % 4 == 0 && (reinterpret_cast<size_t>(C) & (4 * sizeof(*C) - 1)) == 0;
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
            if (t < z.split)  // tell every owner whether something was left out
                store_at(address_at(records + 16 * (part * ROWS + row_block), t),
                         make_float4(flagged ? 1.0f : 0.0f, 0.0f, 0.0f, 0.0f), address_at(received, t));
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
            for (int p = 0; p < z.split * ROWS; p++) flagged |= load_float(records + 16 * p) != 0.0f;
            if (flagged) {
                group_sync(8, CONSUMERS);  // the rows are in C before others add to them
                add_flagged<KIND, COLS>(z, values, out_ind, in_ind, blk_ptr, scale_a, B, C, first_row, part * rows_each,
                                        part * rows_each + rows_each, first_column, thread, CONSUMERS);
            }
        }
    } else {
        // ---- producers ----
        leave_registers<ROWS == 2 ? (COLS == 128 ? 56 : 112) : FUSED ? 120 : COLS == 128 ? 64 : 80>();
        const int group = (thread - CONSUMERS) / GROUP, t = thread % GROUP, row_block = ROWS == 2 ? group : 0;
        constexpr int STRIDE = producer_groups(ROWS, FUSED) / ROWS;  // from one of this group's steps to the next
        // What is held in `ahead`: entries [begin, end) of a block. What comes after it: [next_begin, next_end), of the
        // block before block `next_step` of tile `next_tile`.
        Quad<KIND> ahead[AHEAD];
        const int whole = z.entries & ~3;
        int begin = 0, end = 0, next_begin = 0, next_end = 0;
        int next_tile = first_tile, next_step = STRIDE > 1 ? group : 0, unit = 0;
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
            b_step += TURNS_OF_B;
        };
        const int all_steps = my_tiles * steps;
        if (z.live) wait_for_previous();  // it may be an optimizer's step
        point();
        locate();
        fetch();
        locate();
        if constexpr (FUSED) {
            wait_for_previous();  // it may write B
            fetch_b();
        }
        int stage = STRIDE > 1 ? group : 0, phase = 1;
        for (int k = stage; k < all_steps; k += STRIDE) {
            while (stage >= z.a_stages) stage -= z.a_stages, phase ^= 1;
            const u32 slot = stage * ROWS + row_block, tile = a_ring + slot * A_TILE;
            const bool splits = FUSED && k % TURNS_OF_B == group;
            barrier_wait(empty_a + 8 * slot, phase);
#pragma unroll
            for (int i = 0; i < A_TILE / (16 * GROUP); i++) store_zero16(tile + 16 * (t + i * GROUP));
            const u32 turn = extremes + group * 64 + (k / TURNS_OF_B & 1) * 32;
            while (FUSED && b_stage >= z.b_stages) b_stage -= z.b_stages, b_phase ^= 1;
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
                b_stage += TURNS_OF_B;
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
                if (lane == 0) store32(misfits + (slot * GROUP_WARPS + t / 32) * 4, misfit);
            }
            __syncwarp();
            if (lane == 0) barrier_arrive(full_a + 8 * slot);
            stage += STRIDE;
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
