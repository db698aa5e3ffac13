// Sparse x dense from Compressed Sparse Blocks for high sparsity: C = A·B and C = Aᵀ·B from one stored copy of A,
// on CUDA cores. Two kernels, for large and for small products:
//
//   csb_rows_panel    a CTA owns a tile of C and walks the inner dimension in chunks. The chunk's panel of B lies
//                     in shared memory, the entries too, in row order; eight lanes take a row.
//   csb_rows_direct   a warp takes a row, or several do, and reads B where it is. Nothing is shared but the sums.
//
// Why. Each nonzero multiplies a row of B: nnz * n elements in all, many times what A, B and C hold together, and
// how fast they come bounds the product. From a panel they come at the speed of shared memory, and B leaves the L2
// cache once for each tile of rows instead of once for each nonzero. But panel and entries must be there first.
// Small products are over before: there the shortest chain of dependent loads wins.
//
// One direction or the other. Both products run the same code. "out" is the side of a block that indexes C,
// "in" the side that indexes B; a unit is a block row of the product:
//     A·B    out = row_ind, in = col_ind, block (u, b) of the product is block number u * block_columns + b
//     Aᵀ·B   out = col_ind, in = row_ind, block (u, b) of the product is block number b * block_columns + u
// so that the caller says which is which with two strides.
//
// B is in_rows x n, C is out_rows x n, both row-major and contiguous. ALIGNED: `values` and the rows of B and C
// begin on 16-byte boundaries. Every element of C is written once, by one thread, and sums are added in a fixed
// order: every run gives the same bits.
//
// Programmatic dependent launch. What a kernel reads before wait_for_previous_kernel() is the structure of A and
// the plan, which no kernel of the stream writes; values and B may be results of the kernel before.

#include "csb_rows_vectors.cuh"

// An entry waiting in shared memory: its value, and where its row of B begins in the panel, in bytes.
template <typename T>
struct alignas(2 * sizeof(T)) Entry {
    T value;
    unsigned offset;
};

// Without the launch attribute both do nothing.
__device__ __forceinline__ void allow_next_kernel() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// ---------------------------------------------------------------------------------------------------------
// Panel.

enum {
    LANES = 8,    // that share a row of C: 16 bytes each are 128 bytes, every bank of shared memory once
    TOGETHER = 4  // rows that a warp works at, 32 / LANES
};

// Copy BYTES bytes from global to shared memory; they are there after wait_for_copies() and a barrier.
template <int BYTES>
__device__ __forceinline__ void copy_async(void* shared, const void* global) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
#if __CUDA_ARCH__ >= 800
    const unsigned to = unsigned(__cvta_generic_to_shared(shared));
    if constexpr (BYTES == 16)  // past L1: a CTA reads each piece of B once
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(global), "n"(BYTES) : "memory");
#else
    if constexpr (BYTES == 16)
        *static_cast<uint4*>(shared) = __ldg(static_cast<const uint4*>(global));
    else if constexpr (BYTES == 8)
        *static_cast<uint2*>(shared) = __ldg(static_cast<const uint2*>(global));
    else
        *static_cast<unsigned*>(shared) = __ldg(static_cast<const unsigned*>(global));
#endif
}

__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// Bring `rows` rows of a panel: a tile's columns of B, `columns` of which exist, STEP at a time. What lies past the
// last column is not touched: its products are computed and not stored.
template <int TILE, int STEP, typename T>
__device__ __forceinline__ void bring_panel(unsigned char* panel, const T* B, int rows, int columns, int n) {
    constexpr int PIECES = TILE / STEP, BYTES = STEP * sizeof(T);
    const int column = threadIdx.x % PIECES * STEP;  // for good: blockDim.x is a multiple of PIECES
    if (column >= columns) return;
    const int apart = blockDim.x / PIECES;
    const T* from = B + size_t(threadIdx.x / PIECES) * n + column;
    unsigned char* to = panel + threadIdx.x * BYTES;
#pragma unroll 4
    for (int row = threadIdx.x / PIECES; row < rows; row += apart) {
        copy_async<BYTES>(to, from);
        from += size_t(apart) * n, to += blockDim.x * BYTES;
    }
}

