// What the sampled products on tensor cores share: copies of rows of U and V, the tile's blocks, and how the stored
// positions are picked from the sums of a tile. Included by csb_sddmm_mma.cu and csb_sddmm_wgmma.cu.

using u32 = unsigned int;

constexpr int DEPTH = 32;  // columns of a stage
constexpr int ROW_BYTES = 4 * DEPTH;

__device__ __forceinline__ u32 shared_address(const void* p) { return u32(__cvta_generic_to_shared(p)); }

// Copy columns [column, column + 4) of a row: 16 bytes, or four times 4 where rows are not aligned. What lies past
// column n is zero.
template <bool VECTOR>
__device__ __forceinline__ void copy_async(u32 to, const float* row, int column, int n) {
    if constexpr (VECTOR) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(row + (column < n ? column : 0)),
                     "r"(column < n ? 16 : 0)
                     : "memory");
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to + 4 * i),
                         "l"(row + (column + i < n ? column + i : 0)), "r"(column + i < n ? 4 : 0)
                         : "memory");
    }
}
__device__ __forceinline__ void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ float4 load_shared(u32 at) {
    float4 v;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(at) : "memory");
    return v;
}

// TF32 ignores the last 13 bits of a number: x = high + low, where `high_part` is what it sees of x as it is. Rounded to
// nearest instead, high leaves half as much for low; so does low when it is rounded before TF32 cuts it.
__device__ __forceinline__ float high_part(float x) { return __uint_as_float(__float_as_uint(x) & 0xffffe000u); }
__device__ __forceinline__ float rounded_part(float x) {
    return __uint_as_float(__float_as_uint(x) + 0x1000u & 0xffffe000u);
}
__device__ __forceinline__ float to_be_cut(float low) { return __uint_as_float(__float_as_uint(low) + 0x1000u); }

// A product as float32 has it.
__device__ __noinline__ float plain_sum(const float* u, const float* v, int n) {
    float sum = 0;
    for (int c = 0; c < n; c++) sum += u[c] * v[c];
    return sum;
}

__device__ __forceinline__ void cluster_barrier() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
    asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
#endif
}

// A number in the shared memory of CTA `rank` of the cluster, at the place that `at` is in this one.
__device__ __forceinline__ float load_from(u32 at, int rank) {
    float x;
#if __CUDA_ARCH__ >= 900
    u32 there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(there) : "memory");
#else
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(at) : "memory");
#endif
    return x;
}

// The magnitudes that a thread has met. TF32 has no smaller steps than 2^-136: what the low part of a number below 2^-113
// loses is no longer far below the number itself. It is multiplied with the largest number at most; sums that this
// could falsify are computed anew.
struct Range {
    u32 least = ~0u;  // twice the bits of the least nonzero magnitude, less one
    float largest = 0;

    __device__ __forceinline__ void add(float x) {
        least = min(least, 2 * __float_as_uint(x) - 1), largest = fmaxf(largest, fabsf(x));
    }
    __device__ __forceinline__ void add(float4 v) { add(v.x), add(v.y), add(v.z), add(v.w); }

    // Up to which magnitude sums of n products may be wrong, of all threads of the CTA: in doubtful[0] after the next
    // barrier. Synchronises the CTA; `doubtful` has room for two numbers a warp.
    __device__ __forceinline__ void publish(u32* doubtful, int n) {
        const int warps = blockDim.x / 32;
        u32 most = __reduce_max_sync(~0u, __float_as_uint(largest));
        least = __reduce_min_sync(~0u, least);
        if (threadIdx.x % 32 == 0) doubtful[threadIdx.x / 32] = most, doubtful[warps + threadIdx.x / 32] = least;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int w = 0; w < warps; w++) most = max(most, doubtful[w]), least = min(least, doubtful[warps + w]);
            // 2^-136 · n · the largest number shall be less than 2^-22 of a sum. Infinity makes no finite sums.
            const bool tiny = least < __float_as_uint(0x1p-113f) << 1;
            most = min(most, __float_as_uint(0x1.fffffep127f));
            doubtful[0] = __float_as_uint(tiny ? 0x1p-114f * n * __uint_as_float(most) : -1.0f);
        }
    }
};

