// Sparse x dense from Compressed Sparse Blocks: C = A·B and C = Aᵀ·B from one stored copy of A.
//
// Versions, simple to fast:
//   csb_spmm_v1   a CTA walks the entries of its item in the order in which they are stored; a thread owns a
//                 column of C and adds into rows that the CTA keeps in shared memory.
//   csb_add_partials   its second phase, for items that share a block row: adds their partial sums to C, one
//                 thread an element, in slot order.
//   csb_spmm_v2   a CTA first gathers the entries of its item into shared memory, row by row (16 bits an entry,
//                 computed beforehand, say where each lies); then a warp takes a row, several entries at a
//                 time, and keeps its sums in registers. B is read 16 bytes a lane through the L1 cache. Of the
//                 items that share rows of C, the last to end adds the partial sums: no second launch.
//   csb_spmm_v2_persistent   the same with CTAs that stay: they draw tickets, or go through a fixed share.
//
// One direction or the other. Both products run the same code. "out" is the side of a block that indexes C,
// "in" the side that indexes B:
//     A·B    out = row_ind, in = col_ind, block (u, b) of the product is block number u * block_columns + b
//     Aᵀ·B   out = col_ind, in = row_ind, block (u, b) of the product is block number b * block_columns + u
// so that the caller says which is which with two strides. A unit is a block row of the product; in version 2 a
// part of one, unit_rows of its rows.
//
// Who does what. The host's work plan cuts each unit into items:
//     items[2i]     = {unit, slot, first batch, one past the last batch}
//     items[2i + 1] = {group, tile, 0, 0}
// A batch is a run of entries of the item, in the order of the plan: block by block along the unit, as they are
// stored inside a block. Version 1 takes an item as one batch; version 2 needs as many as make every batch fit
// its 16-bit numbers and its CTA's shared memory.
//
// The n columns are cut into tiles. Usually every item runs once for every tile; `own_tiles` says that items name
// the one tile that they belong to (stream-K). An item with slot -1 owns its rows of C and writes them, empty
// rows too; one with slot k writes the partial k: rows of a unit times `pitch` columns, the n columns of C, or
// those of a tile with `own_tiles`. Only rows and columns that exist in C are written and read.
// What several items contribute to the same rows is added in the order of their slots, never atomically, so every
// run gives the same bits. B is in_rows x n, C is out_rows x n, both row-major and contiguous.

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

