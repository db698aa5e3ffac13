// Sampled dense-dense product at the stored positions of a CSB matrix: out[e] = Σ_c U[row(e), c] · V[col(e), c].
// With U the gradient of a layer's output and V its input, both features x tokens, it is the gradient of the stored
// values: one number for each entry, in the order in which the entries are stored.
//
// Versions, simple to fast:
//   csb_sddmm_v1   a thread takes an entry and walks its two rows. Threads of a warp read rows far apart: fine while
//                  a row is a few columns long, and nothing else is needed for those.
//   csb_sddmm_v2   a warp takes 32 entries that are stored one after the other; a lane owns four of every 128 columns
//                  and keeps a sum of each entry in registers. Rows are read 16 bytes a lane. Entries of one block
//                  share few rows, so the L1 cache serves most reads, and the row of U is read anew only where it
//                  changes. In the end the lanes' sums are added and each lane is left with the total of one entry.
//   csb_sddmm_v3   for matrices so sparse that neighbouring entries hardly share rows: a warp takes 8 entries, all of
//                  whose rows are on their way at once. Where warps are few, those of a CTA share the columns.
//   csb_sddmm_add  second phase of v2 where the columns are dealt to several CTAs: adds their sums, in the order of columns.
//
// Nothing is added atomically: every run gives the same bits. U is rows x n, V is columns x n, row-major, contiguous.
//
// Where an entry lies. Entry e belongs to block b with blk_ptr[b] <= e < blk_ptr[b + 1]. first_block[c] is the block
// of entry 32 * c, and there is one element more: the block of the last entry. So the block of entry e is found
// between first_block[e / 32] and first_block[e / 32 + 1], mostly one and the same.

constexpr int CHUNK = 32;   // entries a warp
constexpr int LANE_COLUMNS = 4;
constexpr int TILE = 32 * LANE_COLUMNS;  // columns that a warp reads at a time

// The stored structure of the matrix.
template <typename RowIndex, typename ColIndex, typename Pointer>
struct Structure {
    const RowIndex* row_ind;
    const ColIndex* col_ind;
    const Pointer* blk_ptr;
    const int* first_block;
    long long nnz;
    int grid_columns;  // blocks in a row of blocks
    int block_rows, block_columns;

    // Row and column in the matrix of entry e, range [0, nnz).
    __device__ __forceinline__ int2 locate(long long e) const {
        int low = first_block[e / CHUNK], high = first_block[e / CHUNK + 1];
        while (low < high) {  // the last block that begins at or before e
            const int middle = (low + high + 1) / 2;
            if (blk_ptr[middle] <= e)
                low = middle;
            else
                high = middle - 1;
        }
        return make_int2(low / grid_columns * block_rows + row_ind[e], low % grid_columns * block_columns + col_ind[e]);
    }
};

// ---------------------------------------------------------------------------------------------------------
// Version 1. Thread blockIdx.x * blockDim.x + threadIdx.x takes the entry of that number.
template <typename T, typename RowIndex, typename ColIndex, typename Pointer>
__global__ void __launch_bounds__(256)
csb_sddmm_v1(const RowIndex* __restrict__ row_ind, const ColIndex* __restrict__ col_ind,
             const Pointer* __restrict__ blk_ptr, const int* __restrict__ first_block, long long nnz,
             int grid_columns, int block_rows, int block_columns, int n, const T* __restrict__ U,
             const T* __restrict__ V, T* __restrict__ out) {
    const Structure<RowIndex, ColIndex, Pointer> structure{row_ind, col_ind,      blk_ptr,    first_block,
                                                           nnz,     grid_columns, block_rows, block_columns};
    const long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= nnz) return;
    const int2 at = structure.locate(e);
    const T* const u = U + size_t(at.x) * n;
    const T* const v = V + size_t(at.y) * n;
    T sum = T(0);
    for (int c = 0; c < n; c++) sum += u[c] * v[c];
    out[e] = sum;
}

// ---------------------------------------------------------------------------------------------------------
// Version 2.

template <typename T>
struct alignas(16) Four {
    T at[LANE_COLUMNS];
};

