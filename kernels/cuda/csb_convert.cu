// CSR and dense matrices to Compressed Sparse Blocks in row order, without a sort, the same bits as on the CPU.
//
//   csb_from_csr      one launch. A block row reads a contiguous run of the CSR arrays and fills the same run of
//                     the CSB arrays, so a CTA that owns a block row needs nothing from another one: it counts its
//                     entries by block, adds the counts up, and moves every entry to its place.
//   csb_count_dense   entries of each block, a CTA a block; the caller adds the counts up to block pointers.
//   csb_from_dense    moves the entries of each block, a CTA a block.
//
// Values are moved as bits, so one instantiation serves all types of a width; a zero of either sign is no entry.
// Only integers are added, so the order in which threads arrive changes nothing.
//
// The arrays of entries have room for nnz rounded up to a multiple of four; what lies beyond is set to zero, for
// kernels that read four entries at once.

__device__ __forceinline__ unsigned lanes_before() { return (1u << threadIdx.x % 32) - 1; }

// Exclusive sum over the CTA; `total` becomes the sum of all. Called by all threads; `of_warps` holds 33 ints.
__device__ __forceinline__ int sum_before(int value, int* of_warps, int& total) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    int inclusive = value;
    for (int apart = 1; apart < 32; apart *= 2) {
        const int left = __shfl_up_sync(~0u, inclusive, apart);
        if (lane >= apart) inclusive += left;
    }
    __syncthreads();  // the sums of the call before have been read
    if (lane == 31) of_warps[warp] = inclusive;
    __syncthreads();  // every warp has written its sum
    int before = 0;
    total = 0;
    for (int w = 0; w < warps; w++) {
        if (w < warp) before += of_warps[w];
        total += of_warps[w];
    }
    return before + inclusive - value;
}

// Called by one CTA.
template <typename Bits, typename RowIndex, typename ColumnIndex>
__device__ __forceinline__ void clear_rest(long long nnz, Bits* values, RowIndex* row_ind, ColumnIndex* col_ind) {
    const long long e = nnz + threadIdx.x;
    if (e < ((nnz + 3) & ~3ll)) values[e] = Bits(0), row_ind[e] = RowIndex(0), col_ind[e] = ColumnIndex(0);
}

// What a warp sees of 32 neighbouring entries of a row.
struct Run {
    int block;   // block column, -1 for a lane without an entry
    int rank;    // entries of the same block to the left, among these 32
    bool last;   // whether the entry to the right belongs to another block
};

// Sorted columns make the entries of a block neighbours.
__device__ __forceinline__ Run find_run(int block) {
    const int lane = threadIdx.x % 32;
    const int left = __shfl_up_sync(~0u, block, 1), right = __shfl_down_sync(~0u, block, 1);
    const unsigned heads = __ballot_sync(~0u, lane == 0 || left != block);
    const int head = 31 - __clz(heads & (lanes_before() | 1u << lane));
    return {block, lane - head, lane == 31 || right != block};
}