struct Sizes {
    int rows, columns;                // of the matrix
    int grid_rows, grid_columns;      // blocks of the matrix
    int block_rows, block_columns;    // of a block
    int n;                            // columns of U and V
    int tiles_n;                      // tiles of the matrix side by side
    int splits;                       // CTAs that share a tile
};

// A row of U or V; the last one in place of those past the end.
__device__ __forceinline__ const float* row_of(const float* operand, int row, int rows, int n) {
    return operand + size_t(min(row, rows - 1)) * n;
}

// A tile of TILE_M x TILE_N positions, made of whole blocks.
template <int TILE_M, int TILE_N>
struct SampledTile {
    const Sizes& s;
    int first_row, first_column;  // in the matrix
    int block_m, block_n;         // its first block
    int down, across;             // blocks

    __device__ __forceinline__ SampledTile(const Sizes& sizes, int tile_m, int tile_n)
        : s(sizes), first_row(tile_m * TILE_M), first_column(tile_n * TILE_N),
          block_m(tile_m * (TILE_M / s.block_rows)), block_n(tile_n * (TILE_N / s.block_columns)),
          down(min(TILE_M / s.block_rows, s.grid_rows - block_m)),
          across(min(TILE_N / s.block_columns, s.grid_columns - block_n)) {}

    // Whether the tile has entries; the same for all threads of the CTA, which it synchronises.
    template <typename Pointer>
    __device__ __forceinline__ bool has_entries(const Pointer* blk_ptr) const {
        bool some = false;
        for (int b = threadIdx.x; b < down; b += blockDim.x) {
            const Pointer* const at = blk_ptr + size_t(block_m + b) * s.grid_columns + block_n;
            some |= at[0] < at[across];
        }
        return __syncthreads_or(some);
    }

    // Write out[e] for every entry of the tile: its sums lie at sums[group][row][PITCH], in each CTA of the cluster, and
    // are added in the order of CTAs and groups. Warps share the blocks, several a block where there are few;
    // the CTAs share the entries of a block.
    template <int GROUPS, int PITCH, typename RowIndex, typename ColIndex, typename Pointer>
    __device__ __forceinline__ void pick(const float* sums, const u32* doubtful, int rank, const RowIndex* row_ind, const ColIndex* col_ind,
                                         const Pointer* blk_ptr, const float* U, const float* V, float* out) const {
        const int splits = s.splits, warps = blockDim.x / 32, lane = threadIdx.x % 32, blocks = down * across;
        const int parts = max(1, warps / blocks);
        float doubt = -1.0f;
        for (int from = 0; from < splits; from++) doubt = fmaxf(doubt, load_from(shared_address(doubtful), from));
        for (int item = threadIdx.x / 32; item < blocks * parts; item += warps) {
            const int block = item / parts, b_m = block / across, b_n = block % across;
            const Pointer* const at = blk_ptr + size_t(block_m + b_m) * s.grid_columns + block_n + b_n;
            const long long end = at[1];
            for (long long e = at[0] + (item % parts * splits + rank) * 32 + lane; e < end; e += 32 * parts * splits) {
                const int row = b_m * s.block_rows + row_ind[e], column = b_n * s.block_columns + col_ind[e];
                const u32 place = shared_address(sums + row * PITCH + column);
                constexpr int MOST_SPLITS = 8;
                float part[MOST_SPLITS][GROUPS], total = 0;
#pragma unroll
                for (int from = 0; from < MOST_SPLITS; from++)
#pragma unroll
                    for (int g = 0; g < GROUPS; g++)
                        part[from][g] = from < splits ? load_from(place + g * (4 * TILE_M * PITCH), from) : 0.0f;
#pragma unroll
                for (int from = 0; from < MOST_SPLITS; from++)
#pragma unroll
                    for (int g = 0; g < GROUPS; g++) total += part[from][g];
                // A number that is not finite makes every sum that it takes part in not finite, and no other.
                if (!(fabsf(total) <= 0x1.fffffep127f) || fabsf(total) <= doubt)
                    total = plain_sum(U + size_t(first_row + row) * s.n, V + size_t(first_column + column) * s.n, s.n);
                out[e] = total;
            }
        }
    }
};