// The lane's columns of a row. VECTOR = 4: four neighbours, in 16-byte loads (n % 4 == 0, aligned arrays). VECTOR = 1:
// 32 apart, so that the lanes read neighbours; works for any n. `left` columns exist from the lane's first on.
template <int VECTOR, typename T>
__device__ __forceinline__ void load(Four<T>& x, const T* __restrict__ at, int left) {
    if constexpr (VECTOR == 1) {
#pragma unroll
        for (int i = 0; i < LANE_COLUMNS; i++) {
            // A column that does not exist is read as another one and counted as zero: no load waits for a branch.
            const T value = __ldg(at + (32 * i < left ? 32 * i : 0));
            x.at[i] = 32 * i < left ? value : T(0);
        }
    } else if constexpr (sizeof(T) == 4) {
        const float4 v = __ldg(reinterpret_cast<const float4*>(at));
        x.at[0] = v.x, x.at[1] = v.y, x.at[2] = v.z, x.at[3] = v.w;
    } else {
        const double2 v = __ldg(reinterpret_cast<const double2*>(at));
        const double2 w = __ldg(reinterpret_cast<const double2*>(at) + 1);
        x.at[0] = v.x, x.at[1] = v.y, x.at[2] = w.x, x.at[3] = w.y;
    }
}

// Add the lanes' sums of 32 entries so that lane i returns the total of entry i: in each of five steps a lane gives
// away the half of its sums that belongs to its partner, 31 exchanges in all where 32 reductions would take 160. Of
// fewer entries, 2 * HALF, lane i returns the sum of entry i mod 2 * HALF among the lanes that have it in common.
template <int HALF, int COUNT, typename T>
__device__ __forceinline__ T transposed_sum(T (&sum)[COUNT], int lane) {
    if constexpr (HALF == 0) {
        return sum[0];
    } else {
        const bool upper = lane & HALF;
#pragma unroll
        for (int i = 0; i < HALF; i++) {
            const T given = upper ? sum[i] : sum[i + HALF];
            const T kept = upper ? sum[i + HALF] : sum[i];
            sum[i] = kept + __shfl_xor_sync(0xffffffffu, given, HALF);
        }
        return transposed_sum<HALF / 2>(sum, lane);
    }
}

// Warp w of the grid's first dimension takes entries [32 * w, 32 * w + 32); blockIdx.y takes the columns
// [blockIdx.y * span, (blockIdx.y + 1) * span), span a multiple of TILE, and writes to out[blockIdx.y * nnz + e].
// Shared memory: int2 located[warps][CHUNK], row and column of each entry of the warp.
template <typename T, typename RowIndex, typename ColIndex, typename Pointer, int VECTOR>
__global__ void __launch_bounds__(512, sizeof(T) == 4 && VECTOR == 4 ? 2 : 1)
csb_sddmm_v2(const RowIndex* __restrict__ row_ind, const ColIndex* __restrict__ col_ind,
             const Pointer* __restrict__ blk_ptr, const int* __restrict__ first_block, long long nnz,
             int grid_columns, int block_rows, int block_columns, int n, int span, const T* __restrict__ U,
             const T* __restrict__ V, T* __restrict__ out) {
    static_assert(VECTOR == 1 || VECTOR == 4, "a lane loads one column or four at a time");
    constexpr int TOGETHER = sizeof(T) == 4 ? 4 : 2;  // entries whose rows of V are on the way at the same time
    extern __shared__ int2 located[];
    const Structure<RowIndex, ColIndex, Pointer> structure{row_ind, col_ind,      blk_ptr,    first_block,
                                                           nnz,     grid_columns, block_rows, block_columns};
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const long long first = ((long long)blockIdx.x * (blockDim.x / 32) + warp) * CHUNK;
    if (first >= nnz) return;  // the whole warp
    int2* const mine = located + warp * CHUNK;
    // Past the end the last entry is taken again, and its sum left out.
    mine[lane] = structure.locate(min(first + lane, nnz - 1));
    __syncwarp();  // every lane sees where all 32 entries lie

    T sum[CHUNK];
#pragma unroll
    for (int i = 0; i < CHUNK; i++) sum[i] = T(0);
    const int end = min(n, int(blockIdx.y + 1) * span);
    const int offset = VECTOR == 4 ? LANE_COLUMNS * lane : lane;
    for (int column = blockIdx.y * span + offset; column < end; column += TILE) {
        const int left = end - column;
        int row = -1;
        Four<T> u{};
#pragma unroll
        for (int i = 0; i < CHUNK; i += TOGETHER) {
            Four<T> vs[TOGETHER];
#pragma unroll
            for (int j = 0; j < TOGETHER; j++)
                load<VECTOR>(vs[j], V + size_t(mine[i + j].y) * n + column, left);
#pragma unroll
            for (int j = 0; j < TOGETHER; j++) {
                const int next = mine[i + j].x;
                if (next != row) {  // the same for all lanes
                    load<VECTOR>(u, U + size_t(next) * n + column, left);
                    row = next;
                }
#pragma unroll
                for (int c = 0; c < LANE_COLUMNS; c++) sum[i + j] += u.at[c] * vs[j].at[c];
            }
        }
    }
    __syncwarp();  // lanes without columns left the loop early
    const T total = transposed_sum<CHUNK / 2>(sum, lane);
    if (first + lane < nnz) out[blockIdx.y * nnz + first + lane] = total;
}