// Grid: block rows CTAs. A warp owns consecutive rows of the block row, so that its entries of a block lie behind
// those of the warps before it.
// indptr [rows + 1], indices [nnz] and bits [nnz] are CSR arrays; columns rise strictly in every row.
// fault  set to 1 where they do not, or where a pointer or a column is out of range: then the result is void,
//        though nothing outside the arrays was touched.
// Shared memory: int place[warps][block_columns].
template <typename Bits, typename Index, typename RowIndex, typename ColumnIndex, typename Pointer>
__global__ void __launch_bounds__(1024)
csb_from_csr(const Index* __restrict__ indptr, const Index* __restrict__ indices, const Bits* __restrict__ bits,
             long long nnz, int rows, long long columns, int row_shift, int column_shift, int block_columns,
             Bits* __restrict__ values, RowIndex* __restrict__ row_ind, ColumnIndex* __restrict__ col_ind,
             Pointer* __restrict__ blk_ptr, int* __restrict__ fault) {
    extern __shared__ int place[];
    __shared__ int of_warps[33];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int first_row = blockIdx.x << row_shift;
    const int unit_rows = min(1 << row_shift, rows - first_row);
    const int low = int((long long)unit_rows * warp / warps), high = int((long long)unit_rows * (warp + 1) / warps);
    int* const mine = place + size_t(warp) * block_columns;
    const auto pointer = [&](int row) {
        const long long at = (long long)indptr[row];
        if (at < 0 || at > nnz) *fault = 1;
        return max(0ll, min(at, nnz));
    };
    const long long unit_begin = pointer(first_row);

    for (int b = threadIdx.x; b < warps * block_columns; b += blockDim.x) place[b] = 0;
    __syncthreads();  // the counts are zero

    // Count. Row by row, a column that does not rise is noticed.
    for (int r = low; r < high; r++) {
        const long long begin = pointer(first_row + r), end = pointer(first_row + r + 1);
        if (end < begin) *fault = 1;
        for (long long e0 = begin; e0 < end; e0 += 32) {
            const long long e = e0 + lane;
            const bool has = e < end;
            const long long column = has ? (long long)indices[e] : -1;
            const bool inside = column >= 0 && column < columns;
            if (has && (!inside || (e > begin && (long long)indices[e - 1] >= column))) *fault = 1;
            const Run run = find_run(inside ? int(column >> column_shift) : -1);
            // An atomic, for columns that are not sorted: then a block may have several runs here.
            if (inside && run.last) atomicAdd(mine + run.block, run.rank + 1);
        }
    }
    __syncthreads();  // every entry of the block row is counted

    // From counts to places, relative to the block row: first by block, then by warp.
    int carry = 0;
    for (int b0 = 0; b0 < block_columns; b0 += blockDim.x) {
        const int b = b0 + threadIdx.x;
        int count = 0, total;
        if (b < block_columns)
            for (int w = 0; w < warps; w++) count += place[w * block_columns + b];
        int at = carry + sum_before(count, of_warps, total);
        carry += total;
        if (b < block_columns) {
            blk_ptr[(long long)blockIdx.x * block_columns + b] = Pointer(unit_begin + at);
            for (int w = 0; w < warps; w++) {
                const int of_warp = place[w * block_columns + b];
                place[w * block_columns + b] = at;
                at += of_warp;
            }
        }
    }
    if (blockIdx.x == 0) clear_rest(nnz, values, row_ind, col_ind);
    if (blockIdx.x == gridDim.x - 1 && threadIdx.x == 0) {
        blk_ptr[(long long)gridDim.x * block_columns] = Pointer(nnz);
        if ((long long)indptr[rows] != nnz || (long long)indptr[0] != 0) *fault = 1;
    }
    __syncthreads();  // the places are complete

    // Move. A warp takes its rows one after the other, so the entries of a block come row by row.
    for (int r = low; r < high; r++) {
        const long long begin = pointer(first_row + r), end = pointer(first_row + r + 1);
        for (long long e0 = begin; e0 < end; e0 += 32) {
            const long long e = e0 + lane;
            const long long column = e < end ? (long long)indices[e] : -1;
            const bool inside = column >= 0 && column < columns;
            const Run run = find_run(inside ? int(column >> column_shift) : -1);
            const long long to = inside ? unit_begin + mine[run.block] + run.rank : nnz;
            __syncwarp();  // everyone has read where its run begins
            if (inside && run.last) mine[run.block] += run.rank + 1;
            __syncwarp();  // the next 32 entries see it
            if (to < nnz) {  // always, unless a fault was found
                values[to] = bits[e];
                row_ind[to] = RowIndex(r);
                col_ind[to] = ColumnIndex(column & ((1ll << column_shift) - 1));
            }
        }
    }
}

template <typename Bits>
__device__ __forceinline__ bool is_entry(Bits bits) {
    return Bits(bits << 1) != 0;
}