// Four neighbours of an array that begins on a 16-byte boundary, at a multiple of four: one load, or two of doubles.
template <typename T>
struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) Fours {
    T at[4];
};
template <typename T>
__device__ __forceinline__ Fours<T> load_four(const T* at) {
    return *reinterpret_cast<const Fours<T>*>(at);
}

// The stored matrix as the panel kernel sees it, and the tile's share of it.
template <typename T, typename Index, typename Pointer, bool ALIGNED>
struct Source {
    const T* values;
    const Index* in_ind;
    const Pointer* blk_ptr;
    const unsigned short* place;
    int first_unit, units;          // block rows of the tile
    int unit_stride, block_stride;  // of block numbers
    int in_block;
    int in_mask;         // leaves of a row of B its row in the panel; chunks are powers of two
    unsigned row_bytes;  // of a row of the panel

    // Copy the entries of blocks [first_block, first_block + blocks) of the tile's units to their places. A block is
    // taken by one warp or, where there are fewer blocks than warps, by several. A lane reads four neighbouring
    // entries at once, from the last multiple of four before the block on.
    __device__ __forceinline__ void stage(Entry<T>* staged, int first_block, int blocks) const {
        constexpr int UNROLL = 2;  // independent fours a lane
        const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        const int count = units * blocks;
        if (count == 0) return;  // a matrix without columns
        const int parts = max(1, warps / count);  // warps that share a block
        for (int q = warp / parts; q < count; q += warps / parts) {
            const int unit = first_unit + q / blocks, block = first_block + q % blocks;
            const Pointer* const at = blk_ptr + (size_t(unit) * unit_stride + size_t(block) * block_stride);
            const Pointer begin = __ldg(at), end = __ldg(at + 1);
            const unsigned base = block * in_block & in_mask;
            Pointer e = begin / 4 * 4 + (warp % parts) * 128 + lane * 4;
            for (; e < end; e += UNROLL * 128 * parts) {
                Fours<T> value[UNROLL];
                Fours<Index> row[UNROLL];
                Fours<unsigned short> to[UNROLL];
                // Past the end the last four are read again, so that no load waits for a condition.
#pragma unroll
                for (int u = 0; u < UNROLL; u++) {
                    const Pointer p = min(e + u * 128 * parts, (end - 1) / 4 * 4);
                    row[u] = load_four(in_ind + p), to[u] = load_four(place + p);
                    if constexpr (ALIGNED) {
                        value[u] = load_four(values + p);
                    } else {
#pragma unroll
                        for (int i = 0; i < 4; i++) value[u].at[i] = values[min(p + i, end - 1)];
                    }
                }
#pragma unroll
                for (int u = 0; u < UNROLL; u++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const Pointer p = e + u * 128 * parts + i;
                        if (p >= begin && p < end)
                            staged[to[u].at[i]] = Entry<T>{value[u].at[i], (base + row[u].at[i]) * row_bytes};
                    }
            }
        }
    }
};

// Add the products of a row's entries to its sums. Entry s of the row is at[TOGETHER * s]: the entries of the four
// rows of a warp lie side by side, so that one wavefront brings all four. `panel` is where this lane's columns of
// the panel's first row are.
template <typename T, int VECTORS>
__device__ __forceinline__ void add_row(Vector<T> (&sum)[VECTORS], const Entry<T>* at, int length,
                                        const unsigned char* panel) {
    constexpr int UNROLL = VECTORS >= 4 ? 1 : 4 / VECTORS;
    for (; length >= UNROLL; length -= UNROLL, at += UNROLL * TOGETHER) {
        Entry<T> entry[UNROLL];
        Vector<T> x[UNROLL][VECTORS];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) entry[u] = at[u * TOGETHER];
#pragma unroll
        for (int u = 0; u < UNROLL; u++)
#pragma unroll
            for (int v = 0; v < VECTORS; v++)
                x[u][v] = *reinterpret_cast<const Vector<T>*>(panel + entry[u].offset + v * 16 * LANES);
#pragma unroll
        for (int u = 0; u < UNROLL; u++)
#pragma unroll
            for (int v = 0; v < VECTORS; v++) multiply_add(sum[v], entry[u].value, x[u][v]);
    }