// ---------------------------------------------------------------------------------------------------------
// Version 3. `shares` warps of a CTA take the same FEW entries, each its share of the columns; then the CTA takes
// FEW * FEW_WARPS / shares entries in all. shares is a power of two, at most FEW_WARPS.
[[maybe_unused]] constexpr int FEW = 8, FEW_WARPS = 8;

template <typename T, typename RowIndex, typename ColIndex, typename Pointer, int VECTOR>
__global__ void __launch_bounds__(32 * FEW_WARPS, 2)  // with fewer registers the compiler would wait for the first loads
csb_sddmm_v3(const RowIndex* __restrict__ row_ind, const ColIndex* __restrict__ col_ind,
             const Pointer* __restrict__ blk_ptr, const int* __restrict__ first_block, long long nnz,
             int grid_columns, int block_rows, int block_columns, int n, int shares, const T* __restrict__ U,
             const T* __restrict__ V, T* __restrict__ out) {
    constexpr int TOGETHER = sizeof(T) == 4 ? FEW : FEW / 2;  // entries whose rows are on the way at the same time
    __shared__ T totals[FEW_WARPS][FEW];
    const Structure<RowIndex, ColIndex, Pointer> structure{row_ind, col_ind,      blk_ptr,    first_block,
                                                           nnz,     grid_columns, block_rows, block_columns};
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const long long begin = (long long)blockIdx.x * (FEW * FEW_WARPS / shares), first = begin + warp / shares * FEW;
    // Past the end the last entry is taken again, and its sum left out.
    const int2 at = structure.locate(min(first + lane % FEW, nnz - 1));
    int row[FEW], column[FEW];
    T sum[FEW];
#pragma unroll
    for (int i = 0; i < FEW; i++) {
        row[i] = __shfl_sync(0xffffffffu, at.x, i), column[i] = __shfl_sync(0xffffffffu, at.y, i);
        sum[i] = T(0);
    }
    const int offset = VECTOR == 4 ? LANE_COLUMNS * lane : lane;
    for (int c = warp % shares * TILE + offset; c < n; c += shares * TILE) {
#pragma unroll
        for (int i = 0; i < FEW; i += TOGETHER) {
            Four<T> us[TOGETHER], vs[TOGETHER];
#pragma unroll
            for (int j = 0; j < TOGETHER; j++) {
                load<VECTOR>(us[j], U + size_t(row[i + j]) * n + c, n - c);
                load<VECTOR>(vs[j], V + size_t(column[i + j]) * n + c, n - c);
            }
#pragma unroll
            for (int j = 0; j < TOGETHER; j++)
#pragma unroll
                for (int k = 0; k < LANE_COLUMNS; k++) sum[i + j] += us[j].at[k] * vs[j].at[k];
        }
    }
    __syncwarp();  // lanes without columns left the loop early
    T total = transposed_sum<FEW / 2>(sum, lane);
#pragma unroll
    for (int apart = FEW; apart < 32; apart *= 2) total += __shfl_xor_sync(0xffffffffu, total, apart);
    if (lane < FEW) totals[warp][lane] = total;
    __syncthreads();  // all shares are there
    const int entry = threadIdx.x;
    if (entry < FEW * FEW_WARPS / shares && begin + entry < nnz) {
        total = T(0);
        for (int share = 0; share < shares; share++) total += totals[entry / FEW * shares + share][entry % FEW];
        out[begin + entry] = total;
    }
}

// ---------------------------------------------------------------------------------------------------------
// Second phase: out[e] = Σ_p partials[p * nnz + e], p in [0, parts) from the first to the last. A thread an entry.
template <typename T>
__global__ void __launch_bounds__(256)
csb_sddmm_add(long long nnz, int parts, const T* __restrict__ partials, T* __restrict__ out) {
    const long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= nnz) return;
    T sum = partials[e];
    for (int p = 1; p < parts; p++) sum += partials[p * nnz + e];
    out[e] = sum;
}
