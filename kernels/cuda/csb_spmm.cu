// Sparse x dense from Compressed Sparse Blocks: C = A·B and C = Aᵀ·B from one stored copy of A.
//
// Versions, simple to fast:
//   csb_spmm_v1   a CTA walks the entries of its item in the order in which they are stored; a thread owns a
//                 column of C and adds into rows that the CTA keeps in shared memory.
//   csb_spmm_v2   a CTA first gathers the entries of its rows into shared memory, row by row (16 bits an entry,
//                 computed beforehand, say where each lies); then a warp takes a row, several entries at a
//                 time, and keeps its sums in registers. B is read 16 bytes a lane through the L1 cache.
//   csb_add_partials   second phase for items that share a block row: adds their partial sums to C, one
//                 thread an element, in slot order.
//
// One direction or the other. Both products run the same code. "out" is the side of a block that indexes C,
// "in" the side that indexes B:
//     A·B    out = row_ind, in = col_ind, block (u, b) of the product is block number u * block_columns + b
//     Aᵀ·B   out = col_ind, in = row_ind, block (u, b) of the product is block number b * block_columns + u
// so that the caller says which is which with two strides. A unit u is a block row of the product.
//
// Who does what. The host's work plan cuts each unit into items: items[i] = {unit, slot, first batch, one past
// the last batch}. A batch is a run of entries of the item, in the order of the plan: block by block along the
// unit, as they are stored inside a block. Version 1 takes an item as one batch; version 2 needs as many as make
// every batch fit its 16-bit numbers and its CTA's shared memory.
// A unit's out_block rows are dealt to `windows` CTAs of `window` rows, and the n columns to tiles. CTA number
//     job = (tile * item_count + item) * windows + window        range [0, tiles * item_count * windows)
// owns one window of one item and one tile of columns: nobody else writes there, so nothing is atomic and
// every run gives the same bits. An item with slot -1 writes C itself, for empty rows too; one with slot k
// writes partials[k], out_block x n, of which only the rows that exist in C are written and read.
//
// B is in_rows x n, C is out_rows x n, both row-major and contiguous.

// Four columns of a row, the share of one lane.
template <typename T>
struct alignas(16) Four {
    T at[4];
};

// An entry waiting in shared memory: its value and the row of B that it multiplies.
template <typename T>
struct alignas(8) Entry {
    T value;
    unsigned in_row;
};

__device__ __forceinline__ int multiprocessor() {
    int id;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(id));
    return id;
}

// record[job] = {SM, CTA, entries multiplied, unit}: what a CTA really did, for comparing with the plan.
// Called by all threads of a CTA, each with its own count.
__device__ __forceinline__ void write_record(int4* record, int job, int unit, int count) {
    __shared__ int total;
    if (threadIdx.x == 0) total = 0;
    __syncthreads();  // `total` is zero before anyone adds
    atomicAdd(&total, count);
    __syncthreads();  // everyone has added
    if (threadIdx.x == 0) record[job] = make_int4(multiprocessor(), blockIdx.x, total, unit);
}

// ---------------------------------------------------------------------------------------------------------
// Version 1. blockDim.x threads = blockDim.x columns a tile; V1_ROWS rows a window.
// batches  int4[]: {first block along the unit, one past the last block, first entry inside the first block,
//          one past the last entry inside the last block}.
// Shared memory: sums[V1_ROWS][blockDim.x].
constexpr int V1_ROWS = 32;