#pragma unroll
    for (int u = 0; u < UNROLL - 1; u++)
        if (u < length) {
            const Entry<T> entry = at[u * TOGETHER];
#pragma unroll
            for (int v = 0; v < VECTORS; v++)
                multiply_add(sum[v], entry.value,
                             *reinterpret_cast<const Vector<T>*>(panel + entry.offset + v * 16 * LANES));
        }
}

// VECTORS  vectors of 16 bytes that a lane holds of a row: a tile is 128 * VECTORS bytes of a row of B wide.
// ROWS     rows that eight lanes sum up, one after the other: a tile is ROWS * TOGETHER * warps rows of C.
// place    unsigned short[nnz], in stored order: where each entry goes in `staged`.
// rows     unsigned short[row_tiles][slots]: the row of the tile that each slot computes. Slot (r, warp, group) is
//          number (r * warps + warp) * TOGETHER + group; the four of a warp are rows of like length.
// spans    unsigned[row_tiles][chunks][slots]: where the row's first entry of the chunk lies in `staged`, and above
//          16 bits how many it has there.
// chunk_rows    inner dimension of a chunk, a power of two and a multiple of in_block.
// column_tiles  tiles of columns that a CTA computes, one after the other.
// buffers       1, or 2: while a CTA computes with one panel the next is on its way.
// resident      whether the entries of all chunks are staged once, or those of a chunk when it comes.
// Shared memory: panels[buffers][chunk_rows][tile], staged[capacity], unsigned spans[chunks][slots].
template <typename T, typename Index, typename Pointer, int VECTORS, int ROWS, bool ALIGNED>
__global__ void __launch_bounds__(1024, 1)
csb_rows_panel(const T* values, const Index* __restrict__ in_ind, const Pointer* __restrict__ blk_ptr,
               const unsigned short* __restrict__ place, const unsigned short* __restrict__ rows,
               const unsigned* __restrict__ spans, int row_tiles, int chunks, int chunk_rows, int column_tiles,
               int buffers, int resident, int capacity, int unit_stride, int block_stride, int out_block,
               int in_block, int units, int blocks, int out_rows, int in_rows, int n, const T* B, T* C) {
    constexpr int SIZE = Vector<T>::SIZE, TILE = VECTORS * LANES * SIZE;
    extern __shared__ __align__(128) unsigned char shared[];
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % LANES;
    const int turn = TOGETHER * warps, slots = ROWS * turn;
    const int my_slot = warp * TOGETHER + threadIdx.x % 32 / LANES;  // the first; the others are `turn` apart
    const int row_tile = blockIdx.x % row_tiles, first_tile = blockIdx.x / row_tiles * column_tiles;
    const int steps = min(column_tiles, (n + TILE - 1) / TILE - first_tile) * chunks;
    const unsigned panel_bytes = chunk_rows * (TILE * sizeof(T));
    Entry<T>* const staged = reinterpret_cast<Entry<T>*>(shared + panel_bytes * buffers);
    unsigned* const my_spans = reinterpret_cast<unsigned*>(staged + capacity);
    const int tile_units = slots / out_block, chunk_blocks = chunk_rows / in_block;
    const Source<T, Index, Pointer, ALIGNED> source{
        values,      in_ind,       blk_ptr,
        place,       row_tile * tile_units, min(tile_units, units - row_tile * tile_units),
        unit_stride, block_stride, in_block,
        chunk_rows - 1, unsigned(TILE * sizeof(T))};

    for (int i = threadIdx.x * 4; i < chunks * slots; i += blockDim.x * 4)
        copy_async<16>(my_spans + i, spans + size_t(row_tile) * chunks * slots + i);
    wait_for_previous_kernel();

    Vector<T> sum[ROWS][VECTORS] = {};
    int tile = first_tile, chunk = 0;         // of the step
    int coming_tile = tile, coming_chunk = 0;  // of the panel that is brought next
    unsigned buffer = 0, coming_buffer = 0;
    // With two buffers a round before the first step brings the first panel.
    for (int step = buffers == 2 ? -1 : 0; step < steps; step++) {
        const bool first = step <= 0 && step == 1 - buffers;
        if (buffers == 2 && !first) wait_for_copies();
        // This step's panel is there if it came before; nobody reads any more what is overwritten now.
        if (!first) __syncthreads();
        if (coming_tile * chunks + coming_chunk < first_tile * chunks + steps) {
            const T* const corner = B + size_t(coming_chunk) * chunk_rows * n + size_t(coming_tile) * TILE;
            bring_panel<TILE, ALIGNED ? SIZE : 1>(shared + coming_buffer, corner,
                                                  min(chunk_rows, in_rows - coming_chunk * chunk_rows),
                                                  n - coming_tile * TILE, n);
            if (++coming_chunk == chunks) coming_chunk = 0, coming_tile++;
            if (buffers == 2) coming_buffer ^= panel_bytes;
        }
        if (resident ? first : step >= 0)
            source.stage(staged, resident ? 0 : chunk * chunk_blocks,
                         resident ? blocks : min(chunk_blocks, blocks - chunk * chunk_blocks));
        if (step < 0) continue;
        if (buffers == 1) wait_for_copies();
        if (buffers == 1 || !resident) __syncthreads();  // panel, entries and spans are there
        if (step + 1 == steps) allow_next_kernel();

#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const unsigned span = my_spans[chunk * slots + my_slot + r * turn];
            add_row(sum[r], staged + (span & 0xffff), span >> 16, shared + buffer + lane * 16);
        }
        if (buffers == 2) buffer ^= panel_bytes;
        if (++chunk < chunks) continue;
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const int row = row_tile * slots + __ldg(rows + size_t(row_tile) * slots + my_slot + r * turn);
            T* const out = C + size_t(row) * n;
#pragma unroll
            for (int v = 0; v < VECTORS; v++) {
                const int column = tile * TILE + (v * LANES + lane) * SIZE;
                if constexpr (ALIGNED) {
                    if (row < out_rows && column < n) *reinterpret_cast<Vector<T>*>(out + column) = sum[r][v];
                } else {
#pragma unroll
                    for (int i = 0; i < SIZE; i++)
                        if (row < out_rows && column + i < n) out[column + i] = sum[r][v].at[i];
                }
                sum[r][v] = Vector<T>{};
            }
        }
        chunk = 0, tile++;
    }
}

