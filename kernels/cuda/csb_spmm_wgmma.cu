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
#include "csb_wgmma_cells.cuh"

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
// The product. A CTA computes tiles of 64 * ROWS x COLS of C. Its warps have three trades:
//   consumers  warpgroups that multiply tiles in shared memory: one a block row, or two that take turns with the steps of
//              one block row and add up their sums in the end
//   producers  groups of 4 warps: fetch compressed entries ahead of time, scatter them into cleared tiles of A, taking
//              turns. Fused, they also clear, and take turns with splitting the tiles of B.
//   helpers    not when fused: a thread starts the copies of tiles of B, three warps clear tiles of A
// Tiles of A and of B travel through two rings of stages; a full and an empty barrier a stage, and one that says that a
// tile is cleared. A thread that waits for a phase of a barrier has, itself, seen the phase before or comes after who has:
// a parity names a phase only then. So each slot has one helper, one group of producers and one warpgroup of consumers:
// `stages` of the launcher.
// One lane arrives for its warp: __syncwarp orders the accesses of the other lanes before the arrival, which releases
// them too. What a place holds beside its tile, scales and misfits, is read before that as well. racecheck does not
// follow that order and reports every such hand-over; with all lanes arriving (benchmarks/sanitize.py) it does not.
//
// Clusters. With split > 1 the CTAs of a cluster share a tile of C: each takes a part of the sum and sends its partial
// rows to the CTA that owns them, which adds them in a fixed order. With split = 1 a CTA takes tile after tile,
// gridDim.x apart, so that storing one overlaps with preparing the next.
//
// Dynamic shared memory: B stages | A stages | partial rows (split > 1) | sums that are exchanged | barriers.
// SIDEWAYS, the product is Aᵀ·B.
template <int KIND, int ROWS, int COLS, bool FUSED, bool SIDEWAYS>
__global__ void __launch_bounds__(groups_of(ROWS, COLS, FUSED) * 128, 1)
csb_spmm_wgmma(const typename Class<KIND>::Value* __restrict__ values, const u8* __restrict__ out_ind,
               const u8* __restrict__ in_ind, const int* __restrict__ blk_ptr, const __grid_constant__ Sizes z,
               float scale_a, float inverse_a, const u8* image, const float* scales,
               const typename Class<KIND>::Value* B, typename Class<KIND>::Value* C) {
    constexpr int HALVES = Class<KIND>::HALVES, GROUPS = COLS / EDGE, REGISTERS = COLS / 2;
    constexpr bool BFLOAT = Class<KIND>::BFLOAT;
    constexpr int B_TILE = HALVES * B_PIECE, B_STAGE = GROUPS * B_TILE, A_TILE = HALVES * HALF_TILE, A_STAGE = ROWS * A_TILE;
    static_assert(!FUSED || COLS == EDGE, "the producers of a CTA split one tile of B a step");
    // With one block row, two consumer warpgroups take turns with the steps, and in the end each stores half the columns.
    constexpr int WARPGROUPS = consumer_groups(ROWS, FUSED), CONSUMERS = WARPGROUPS * 128;
    constexpr bool ALTERNATE = WARPGROUPS > ROWS, TURNS = ALTERNATE;
    constexpr int OWN = ALTERNATE ? COLS / 2 : COLS;  // columns that a warpgroup stores
    constexpr int GROUP = 128, GROUP_WARPS = 4, TURNS_OF_B = producer_groups(ROWS, COLS, FUSED);
    [[maybe_unused]] constexpr int CLEARING_WARPS = 1;  // of a tile
    constexpr int AHEAD = 3;  // quads that a producer fetches ahead

    extern __shared__ __align__(1024) u8 shared[];
    const u32 b_ring = shared_address(shared), a_ring = b_ring + z.b_stages * B_STAGE;
    const u32 partials = a_ring + z.a_stages * A_STAGE;
    const u32 exchange = partials + (z.split > 1 ? ROWS * EDGE * COLS * 4 : 0);
    const u32 full_b = exchange + (ALTERNATE ? EDGE * COLS * 4 : 0), empty_b = full_b + 8 * MAX_STAGES;
    const u32 full_a = empty_b + 8 * MAX_STAGES, empty_a = full_a + 8 * MAX_STAGES * ROWS;
    const u32 zero_a = empty_a + 8 * MAX_STAGES * ROWS;
    const u32 received = zero_a + 8 * MAX_STAGES * ROWS, records = received + 16;  // 16 bytes a part and block row
    const u32 stage_scales = records + 32 * MAX_STAGES;                              // 16 bytes a stage and group
    const u32 extremes = stage_scales + 32 * MAX_STAGES;                             // u32[4 groups][2 turns][2][4 warps]
    const u32 misfits = extremes + 256;                                              // u8[a_stages][ROWS][4 warps]

    const int thread = threadIdx.x, lane = thread % 32;
    const int warp = __shfl_sync(~0u, thread / 32, 0);  // the compiler does not know that it is the same in all lanes
    const int part = blockIdx.x % z.split;  // of the sum: rank in the cluster
    // Blocks [first_block, first_block + steps) of a block row; tiles first_tile, first_tile + gridDim.x, ...
    int first_block = 0, steps = z.blocks;
    if (z.split > 1) {
        first_block = int((long long)z.blocks * part / z.split);
        steps = int((long long)z.blocks * (part + 1) / z.split) - first_block;
    }
    const int tiles = z.row_tiles * z.column_tiles, first_tile = blockIdx.x / z.split;
    const int my_tiles = z.split > 1 ? 1 : (tiles - first_tile + int(gridDim.x) - 1) / int(gridDim.x);

    let_next_start();
    if (thread < z.b_stages) {
        barrier_init(full_b + 8 * thread, FUSED ? GROUP_WARPS : 1);
        barrier_init(empty_b + 8 * thread, ROWS * 4);
    }
    if (thread >= 32 && thread < 32 + z.a_stages * ROWS) {
        const int s = 8 * (thread - 32);
        barrier_init(full_a + s, GROUP_WARPS);
        barrier_init(empty_a + s, 4);
        barrier_init(zero_a + s, CLEARING_WARPS);
    }
    if (thread == 64) {
        barrier_init(received, 1);
        barrier_expect(received, ROWS * EDGE * COLS * 4 + 16 * ROWS * z.split);
    }
    if (thread < 96) asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    __syncthreads();  // barriers are ready
    if (z.split > 1) {
        cluster_arrive();
        cluster_wait();  // those of the whole cluster, too
    }

    // Start the copy of the next tile of B in the order of the steps, if there is one.
    const int all_groups = z.column_tiles * GROUPS;
    int fill_stage = 0, fill_phase = 1, fill_step = 0, fill_tile = first_tile;
    int fill_at = first_block * all_groups + first_tile / z.row_tiles * GROUPS;
    auto fill = [&]() {
        if (fill_tile >= first_tile + my_tiles * int(gridDim.x)) return false;
        const u32 full = full_b + 8 * fill_stage, to = b_ring + fill_stage * B_STAGE;
        const u8* const from = image + size_t(fill_at) * B_TILE;
        barrier_wait(empty_b + 8 * fill_stage, fill_phase);
        barrier_expect(full, B_STAGE + 16 * GROUPS);
        bulk_copy(to, from, B_STAGE, full);
        bulk_copy(stage_scales + fill_stage * 32, scales + size_t(fill_at) * 4, 16 * GROUPS, full);
        if (++fill_stage == z.b_stages) fill_stage = 0, fill_phase ^= 1;
        fill_at += all_groups;
        if (++fill_step == steps) {
            fill_step = 0, fill_tile += gridDim.x;
            fill_at = first_block * all_groups + fill_tile / z.row_tiles * GROUPS;
        }
        return true;
    };
    if (!FUSED && warp >= (WARPGROUPS + producer_groups(ROWS, COLS, FUSED)) * 4) {
        // ---- helpers: one warp starts the copies of B, the others clear tiles of A, each every third ----
        leave_registers<HELPER_REGISTERS>();
        const int helper = warp - (WARPGROUPS + producer_groups(ROWS, COLS, FUSED)) * 4;
        if (helper > 0) {
            // Always the same helper clears a slot, so that it never is a whole phase ahead of what it waits for.
            const int ring = z.a_stages * ROWS, all_slots = my_tiles * steps * ROWS, pace = ring % 3 == 0 ? 3 : 2;
            int slot = helper - 1, phase = 1;
            for (int k = helper <= pace ? helper - 1 : all_slots; k < all_slots; k += pace) {
                while (slot >= ring) slot -= ring, phase ^= 1;
                barrier_wait(empty_a + 8 * slot, phase);
                const u32 to = a_ring + slot * A_TILE + lane * 16;
#pragma unroll
                for (int i = 0; i < A_TILE / 512; i++) store_zero16(to + i * 512);
                asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // wgmma reads what was stored
                __syncwarp();
                if (lane == 0) barrier_arrive(zero_a + 8 * slot);
                slot += pace;
            }
        } else if (lane == 0) {
            wait_for_previous();  // the pre-pass wrote what is copied here
            while (fill()) {}
        }
    } else if (warp < WARPGROUPS * 4) {
        // ---- consumers ----
        take_registers<consumer_registers(COLS, FUSED)>();
        const int warpgroup = warp / 4, row_block = ALTERNATE ? 0 : warpgroup, t = thread % 128;
        int a_stage = 0, a_phase = 0, b_stage = 0, b_phase = 0;
        if (TURNS && warpgroup == 1) group_arrive(10, CONSUMERS);  // the first turn is the other one's
        // Steps of all tiles are counted through; of these, this warpgroup's next.
        constexpr int PACE = ALTERNATE ? 2 : 1;
        const int all_steps = my_tiles * steps;
        int now = 0;
        if (ALTERNATE && warpgroup == 1) now = 1, a_stage = b_stage = 1;
        for (int k = 0; k < my_tiles; k++) {
            float total[REGISTERS];
#pragma unroll
            for (int i = 0; i < REGISTERS; i++) total[i] = 0.0f;
            bool flagged = false;
            for (; now < (k + 1) * steps; now += PACE) {
                const u32 a_slot = a_stage * ROWS + row_block;
                const u32 tile_a = a_ring + a_slot * A_TILE, tile_b = b_ring + b_stage * B_STAGE;
                barrier_wait(full_a + 8 * a_slot, a_phase);
                barrier_wait(full_b + 8 * b_stage, b_phase);
                float product[REGISTERS];
                if constexpr (TURNS) group_sync(10 + warpgroup, CONSUMERS);  // wait for this warpgroup's turn
                const u64 from_a = tile_descriptor(tile_a, A_TILE), from_b = tile_descriptor(tile_b, B_TILE);
                constexpr int NEXT_A = (SIDEWAYS ? 2048 : 32) >> 4, NEXT_B = 2048 >> 4;
                constexpr int LOW_A = HALF_TILE >> 4, LOW_B = B_PIECE >> 4;
                wgmma_fence();
                // Small products first: the tensor core truncates less while the sum is small.
                if constexpr (HALVES == 2) {
#pragma unroll
                    for (int s = 0; s < 4; s++) {
                        wgmma_shared<BFLOAT, SIDEWAYS>(product, from_a + LOW_A + s * NEXT_A, from_b + s * NEXT_B, s > 0);
                        wgmma_shared<BFLOAT, SIDEWAYS>(product, from_a + s * NEXT_A, from_b + LOW_B + s * NEXT_B, 1);
                    }
                }
#pragma unroll
                for (int s = 0; s < 4; s++) {
                    wgmma_shared<BFLOAT, SIDEWAYS>(product, from_a + s * NEXT_A, from_b + s * NEXT_B, HALVES == 2 || s > 0);
                    if (s == 1 || s == 3) wgmma_commit();
                }
                float inverse[GROUPS];
#pragma unroll
                for (int g = 0; g < GROUPS; g++) inverse[g] = load_float(stage_scales + b_stage * 32 + g * 16);
                bool misfit = false;
                if (z.live) misfit = __float_as_uint(load_float(misfits + a_slot * GROUP_WARPS)) != 0;
                a_stage += PACE;
                if (a_stage >= z.a_stages) a_stage -= z.a_stages, a_phase ^= 1;
                if constexpr (TURNS) {
                    wgmma_wait<1>();  // what is left keeps the tensor cores busy until the other one starts
                    const bool last = now + 1 == all_steps;
                    if (!last) group_arrive(11 - warpgroup, CONSUMERS);
                }
                // A load that is still on its way when its place is handed over may find what the next tile brings: the
                // compiler does not wait for it before an arrival. The vote does, as it needs what was read.
                bool left_out = misfit;
#pragma unroll
                for (int g = 0; g < GROUPS; g++) left_out |= inverse[g] < 0.0f;
                flagged |= __any_sync(~0u, left_out) != 0;
                wgmma_wait<0>();
#pragma unroll
                for (int i = 0; i < REGISTERS; i++) asm volatile("" : "+f"(product[i])::"memory");
                __syncwarp();  // all lanes have read what the places hold beside the tiles
                if (lane == 0) barrier_arrive(empty_a + 8 * a_slot);
                if (lane == 0) barrier_arrive(empty_b + 8 * b_stage);
                b_stage += PACE;
                if (b_stage >= z.b_stages) b_stage -= z.b_stages, b_phase ^= 1;
#pragma unroll
                for (int g = 0; g < GROUPS; g++) {
                    if (inverse[g] < 0.0f || misfit) continue;
#pragma unroll
                    for (int i = g * 32; i < g * 32 + 32; i++) total[i] = fmaf(product[i], inverse[g], total[i]);
                }
            }

            if constexpr (ALTERNATE) {
                // Each gives the other the sums of half the columns; lanes of both hold the same places.
                if (k > 0) group_sync(12, CONSUMERS);  // what was given last time has been read
                const u32 mine = exchange + t * 16, size = EDGE * COLS * 2;
#pragma unroll
                for (int i = 0; i < REGISTERS / 8; i++) {
                    const int j = 4 * i, l = j + REGISTERS / 2;
                    store_float4(mine + (1 - warpgroup) * size + i * 2048,
                                 warpgroup ? make_float4(total[j], total[j + 1], total[j + 2], total[j + 3])
                                           : make_float4(total[l], total[l + 1], total[l + 2], total[l + 3]));
                }
                if (t == 0) store_float(extremes + 4 * warpgroup, flagged ? 1.0f : 0.0f);
                group_sync(12, CONSUMERS);
                flagged |= load_float(extremes + 4 - 4 * warpgroup) != 0.0f;
#pragma unroll
                for (int i = 0; i < REGISTERS / 8; i++) {
                    const int j = 4 * i, l = j + REGISTERS / 2;
                    const float4 v = load_float4(mine + warpgroup * size + i * 2048);
                    total[j] = (warpgroup ? total[l] : total[j]) + v.x, total[j + 1] = (warpgroup ? total[l + 1] : total[j + 1]) + v.y;
                    total[j + 2] = (warpgroup ? total[l + 2] : total[j + 2]) + v.z;
                    total[j + 3] = (warpgroup ? total[l + 3] : total[j + 3]) + v.w;
                }
            }
            const int tile = first_tile + k * int(gridDim.x);
            const int first_row = tile % z.row_tiles * (ROWS * EDGE), first_column = tile / z.row_tiles * COLS;
            const int row0 = row_block * EDGE + t / 32 * 16 + lane / 4, column0 = (ALTERNATE ? warpgroup * OWN : 0) + t % 4 * 4;
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
                    for (int i = 0; i < OWN / 16; i++) store4<KIND>(to + 16 * i, four(i, 0));
#pragma unroll
                    for (int i = 0; i < OWN / 16; i++) store4<KIND>(to + size_t(8) * z.n + 16 * i, four(i, 1));
                } else {
#pragma unroll
                    for (int i = 0; i < OWN / 8; i++)
                        store_some<KIND>(C, z, row + 8 * (i & 1), column + 16 * (i / 2), aligned, four(i / 2, i & 1));
                }
                if (flagged) {
                    constexpr int ALL = ALTERNATE ? CONSUMERS : 128;  // threads of the block row
                    group_sync(8 + row_block, ALL);  // the tile is in C before others add to it
                    add_flagged<KIND, COLS>(z, values, out_ind, in_ind, blk_ptr, scale_a, B, C, first_row, row_block * EDGE,
                                            row_block * EDGE + EDGE, first_column, thread % ALL, ALL);
                }
                continue;
            }
            // Row r of the tile goes to CTA r / rows_each, which keeps what part p sends at [p][r % rows_each]. The
            // exclusive-or on the column spreads the rows of a warp over the banks.
            const int rows_each = ROWS * EDGE / z.split;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int row = row0 + 8 * h, owner = row / rows_each;
                const u32 to = address_at(partials + (part * rows_each + row % rows_each) * (COLS * 4), owner);
                const u32 barrier = address_at(received, owner);
                const int spread = (row & (COLS / 16 - 1)) << 4;
#pragma unroll
                for (int i = 0; i < OWN / 16; i++)
                    store_at(to + ((column0 + 16 * i) ^ spread) * 4, four(i, h), barrier);
            }
            if (t < z.split && (!ALTERNATE || warpgroup == 0))  // tell every owner whether something was left out
                store_at(address_at(records + 16 * (part * ROWS + row_block), t),
                         make_float4(flagged ? 1.0f : 0.0f, 0.0f, 0.0f, 0.0f), address_at(received, t));
            barrier_wait(received, 0);
            for (int q = thread; q < rows_each * (COLS / 4); q += CONSUMERS) {
                const int r = q / (COLS / 4), row = part * rows_each + r, column = q % (COLS / 4) * 4;
                const u32 from = partials + r * (COLS * 4) + (column ^ (row & (COLS / 16 - 1)) << 4) * 4;
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
        leave_registers<producer_registers(ROWS, COLS, FUSED)>();
        // Tiles of A of a step follow one another: number k belongs to block row k % ROWS of step k / ROWS.
        const int group = (warp - CONSUMERS / 32) / GROUP_WARPS, t = thread % GROUP;
        constexpr int STRIDE = producer_groups(ROWS, COLS, FUSED);  // from one of this group's slots to the next
        // What is held in `ahead`: entries [begin, end) of a block. What comes after it: [next_begin, next_end), of the
        // block before slot `next_slot` of tile `next_tile`.
        Cells<KIND> ahead[AHEAD];
        const int whole = z.entries & ~3;
        int begin = 0, end = 0, next_begin = 0, next_end = 0;
        const int tile_slots = steps * ROWS, end_tile = first_tile + my_tiles * int(gridDim.x);
        int next_tile = first_tile, next_slot = group, first_unit = first_tile % z.row_tiles * ROWS;
        auto locate = [&]() {
            if (next_slot >= tile_slots) {
                do next_slot -= tile_slots, next_tile += gridDim.x;
                while (next_slot >= tile_slots);
                first_unit = next_tile % z.row_tiles * ROWS;
            }
            next_begin = next_end = 0;
            const int unit = first_unit + next_slot % ROWS;
            if (next_tile < end_tile && unit < z.units) {
                const int* const at =
                    blk_ptr + (size_t(unit) * z.unit_stride + size_t(first_block + next_slot / ROWS) * z.block_stride);
                next_begin = int(load_global(at)), next_end = int(load_global(at + 1));
            }
            next_slot += STRIDE;
        };
        auto fetch = [&]() {
            begin = next_begin, end = next_end;
            const int first = (begin & ~3) + 4 * t, last = min(end, whole);
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                if (first + 4 * i * GROUP < last) ahead[i].load(values, out_ind, in_ind, first + 4 * i * GROUP);
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
        const int all_slots = my_tiles * tile_slots;
        if (z.live) wait_for_previous();  // it may be an optimizer's step
        locate();
        fetch();
        locate();
        if constexpr (FUSED) {
            wait_for_previous();  // it may write B
            fetch_b();
        }
        const int ring = z.a_stages * ROWS;
        int slot = group, phase = 1;
        for (int k = group; k < all_slots; k += STRIDE) {
            while (slot >= ring) slot -= ring, phase ^= 1;
            const u32 tile = a_ring + slot * A_TILE;
            // With two block rows both groups have a slot in every step; they take turns with B.
            const bool splits = FUSED && k / ROWS % TURNS_OF_B == group;
            if constexpr (!FUSED) {
                barrier_wait(zero_a + 8 * slot, phase ^ 1);
            } else {
                barrier_wait(empty_a + 8 * slot, phase);
#pragma unroll
                for (int i = 0; i < A_TILE / (16 * GROUP); i++) store_zero16(tile + 16 * (t + i * GROUP));
            }
            const u32 turn = extremes + group * 64 + (k / ROWS / TURNS_OF_B & 1) * 32;
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
            if constexpr (FUSED) group_sync(1 + group, GROUP);  // the tile is zero and extremes are in place
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
            const int first = (begin & ~3) + 4 * t, last = min(end, whole);
            bool misfit = false;
#pragma unroll
            for (int i = 0; i < AHEAD; i++) {
                if (first - 4 * lane + 4 * i * GROUP >= last) break;  // the same for the whole warp
                ahead[i].template place<SIDEWAYS>(tile, first + 4 * i * GROUP, begin, last, scale_a);
                if (z.live) misfit |= ahead[i].is_out_of_range(first + 4 * i * GROUP, begin, last, scale_a);
            }
            for (int e = first + 4 * AHEAD * GROUP; e < last; e += 4 * GROUP) {  // in fuller blocks
                Cells<KIND> quad;
                quad.load(values, out_ind, in_ind, e);
                quad.template place<SIDEWAYS>(tile, e, begin, last, scale_a);
                if (z.live) misfit |= quad.is_out_of_range(e, begin, last, scale_a);
            }
            if (end > whole) {  // the matrix's last entries, hardly ever
                const int e = max(begin, whole) + t;
                if (e < end) {
                    Cells<KIND> quad;
                    quad.load_one(values, out_ind, in_ind, e);
                    quad.template place<SIDEWAYS>(tile, e, e, e + 1, scale_a);
                    if (z.live) misfit |= quad.is_out_of_range(e, e, e + 1, scale_a);
                }
            }
            if (z.live) {
                misfit = __any_sync(~0u, misfit);
                if (lane == 0) store8(misfits + slot * GROUP_WARPS + t / 32, misfit);
            }
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");  // wgmma reads what was stored
            __syncwarp();
            if (lane == 0) barrier_arrive(full_a + 8 * slot);
            slot += STRIDE;
            fetch();
            locate();
        }
    }
}