template <typename T, typename OutIndex, typename InIndex, typename Pointer>
__global__ void __launch_bounds__(128)
csb_spmm_v1(const T* __restrict__ values, const OutIndex* __restrict__ out_ind,
            const InIndex* __restrict__ in_ind, const Pointer* __restrict__ blk_ptr,
            const int4* __restrict__ items, const int4* __restrict__ batches, int item_count, int windows,
            int unit_stride, int block_stride, int out_block, int in_block, int out_rows, int n,
            const T* __restrict__ B, T* __restrict__ C, T* __restrict__ partials, int4* __restrict__ record) {
    extern __shared__ __align__(16) unsigned char shared[];
    T* const sums = reinterpret_cast<T*>(shared) + threadIdx.x;  // this thread's column, stride blockDim.x

    const int job = blockIdx.x;
    const int window = job % windows, item = job / windows % item_count, tile = job / windows / item_count;
    const int4 it = items[item];
    const int column = tile * blockDim.x + threadIdx.x;  // range [0, n rounded up)
    const bool active = column < n;
    const int low = window * V1_ROWS;  // this CTA's rows of the unit: [low, low + V1_ROWS)

    for (int r = 0; r < V1_ROWS; r++) sums[r * blockDim.x] = T(0);
    int done = 0;
    for (int b = it.z; b < it.w; b++) {
        const int4 batch = batches[b];
        for (int block = batch.x; block < batch.y; block++) {
            const Pointer* const at = blk_ptr + (size_t(it.x) * unit_stride + size_t(block) * block_stride);
            const Pointer begin = at[0] + (block == batch.x ? batch.z : 0);
            const Pointer end = block == batch.y - 1 ? at[0] + batch.w : at[1];
            for (Pointer e = begin; e < end; e++) {
                const int row = int(out_ind[e]) - low;
                if (row < 0 || row >= V1_ROWS) continue;  // the same for all threads: another CTA's row
                done++;
                const size_t in_row = size_t(block) * in_block + in_ind[e];
                if (active) sums[row * blockDim.x] += values[e] * B[in_row * n + column];
            }
        }
    }
    // No barrier: a thread reads back only what it wrote itself.
    const int first_row = it.x * out_block + low;
    T* const target = it.y < 0 ? C + size_t(first_row) * n : partials + (size_t(it.y) * out_block + low) * n;
    for (int r = 0; r < V1_ROWS; r++)
        if (active && low + r < out_block && first_row + r < out_rows)
            target[size_t(r) * n + column] = sums[r * blockDim.x];
    if (record) write_record(record, job, it.x, threadIdx.x == 0 ? done : 0);  // all threads saw the same entries
}

// ---------------------------------------------------------------------------------------------------------
// Version 2.

// The four columns of a lane in a row of B or C. VECTOR = 4: neighbours, one or two 16-byte loads (n % 4 == 0
// and aligned arrays). VECTOR = 1: LANES apart, so that the lanes of a group read neighbours; works for any n.
// A lane whose columns lie past n reads columns that exist and stores nothing: a load without a condition is one
// that the compiler can issue together with the next.
template <int LANES, int VECTOR>
struct Columns {
    static constexpr int STEP = VECTOR == 4 ? 1 : LANES;
    int first;
    int left;  // columns from `first` to the end of a row; 0 when the lane has none

    __device__ __forceinline__ Columns(int tile, int lane, int n)
        : first(tile * 4 * LANES + (VECTOR == 4 ? 4 * lane : lane)), left(max(n - first, 0)) {
        if (left == 0) first = 0;
    }

    // `at` points at column `first` of a row that nobody writes during the launch.
    template <typename T>
    __device__ __forceinline__ Four<T> load(const T* __restrict__ at) const {
        Four<T> x;
        if constexpr (VECTOR == 1) {
#pragma unroll
            for (int i = 0; i < 4; i++) x.at[i] = __ldg(at + (STEP * i < left ? STEP * i : 0));
        } else if constexpr (sizeof(T) == 4) {
            const float4 v = __ldg(reinterpret_cast<const float4*>(at));
            x.at[0] = v.x, x.at[1] = v.y, x.at[2] = v.z, x.at[3] = v.w;
        } else {
            const double2 v = __ldg(reinterpret_cast<const double2*>(at));
            const double2 w = __ldg(reinterpret_cast<const double2*>(at) + 1);
            x.at[0] = v.x, x.at[1] = v.y, x.at[2] = w.x, x.at[3] = w.y;
        }
        return x;
    }

    // What the lane itself stored before.
    template <typename T>
    __device__ __forceinline__ Four<T> load_own(const T* at) const {
        Four<T> x{};
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (STEP * i < left) x.at[i] = at[STEP * i];
        return x;
    }

    template <typename T>
    __device__ __forceinline__ void store(T* at, const Four<T>& x) const {
        if constexpr (VECTOR == 1) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (STEP * i < left) at[STEP * i] = x.at[i];
        } else if (left > 0) {
            *reinterpret_cast<Four<T>*>(at) = x;
        }
    }
};

template <typename T>
__device__ __forceinline__ void multiply_add(Four<T>& sum, T value, const Four<T>& x) {
#pragma unroll
    for (int i = 0; i < 4; i++) sum.at[i] += value * x.at[i];
}

