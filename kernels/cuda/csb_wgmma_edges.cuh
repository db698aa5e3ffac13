// Sizes of a product, stores of C at its edges, and what is left to CUDA cores. Included by csb_spmm_wgmma.cu.

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
__device__ bool is_flagged(const typename Class<KIND>::Value* B, int row, int column, int in_rows, int n, float inverse_a) {
    u32 largest = 0, smallest = ~0u;
    for (int t = threadIdx.x % 32; t < 256; t += 32) {
        PartOfB<KIND> part;
        part.load(B, row + t / 4, column + t % 4 * 16, in_rows, n);
        u32 most, least;
        part.extremes(most, least);
        largest = max(largest, most), smallest = min(smallest, least);
    }
    float inverse;
    PartOfB<KIND>::scale_of(largest, smallest, inverse_a, inverse);
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
                                         const typename Class<KIND>::Value* B, typename Class<KIND>::Value* C,
                                         int first_row, int first, int last, int first_column, int thread, int threads) {
    const int column = first_column + thread % COLS;
    for (int chunk = first + thread / COLS * 8; chunk < last; chunk += threads / COLS * 8) {
        const int unit = (first_row + chunk) / EDGE;
        if (unit >= z.units) return;
        float sum[8] = {};
        for (int b = 0; b < z.blocks; b++) {
            const int* const at = blk_ptr + (size_t(unit) * z.unit_stride + size_t(b) * z.block_stride);
            bool flagged = is_flagged<KIND>(B, b * EDGE, column & -EDGE, z.in_rows, z.n, 1.0f / scale_a);
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