// ---------------------------------------------------------------------------------------------------------
// Direct. A row of C is computed by `split` warps of a CTA, each taking every split-th run of 32 of its entries.
//
// GROUP    lanes that share the columns of a tile, 16 bytes each; 32 / GROUP entries go in parallel.
// jobs     uint2[out_rows + 1]: where the row's entries begin in `codes`, and which row it is.
// codes    unsigned short or, if `wide`, unsigned[nnz]: row by row, where the entries lie: the block of the unit
//          above offset_bits bits of place among that block's entries.
enum { DIRECT_WARPS = 8 };  // of a CTA, at most

template <typename T, typename Index, typename Pointer, int GROUP, bool ALIGNED>
__global__ void __launch_bounds__(32 * DIRECT_WARPS)
csb_rows_direct(const T* values, const Index* __restrict__ in_ind, const Pointer* __restrict__ blk_ptr,
                const void* __restrict__ codes, const uint2* __restrict__ jobs, int split, int wide,
                int offset_bits, int unit_stride, int block_stride, int out_bits, int in_bits, int blocks,
                int out_rows, int n, const T* B, T* C) {
    constexpr int SIZE = Vector<T>::SIZE, TILE = GROUP * SIZE, PARALLEL = 32 / GROUP;
    constexpr int UNROLL = 8;  // entries of a group in flight
    constexpr int STEP = ALIGNED ? 1 : GROUP;  // from column to column of a lane
    __shared__ unsigned run_rows[DIRECT_WARPS][32];  // what a warp's run of entries multiplies
    __shared__ T run_values[DIRECT_WARPS][32];
    __shared__ Vector<T> run_sums[DIRECT_WARPS][GROUP];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / GROUP;
    const int rows_here = blockDim.x / 32 / split, row_groups = (out_rows + rows_here - 1) / rows_here;
    const int job = blockIdx.x % row_groups * rows_here + warp / split, part = warp % split;
    const int column = blockIdx.x / row_groups * TILE + lane % GROUP * (ALIGNED ? SIZE : 1);
    const T* const my_B = B + (column < n ? column : 0);

    allow_next_kernel();
    unsigned first = 0, to = 0, in_row = 0;
    Pointer e = 0, my_begin = 0;
    const Pointer* unit_ptr = blk_ptr;
    int row = 0;
    // Find the lane's entry of the run that begins at `first`, and its row of B. Lanes past the end take the last.
    const auto locate = [&]() {
        const unsigned i = min(first + lane, to - 1);
        const unsigned code = wide ? __ldg(static_cast<const unsigned*>(codes) + i)
                                   : __ldg(static_cast<const unsigned short*>(codes) + i);
        const unsigned block = code >> offset_bits;
        const Pointer begin = blocks <= 32 ? __shfl_sync(0xffffffffu, my_begin, block)
                                           : __ldg(unit_ptr + size_t(block) * block_stride);
        e = begin + (code & ((1u << offset_bits) - 1));
        in_row = (block << in_bits) + __ldg(in_ind + e);
    };
    if (job < out_rows) {
        const uint2 from = __ldg(jobs + job);
        to = __ldg(&jobs[job + 1].x);
        first = from.x + part * 32, row = from.y;
        unit_ptr += size_t(row >> out_bits) * unit_stride;
        if (first < to) {
            // Lane b keeps where block b begins, so that only units of more than 32 blocks look it up.
            my_begin = __ldg(unit_ptr + size_t(min(lane, blocks - 1)) * block_stride);
            locate();
        }
    }
    wait_for_previous_kernel();

    Vector<T> sum = {};
    while (first < to) {
        const int count = min(32u, to - first);
        run_rows[warp][lane] = in_row;
        const T value = load_one(values + e);
        first += 32 * split;
        if (first < to) locate();
        __syncwarp();  // the run's rows of B are known to all lanes
        for (int i = 0; i < count; i += UNROLL * PARALLEL) {
            unsigned k[UNROLL];
            Vector<T> x[UNROLL];
            // Past the run's end the last entry is there again, so that no load waits for a condition.
#pragma unroll
            for (int u = 0; u < UNROLL; u++) k[u] = run_rows[warp][(i + u * PARALLEL + group) % 32];
#pragma unroll
            for (int u = 0; u < UNROLL; u++) {
                const T* const at = my_B + size_t(k[u]) * n;
                if constexpr (ALIGNED) {
                    x[u] = load_vector(at);
                } else {
#pragma unroll
                    for (int c = 0; c < SIZE; c++)
                        x[u].at[c] = load_one(at + (column + c * STEP < n ? c * STEP : 0));
                }
            }
            if (i == 0) {  // only now, so that the loads of B did not wait for the values
                run_values[warp][lane] = value;
                __syncwarp();
            }
            // What is there again is left out: multiplying it by zero instead would make NaN of Inf.
#pragma unroll
            for (int u = 0; u < UNROLL; u++) {
                const int s = i + u * PARALLEL + group;
                const T v = run_values[warp][s % 32];
                if (s < count) multiply_add(sum, v, x[u]);
            }
        }
        __syncwarp();  // all lanes are done with the run
    }
#pragma unroll
    for (int offset = GROUP; offset < 32; offset *= 2)
#pragma unroll
        for (int c = 0; c < SIZE; c++) sum.at[c] += __shfl_xor_sync(0xffffffffu, sum.at[c], offset);
    if (split > 1) {
        if (lane < GROUP) run_sums[warp][lane] = sum;
        // The sums of the row's warps are there before the first of them adds them.
        asm volatile("bar.sync %0, %1;" ::"r"(1 + warp / split), "r"(32 * split) : "memory");
        if (part == 0 && lane < GROUP)
            for (int p = 1; p < split; p++)
#pragma unroll
                for (int c = 0; c < SIZE; c++) sum.at[c] += run_sums[warp + p][lane].at[c];
    }
    if (job < out_rows && part == 0 && lane < GROUP) {
        T* const out = C + size_t(row) * n + column;
        store_vector<ALIGNED, STEP>(out, sum, column, n);
    }
}