// Copy entries [low, high) of a batch's row order to staged[0, high - low). source[p] says where entry p lies:
// its block, counted from the batch's first, above offset_bits bits of place among that block's entries.
// Returns how many entries this thread copied.
template <typename T, typename Index, typename Pointer>
__device__ __forceinline__ int stage(Entry<T>* __restrict__ staged, int low, int high, int first_block,
                                     int first_entry, int offset_bits,
                                     const unsigned short* __restrict__ source,
                                     const Pointer* __restrict__ unit_ptr, int block_stride,
                                     const T* __restrict__ values, const Index* __restrict__ in_ind,
                                     int in_block) {
    constexpr int UNROLL = 4;  // independent chains of loads a thread
    const int threads = blockDim.x;
    int copied = 0;
    for (int p = low + threadIdx.x; p < high; p += UNROLL * threads) {
        unsigned block[UNROLL];
        Pointer e[UNROLL];
        T value[UNROLL];
        unsigned in_row[UNROLL];
        // Past the end the last entry is read again, so that no load waits for a condition.
#pragma unroll
        for (int u = 0; u < UNROLL; u++) block[u] = __ldg(source + min(p + u * threads, high - 1));
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            e[u] = block[u] & ((1u << offset_bits) - 1);
            block[u] >>= offset_bits;
            if (block[u] == 0) e[u] += first_entry;
            block[u] += first_block;
            e[u] += __ldg(unit_ptr + size_t(block[u]) * unsigned(block_stride));
        }
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            value[u] = __ldg(values + e[u]);
            in_row[u] = block[u] * in_block + __ldg(in_ind + e[u]);
        }
#pragma unroll
        for (int u = 0; u < UNROLL; u++)
            if (p + u * threads < high) {
                staged[p + u * threads - low] = Entry<T>{value[u], in_row[u]};
                copied++;
            }
    }
    return copied;
}

// Add the products of staged entries [begin, end) to the sums of a row. The warp is 32 / LANES groups of LANES
// lanes; a group takes every (32 / LANES)-th entry, four of them at a time. `base` is the address of the lane's
// first column in row 0 of B, `pitch` the bytes from row to row.
template <int LANES, int VECTOR, typename T>
__device__ __forceinline__ void add_row(Four<T>& sum, const Entry<T>* staged, int begin, int end,
                                        const Columns<LANES, VECTOR>& columns, const char* __restrict__ base,
                                        unsigned pitch) {
    constexpr int GROUPS = 32 / LANES;
    const auto row_of_B = [&](const Entry<T>& entry) {
        return reinterpret_cast<const T*>(base + size_t(entry.in_row) * pitch);
    };
    int e = begin + threadIdx.x % 32 / LANES;
    for (; e + 3 * GROUPS < end; e += 4 * GROUPS) {
        Entry<T> entry[4];
        Four<T> x[4];
#pragma unroll
        for (int u = 0; u < 4; u++) entry[u] = staged[e + u * GROUPS];
#pragma unroll
        for (int u = 0; u < 4; u++) x[u] = columns.load(row_of_B(entry[u]));
#pragma unroll
        for (int u = 0; u < 4; u++) multiply_add(sum, entry[u].value, x[u]);
    }
    // The last 1 to 3 entries of the group. Past the end the last one is read again and left out: multiplying by
    // zero instead would make NaN of Inf.
    if (e < end) {
        Entry<T> entry[3];
        Four<T> x[3];
#pragma unroll
        for (int u = 0; u < 3; u++) entry[u] = staged[min(e + u * GROUPS, end - 1)];
#pragma unroll
        for (int u = 0; u < 3; u++) x[u] = columns.load(row_of_B(entry[u]));
#pragma unroll
        for (int u = 0; u < 3; u++)
            if (e + u * GROUPS < end) multiply_add(sum, entry[u].value, x[u]);
    }
}