__device__ __forceinline__ long long nanoseconds() {
    long long now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

// What a CTA really did, for comparing with the plan and for drawing: record[8 * job] = {multiprocessor, CTA,
// entries multiplied, unit, clock of the multiprocessor at begin and end, nanoseconds at begin and end}.
// Called by all threads of a CTA; `count` are the entries that the thread counted.
__device__ __forceinline__ void begin_record(long long* record, int job, int unit) {
    if (threadIdx.x) return;
    long long* const at = record + size_t(8) * job;
    at[0] = multiprocessor(), at[1] = blockIdx.x, at[3] = unit, at[4] = clock64(), at[6] = nanoseconds();
}

__device__ __forceinline__ void end_record(long long* record, int job, int count) {
    __shared__ int total;
    __syncthreads();  // all work of the job is done, and nobody reads the last job's `total` any more
    if (threadIdx.x == 0) total = 0;
    __syncthreads();  // `total` is zero before anyone adds
    atomicAdd(&total, count);
    __syncthreads();  // everyone has added
    if (threadIdx.x) return;
    long long* const at = record + size_t(8) * job;
    at[2] = total, at[5] = clock64(), at[7] = nanoseconds();
}

// ---------------------------------------------------------------------------------------------------------
// Version 1. blockDim.x threads = blockDim.x columns a tile. A unit is a whole block row; its out_block rows are
// dealt to `windows` CTAs of V1_ROWS rows. CTA number
//     job = (tile * item_count + item) * windows + window     range [0, tiles * item_count * windows)
// owns one window of one item and one tile of columns; with own_tiles, job = item * windows + window.
// batches  int4[]: {first block along the unit, one past the last block, first entry inside the first block,
//          one past the last entry inside the last block}.
// Shared memory: sums[V1_ROWS][blockDim.x].
constexpr int V1_ROWS = 32;

template <typename T, typename OutIndex, typename InIndex, typename Pointer>
__global__ void __launch_bounds__(128)
csb_spmm_v1(const T* __restrict__ values, const OutIndex* __restrict__ out_ind,
            const InIndex* __restrict__ in_ind, const Pointer* __restrict__ blk_ptr,
            const int4* __restrict__ items, const int4* __restrict__ batches, int item_count, int windows,
            int own_tiles, int pitch, int unit_stride, int block_stride, int out_block, int in_block,
            int out_rows, int n, T* __restrict__ partials, long long* __restrict__ record,
            const T* __restrict__ B, T* __restrict__ C) {
    extern __shared__ __align__(16) unsigned char shared[];
    T* const sums = reinterpret_cast<T*>(shared) + threadIdx.x;  // this thread's column, stride blockDim.x

    const int job = blockIdx.x;
    const int window = job % windows, item = job / windows % item_count;
    const int4 it = items[2 * item];
    const int tile = own_tiles ? items[2 * item + 1].y : job / windows / item_count;
    if (record) begin_record(record, job, it.x);
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
    const int width = it.y < 0 ? n : pitch;  // columns of a row of the target
    T* const target = it.y < 0 ? C + size_t(first_row) * n + column
                               : partials + (size_t(it.y) * out_block + low) * pitch +
                                     (own_tiles ? int(threadIdx.x) : column);
    for (int r = 0; r < V1_ROWS; r++)
        if (active && low + r < out_block && first_row + r < out_rows)
            target[size_t(r) * width] = sums[r * blockDim.x];
    if (record) end_record(record, job, threadIdx.x == 0 ? done : 0);  // all threads saw the same entries
}

// Its second phase. groups[i] = {unit, first slot, one past the last slot, tile}; CTA number i * parts + part adds
// elements part * blockDim.x + threadIdx.x, stepping parts * blockDim.x, of the group's rows and columns.
template <typename T>
__global__ void __launch_bounds__(256)
csb_add_partials(const int4* __restrict__ groups, int parts, int own_tiles, int pitch, int out_block,
                 int out_rows, int n, const T* __restrict__ partials, T* __restrict__ C) {
    const int4 group = groups[blockIdx.x / parts];
    const int rows = min(out_block, out_rows - group.x * out_block);  // the last unit may be ragged
    const int first_column = own_tiles ? group.w * pitch : 0;
    const int columns = min(pitch, n - first_column);  // and so may the last tile
    const long long count = (long long)rows * columns, size = (long long)out_block * pitch;
    T* const out = C + (long long)group.x * out_block * n + first_column;
    for (long long e = (long long)(blockIdx.x % parts) * blockDim.x + threadIdx.x; e < count;
         e += (long long)parts * blockDim.x) {
        const long long r = e / columns, c = e % columns;
        T sum = out[r * n + c];
        for (int slot = group.y; slot < group.z; slot++) sum += partials[slot * size + r * pitch + c];
        out[r * n + c] = sum;
    }
}

// ---------------------------------------------------------------------------------------------------------
// Version 2.

// The four columns of a lane in a row of B or C. VECTOR = 4: neighbours, one or two 16-byte loads (n % 4 == 0
// and aligned arrays). VECTOR = 1: LANES apart, so that the lanes of a group read neighbours; works for any n.
// A lane whose columns lie past n reads columns that exist and stores nothing: a load without a condition is one
// that the compiler can issue together with the next.
template <int LANES, int VECTOR>
struct Columns {
    static_assert(LANES >= 1 && LANES <= 32 && (LANES & (LANES - 1)) == 0, "LANES is a power of two up to 32");
    static_assert(VECTOR == 1 || VECTOR == 4, "a lane loads one column or four at a time");
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

    // What another CTA stored during this launch: past the L1 cache, which may hold something older.
    template <typename T>
    __device__ __forceinline__ Four<T> load_others(const T* at) const {
        Four<T> x{};
        if constexpr (VECTOR == 1) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (STEP * i < left) x.at[i] = __ldcg(at + STEP * i);
        } else if constexpr (sizeof(T) == 4) {
            if (left == 0) return x;
            const float4 v = __ldcg(reinterpret_cast<const float4*>(at));
            x.at[0] = v.x, x.at[1] = v.y, x.at[2] = v.z, x.at[3] = v.w;
        } else {
            if (left == 0) return x;
            const double2 v = __ldcg(reinterpret_cast<const double2*>(at));
            const double2 w = __ldcg(reinterpret_cast<const double2*>(at) + 1);
            x.at[0] = v.x, x.at[1] = v.y, x.at[2] = w.x, x.at[3] = w.y;
        }
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

// Copy the `count` entries of a batch in row order to `staged`. source[p] says where entry p lies: its block,
// counted from the batch's first, above offset_bits bits of place among that block's entries; in the first block
// places are counted from first_entry. Returns how many entries this thread copied.
template <typename T, typename Index, typename Pointer>
__device__ __forceinline__ int stage(Entry<T>* __restrict__ staged, int count, int first_block, int first_entry,
                                     int offset_bits, const unsigned short* __restrict__ source,
                                     const Pointer* __restrict__ unit_ptr, int block_stride,
                                     const T* __restrict__ values, const Index* __restrict__ in_ind,
                                     int in_block) {
    constexpr int UNROLL = 4;  // independent chains of loads a thread
    const int threads = blockDim.x;
    int copied = 0;
    for (int p = threadIdx.x; p < count; p += UNROLL * threads) {
        unsigned block[UNROLL];
        Pointer e[UNROLL];
        T value[UNROLL];
        unsigned in_row[UNROLL];
        // Past the end the last entry is read again, so that no load waits for a condition.
#pragma unroll
        for (int u = 0; u < UNROLL; u++) block[u] = __ldg(source + min(p + u * threads, count - 1));
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
            if (p + u * threads < count) {
                staged[p + u * threads] = Entry<T>{value[u], in_row[u]};
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

// What a launch of version 2 works on; the host packs it in this order.
// batches  int4[]: {first block along the unit, first entry inside that block, where the batch begins in
//          `source` (unsigned), offset_bits}.
// source   unsigned short[]: for each batch, in the order of its output rows, where the entries lie; see stage.
// row_ptr  unsigned short[batches][unit_rows + 1]: where the rows of a batch begin in that order.
// groups   int4[]: {unit, first slot, one past the last slot, items that contribute}; an item's group is -1 when
//          it shares its rows with nobody.
// shares   int[CTAs + 1] or null: CTA c takes the items [shares[c], shares[c + 1]).
// arrived  int[groups * tiles]: contributions that are there already; ticket int[2]: jobs taken beyond each CTA's
//          first, and CTAs that have ended. All are 0 between launches.
// record   see begin_record; null when nobody asks.
template <typename T, typename Index, typename Pointer>
struct Work {
    const T* values;
    const Index* in_ind;
    const Pointer* blk_ptr;
    const int4* items;
    const int4* batches;
    const unsigned short* source;
    const unsigned short* row_ptr;
    const int4* groups;
    const int* shares;
    T* partials;
    int* arrived;
    int* ticket;
    long long* record;
    int item_count, tiles, own_tiles, pitch;
    int unit_rows, units_a_block;  // unit_rows divides the rows of a block
    int unit_stride, block_stride;
    int in_block, out_rows, n;
    int capacity;  // entries that fit into `staged`; a multiple of 4
};

// Of the items that contribute to the same rows of C, the last to arrive adds the partials to what the owner
// wrote, in slot order: which CTA that is changes from run to run, the sums do not.
template <int LANES, int VECTOR, typename T, typename Index, typename Pointer>
__device__ __forceinline__ void add_partials(const Work<T, Index, Pointer>& work, int group, int tile,
                                             const Columns<LANES, VECTOR>& columns, int origin, T* C) {
    __shared__ int is_last;
    const int4 g = work.groups[group];
    __syncthreads();  // all threads have stored their part
    if (threadIdx.x == 0) {
        int* const arrived = work.arrived + (size_t(group) * work.tiles + tile);
        __threadfence();  // the parts are seen by whoever sees the arrival
        is_last = atomicAdd(arrived, 1) == g.w - 1;
        if (is_last) *arrived = 0;  // for the next launch
        __threadfence();  // whoever sees the last arrival sees all parts
    }
    __syncthreads();  // is_last is there
    if (!is_last) return;

    constexpr int GROUPS = 32 / LANES;  // rows that a warp adds at a time
    const int unit_row = g.x * work.unit_rows;
    const size_t size = size_t(work.unit_rows) * work.pitch;
    const int rows = min(work.unit_rows, work.out_rows - unit_row);
    for (int r = int(threadIdx.x) / LANES; r < rows; r += int(blockDim.x) / 32 * GROUPS) {
        T* const out = C + size_t(unit_row + r) * work.n + columns.first;
        const T* const part = work.partials + size_t(r) * work.pitch + columns.first - origin;
        Four<T> sum = columns.load_others(out);
#pragma unroll 4
        for (int slot = g.y; slot < g.z; slot++) {
            const Four<T> x = columns.load_others(part + slot * size);
#pragma unroll
            for (int c = 0; c < 4; c++) sum.at[c] += x.at[c];
        }
        columns.store(out, sum);
    }
}

// Multiply one item for one tile of columns; returns the entries that this thread staged. `all_staged` is
// called once, by all threads, when the last entries are in place: what takes long can start there.
template <int LANES, int VECTOR, typename T, typename Index, typename Pointer, typename Then>
__device__ __forceinline__ int multiply_item(const Work<T, Index, Pointer>& work, int item, int tile,
                                             Entry<T>* staged, int* row_begin, const T* __restrict__ B, T* C,
                                             Then all_staged) {
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int4 it = __ldg(work.items + 2 * item);
    const int group = __ldg(work.items + 2 * item + 1).x;
    const int unit_row = it.x * work.unit_rows;  // row of C where the unit begins
    const int rows = min(work.unit_rows, work.out_rows - unit_row);
    const Columns<LANES, VECTOR> columns(tile, lane % LANES, work.n);
    const int origin = work.own_tiles && columns.left ? tile * 4 * LANES : 0;  // first column of a partial
    const int width = it.y < 0 ? work.n : work.pitch;  // columns of a row of the target
    T* const target = it.y < 0 ? C + size_t(unit_row) * work.n + columns.first
                               : work.partials + size_t(it.y) * work.unit_rows * work.pitch +
                                     (columns.first - origin);
    const char* const base = reinterpret_cast<const char*>(B + columns.first);
    const Pointer* const unit_ptr = work.blk_ptr + size_t(it.x / work.units_a_block) * work.unit_stride;

    int copied = 0;
    for (int b = it.z; b < it.w; b++) {
        const int4 batch = __ldg(work.batches + b);
        const unsigned short* const begins = work.row_ptr + size_t(b) * (work.unit_rows + 1);
        const int count = __ldg(begins + work.unit_rows);
        if (b > it.z) __syncthreads();  // the batch before may still be read where this one is copied to
        for (int r = threadIdx.x; r <= work.unit_rows; r += blockDim.x) row_begin[r] = __ldg(begins + r);
        copied += stage(staged, count, batch.x, batch.y, batch.w, work.source + unsigned(batch.z), unit_ptr,
                        work.block_stride, work.values, work.in_ind, work.in_block);
        __syncthreads();  // every entry and row_begin is in place before any warp reads them
        if (b == it.w - 1) all_staged();

        for (int r = warp; r < rows; r += warps) {
            T* const out = target + size_t(r) * width;
            Four<T> sum{};
            // A later batch goes on from what these same lanes stored after the batch before.
            if (b > it.z && lane < LANES) sum = columns.load_own(out);
            add_row(sum, staged, row_begin[r], row_begin[r + 1], columns, base, unsigned(work.n * sizeof(T)));
            // Add the groups' sums; the order is fixed by the lanes' numbers.
#pragma unroll
            for (int offset = LANES; offset < 32; offset *= 2)
#pragma unroll
                for (int c = 0; c < 4; c++) sum.at[c] += __shfl_xor_sync(0xffffffffu, sum.at[c], offset);
            if (lane < LANES) columns.store(out, sum);
        }
    }
    if (group >= 0) add_partials(work, group, tile, columns, origin, C);
    return copied;
}

// LANES  lanes that share a row's columns: a tile is 4 * LANES columns, 32 / LANES entries go in parallel.
// VECTOR see Columns.
// A CTA a job: job = tile * item_count + item, or job = item with own_tiles.
// Shared memory of both kernels: staged[capacity], then int row_begin[unit_rows + 1].
template <typename T, typename Index, typename Pointer, int LANES, int VECTOR>
__global__ void __launch_bounds__(512, sizeof(T) == 4 ? 2 : 1)
csb_spmm_v2(const Work<T, Index, Pointer> work, const T* __restrict__ B, T* C) {
    extern __shared__ __align__(16) unsigned char shared[];
    Entry<T>* const staged = reinterpret_cast<Entry<T>*>(shared);
    int* const row_begin = reinterpret_cast<int*>(staged + work.capacity);

    const int job = blockIdx.x, item = job % work.item_count;
    const int tile = work.own_tiles ? work.items[2 * item + 1].y : job / work.item_count;
    if (work.record) begin_record(work.record, job, work.items[2 * item].x);
    const int copied = multiply_item<LANES, VECTOR>(work, item, tile, staged, row_begin, B, C, [] {});
    if (work.record) end_record(work.record, job, copied);
}

// CTAs that stay. With shares, CTA c goes through the items of its share, each for the tile that the item names.
// Without, whoever is free takes the next job = item * tiles + tile: the first is the CTA's own number, further
// ones are drawn from the ticket while the current one is multiplied. The last CTA to end sets the ticket back.
// The grid holds at most as many CTAs as there are jobs; nobody waits for anybody, so it may be of any size.
template <typename T, typename Index, typename Pointer, int LANES, int VECTOR>
__global__ void __launch_bounds__(512, sizeof(T) == 4 ? 2 : 1)
csb_spmm_v2_persistent(const Work<T, Index, Pointer> work, const T* __restrict__ B, T* C) {
    extern __shared__ __align__(16) unsigned char shared[];
    Entry<T>* const staged = reinterpret_cast<Entry<T>*>(shared);
    int* const row_begin = reinterpret_cast<int*>(staged + work.capacity);
    __shared__ int next;

    const bool fixed = work.shares != nullptr;
    const int end = fixed ? work.shares[blockIdx.x + 1] : work.item_count * work.tiles;
    const bool draws = !fixed && end > int(gridDim.x) && threadIdx.x == 0;  // else each CTA has one job
    int job = fixed ? work.shares[blockIdx.x] : int(blockIdx.x);
    int upcoming = end;  // of thread 0
    while (job < end) {
        const int item = fixed ? job : job / work.tiles;
        const int tile = fixed ? work.items[2 * item + 1].y : job % work.tiles;
        // A job is recorded where the other kernel would record it.
        const int place = fixed ? job : tile * work.item_count + item;
        if (work.record) begin_record(work.record, place, work.items[2 * item].x);
        if (fixed) upcoming = job + 1;
        const int copied = multiply_item<LANES, VECTOR>(work, item, tile, staged, row_begin, B, C, [&] {
            if (draws) upcoming = int(gridDim.x) + atomicAdd(work.ticket, 1);  // nobody waits for it yet
        });
        if (work.record) end_record(work.record, place, copied);
        if (threadIdx.x == 0) next = upcoming;
        __syncthreads();  // the next job may overwrite what was staged, and `next` is there
        job = next;
    }
    if (draws) {
        __threadfence();  // this CTA has drawn its last ticket before it counts as ended
        if (atomicAdd(work.ticket + 1, 1) == int(gridDim.x) - 1) work.ticket[0] = work.ticket[1] = 0;
    }
}