// Grid: blocks CTAs. `matrix` is rows x columns with `pitch` elements from row to row.
template <typename Bits>
__global__ void __launch_bounds__(256)
csb_count_dense(const Bits* __restrict__ matrix, long long pitch, int rows, int columns, int row_shift,
                int column_shift, int block_columns, long long* __restrict__ counts) {
    __shared__ int total;
    const int first_row = int(blockIdx.x / block_columns) << row_shift;
    const int first_column = int(blockIdx.x % block_columns) << column_shift;
    const int block_rows = min(1 << row_shift, rows - first_row);
    const int width = min(1 << column_shift, columns - first_column);
    if (threadIdx.x == 0) total = 0;
    __syncthreads();  // the total is zero
    int count = 0;
    for (int r = threadIdx.x / 32; r < block_rows; r += blockDim.x / 32)
        for (int c = threadIdx.x % 32; c < width; c += 32)
            count += is_entry(matrix[(first_row + r) * pitch + first_column + c]);
    for (int apart = 16; apart; apart /= 2) count += __shfl_xor_sync(~0u, count, apart);
    if (threadIdx.x % 32 == 0 && count) atomicAdd(&total, count);
    __syncthreads();  // all warps have added
    if (threadIdx.x == 0) counts[blockIdx.x] = total;
}

// Grid: blocks CTAs of WARPS warps. A warp owns a row: it counts the entries, learns how many the rows above have,
// and moves them.
// blk_ptr [blocks + 1], complete.
template <typename Bits, typename RowIndex, typename ColumnIndex, typename Pointer>
__global__ void __launch_bounds__(256)
csb_from_dense(const Bits* __restrict__ matrix, long long pitch, int rows, int columns, int row_shift,
               int column_shift, int block_columns, const Pointer* __restrict__ blk_ptr,
               Bits* __restrict__ values, RowIndex* __restrict__ row_ind, ColumnIndex* __restrict__ col_ind) {
    __shared__ int of_rows[256];
    __shared__ int of_warps[33];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int first_row = int(blockIdx.x / block_columns) << row_shift;
    const int first_column = int(blockIdx.x % block_columns) << column_shift;
    const int block_rows = min(1 << row_shift, rows - first_row);
    const int width = min(1 << column_shift, columns - first_column);
    if (blockIdx.x == 0) clear_rest((long long)blk_ptr[gridDim.x], values, row_ind, col_ind);
    long long begin = blk_ptr[blockIdx.x];
    if (begin == blk_ptr[blockIdx.x + 1]) return;  // the same for all threads

    for (int r0 = 0; r0 < block_rows; r0 += blockDim.x) {  // as many rows as threads, for the sum over rows
        const int some = min(int(blockDim.x), block_rows - r0);
        for (int r = warp; r < some; r += warps) {
            const Bits* const row = matrix + (first_row + r0 + r) * pitch + first_column;
            int count = 0;
            for (int c = lane; c < width; c += 32) count += is_entry(row[c]);
            for (int apart = 16; apart; apart /= 2) count += __shfl_xor_sync(~0u, count, apart);
            if (lane == 0) of_rows[r] = count;
        }
        __syncthreads();  // the rows are counted
        int total;
        const int before = sum_before(threadIdx.x < some ? of_rows[threadIdx.x] : 0, of_warps, total);
        if (threadIdx.x < some) of_rows[threadIdx.x] = before;
        __syncthreads();  // where the rows begin is known
        for (int r = warp; r < some; r += warps) {
            const Bits* const row = matrix + (first_row + r0 + r) * pitch + first_column;
            long long to = begin + of_rows[r];
            for (int c0 = 0; c0 < width; c0 += 32) {
                const int c = c0 + lane;
                const Bits bits = c < width ? row[c] : Bits(0);
                const unsigned entries = __ballot_sync(~0u, is_entry(bits));
                if (is_entry(bits)) {
                    const long long at = to + __popc(entries & lanes_before());
                    values[at] = bits;
                    row_ind[at] = RowIndex(r0 + r);
                    col_ind[at] = ColumnIndex(c);
                }
                to += __popc(entries);
            }
        }
        begin += total;
        __syncthreads();  // the rows' beginnings have been read
    }
}