// LANES  lanes that share a row's columns: a tile is 4 * LANES columns, 32 / LANES entries go in parallel.
// VECTOR see Columns.
// batches  int4[]: {first block along the unit, first entry inside that block, where the batch begins in
//          `source` (unsigned), offset_bits}.
// source   unsigned short[nnz]: for each batch, in the order of its output rows, where the entries lie; see stage.
// row_ptr  unsigned short[batches][out_block + 1]: where the rows of a batch begin in that order.
// window_rows  rows of a window; divides out_block.
// Shared memory: staged[capacity], then int row_begin[window_rows + 1].
template <typename T, typename Index, typename Pointer, int LANES, int VECTOR>
__global__ void __launch_bounds__(512, sizeof(T) == 4 ? 2 : 1)
csb_spmm_v2(const T* __restrict__ values, const Index* __restrict__ in_ind, const Pointer* __restrict__ blk_ptr,
            const int4* __restrict__ items, const int4* __restrict__ batches,
            const unsigned short* __restrict__ source, const unsigned short* __restrict__ row_ptr, int item_count,
            int windows, int window_rows, int capacity, int unit_stride, int block_stride,
            int out_block, int in_block, int out_rows, int n, const T* __restrict__ B,
            T* __restrict__ C, T* __restrict__ partials, int4* __restrict__ record) {
    static_assert(LANES >= 1 && LANES <= 32 && (LANES & (LANES - 1)) == 0, "LANES is a power of two up to 32");
    static_assert(VECTOR == 1 || VECTOR == 4, "a lane loads one column or four at a time");
    extern __shared__ __align__(16) unsigned char shared[];
    Entry<T>* const staged = reinterpret_cast<Entry<T>*>(shared);
    int* const row_begin = reinterpret_cast<int*>(staged + capacity);

    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int job = blockIdx.x;
    const int window = job % windows, item = job / windows % item_count, tile = job / windows / item_count;
    const int4 it = items[item];
    const int first_row = window * window_rows;  // inside the unit
    const int unit_row = it.x * out_block + first_row;  // row of C where the window begins
    T* const target =
        it.y < 0 ? C + size_t(unit_row) * n : partials + (size_t(it.y) * out_block + first_row) * n;
    const Columns<LANES, VECTOR> columns(tile, lane % LANES, n);
    const char* const base = reinterpret_cast<const char*>(B + columns.first);

    int copied = 0;
    for (int b = it.z; b < it.w; b++) {
        const int4 batch = batches[b];
        const unsigned short* const begins = row_ptr + size_t(b) * (out_block + 1) + first_row;
        const int low = begins[0], high = begins[window_rows];
        if (b > it.z) __syncthreads();  // the batch before may still be read where this one is copied to
        for (int r = threadIdx.x; r <= window_rows; r += blockDim.x) row_begin[r] = int(begins[r]) - low;
        copied += stage(staged, low, high, batch.x, batch.y, batch.w, source + unsigned(batch.z),
                        blk_ptr + size_t(it.x) * unit_stride, block_stride, values, in_ind, in_block);
        __syncthreads();  // every entry and row_begin is in place before any warp reads them

        for (int r = warp; r < window_rows && unit_row + r < out_rows; r += warps) {
            T* const out = target + size_t(r) * n + columns.first;
            Four<T> sum{};
            // A later batch goes on from what these same lanes stored after the batch before.
            if (b > it.z && lane < LANES) sum = columns.load_own(out);
            add_row(sum, staged, row_begin[r], row_begin[r + 1], columns, base, unsigned(n * sizeof(T)));
            // Add the groups' sums; the order is fixed by the lanes' numbers.
#pragma unroll
            for (int offset = LANES; offset < 32; offset *= 2)
#pragma unroll
                for (int c = 0; c < 4; c++) sum.at[c] += __shfl_xor_sync(0xffffffffu, sum.at[c], offset);
            if (lane < LANES) columns.store(out, sum);
        }
    }
    if (record) write_record(record, job, it.x, copied);
}

// ---------------------------------------------------------------------------------------------------------
// Second phase. reduced[i] = {unit, first slot, one past the last slot, 0}; CTA number i * parts + part adds
// elements part * blockDim.x + threadIdx.x, stepping parts * blockDim.x, of the out_block x n elements.
template <typename T>
__global__ void __launch_bounds__(256)
csb_add_partials(const int4* __restrict__ reduced, int parts, int out_block, int out_rows, int n,
                 const T* __restrict__ partials, T* __restrict__ C) {
    const int4 unit = reduced[blockIdx.x / parts];
    const int rows = min(out_block, out_rows - unit.x * out_block);  // the last unit may be ragged
    const long long count = (long long)rows * n, size = (long long)out_block * n;
    T* const out = C + unit.x * size;
    for (long long e = (long long)(blockIdx.x % parts) * blockDim.x + threadIdx.x; e < count;
         e += (long long)parts * blockDim.x) {
        T sum = out[e];
        for (int slot = unit.y; slot < unit.z; slot++) sum += partials[slot * size + e];
        out[e] = sum;
    }
}
