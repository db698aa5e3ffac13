// Sparse x dense from Compressed Sparse Blocks for small products at high sparsity, on CUDA cores: C = A·B and
// C = Aᵀ·B from one stored copy of A. Every row of C is cut into pieces of a few entries; GROUP lanes take a piece
// and read B where it is, and the sums of a row's pieces meet in shared memory.
//
// Why. A small product is over in a few microseconds. An empty launch takes 0.9 to 1.3 of them, and each load that
// waits for another 0.5 to 0.6. Rows are uneven: the longest has three to four times the entries of the mean, so a
// warp a row waits for the longest. Here every lane reads a word of its piece and a code of an entry, both where
// arithmetic finds them; then the value and the row of B, at once. Nothing waits more than twice, and no lane has
// more than LENGTH rows of B to add.
//
// One direction or the other: as in csb_spmm_rows.cu, "out" is the side of a block that indexes C, "in" the side that
// indexes B, and a unit is a block row of the product.
//
// codes   unsigned short[groups][slots][LENGTH]: below place_bits the entry's place among those of its block, above
//         them how many rows of B further than the piece's entry before it multiplies; the first has 0 there. Past
//         the end of a piece the last entry is there again.
// pieces  unsigned[groups][slots]: from the lowest bit, COUNT_BITS of how many entries the piece has, PIECES_BITS of
//         how many pieces the row has if this is its first (0 otherwise), out_bits of the row in the unit, and the row
//         of B of the first entry. The pieces of a row follow one another.
// units   the unit of each group of rows. A parameter of the kernel arrives with the launch.
//
// B is in_rows x n, C is out_rows x n, both row-major and contiguous. ALIGNED: the rows of B and C begin on 16-byte
// boundaries. Every element of C is written once, by one thread, and sums are added in a fixed order: every run gives
// the same bits.
//
// Shared memory: sums[slots][GROUP], and of each warp the values and rows of B of its entries.

#include "csb_rows_vectors.cuh"

enum { COUNT_BITS = 6, PIECES_BITS = 6, MOST_GROUPS = 1024, MOST_WARPS = 16 };

struct Units {
    unsigned short of_group[MOST_GROUPS];
};

// Loads of the plan and of block pointers that stay where they are: the compiler would move one to where its value is
// used, behind the wait for another.
__device__ __forceinline__ unsigned load_early(const unsigned short* at) {
    unsigned short x;
    asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(x) : "l"(at));
    return x;
}
__device__ __forceinline__ unsigned load_early(const unsigned* at) {
    unsigned x;
    asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(x) : "l"(at));
    return x;
}
__device__ __forceinline__ int load_early(const int* at) {
    int x;
    asm volatile("ld.global.nc.s32 %0, [%1];" : "=r"(x) : "l"(at));
    return x;
}
__device__ __forceinline__ long long load_early(const long long* at) {
    long long x;
    asm volatile("ld.global.nc.s64 %0, [%1];" : "=l"(x) : "l"(at));
    return x;
}

// Loads under a condition that are all on their way before the first is waited for; 0 where the condition fails.
template <typename T>
__device__ __forceinline__ Vector<T> load_vector_if(bool wanted, const T* at) {
    uint4 x = make_uint4(0, 0, 0, 0);
    asm volatile(
        "{.reg .pred p; setp.ne.u32 p, %5, 0; @p ld.global.v4.u32 {%0, %1, %2, %3}, [%4];}"
        : "+r"(x.x), "+r"(x.y), "+r"(x.z), "+r"(x.w)
        : "l"(at), "r"(unsigned(wanted)));
    Vector<T> v;
    memcpy(&v, &x, sizeof v);
    return v;
}

template <typename T, typename Pointer, int GROUP, int LENGTH, bool ALIGNED>
__global__ void __launch_bounds__(32 * MOST_WARPS)
csb_rows_pieces(const T* __restrict__ values, const Pointer* __restrict__ blk_ptr,
                const unsigned short* __restrict__ codes, const unsigned* __restrict__ pieces,
                const __grid_constant__ Units units, int groups, int place_bits, int unit_stride, int block_stride,
                int out_bits, int in_bits, int blocks, int n, const T* B, T* C) {
    constexpr int SIZE = Vector<T>::SIZE, TILE = GROUP * SIZE, PARALLEL = 32 / GROUP;
    constexpr int ENTRIES = PARALLEL * LENGTH;  // of a warp
    constexpr int STEP = ALIGNED ? 1 : GROUP;   // from column to column of a lane
    static_assert(ENTRIES <= 32, "a lane finds one entry");
    // No more than the launch's warps need: what is left of the L1 cache holds rows of B.
    extern __shared__ __align__(16) unsigned char shared[];
    const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32, slots = warps * PARALLEL;
    auto* const sums = reinterpret_cast<Vector<T>(*)[GROUP]>(shared);  // [slots]
    T* const all_values = reinterpret_cast<T*>(sums + slots);
    T* const in_values = all_values + warp * ENTRIES;
    unsigned* const in_rows = reinterpret_cast<unsigned*>(all_values + warps * ENTRIES) + warp * ENTRIES;
    const int group = blockIdx.x % groups, column = blockIdx.x / groups * TILE + lane % GROUP * (ALIGNED ? SIZE : 1);
    const int entry = lane % ENTRIES;  // that this lane finds, and with it its piece; with lane / GROUP it multiplies
    const size_t first_slot = size_t(group) * slots + warp * PARALLEL;
    const unsigned found = load_early(pieces + first_slot + entry / LENGTH);
    const unsigned code = load_early(codes + first_slot * LENGTH + entry);
    const int unit = units.of_group[group];
    const Pointer* const unit_ptr = blk_ptr + size_t(unit) * unit_stride;
    // Lane b keeps where block b begins, so that only units of more than 32 blocks look it up.
    const Pointer my_begin = load_early(unit_ptr + size_t(min(lane, blocks - 1)) * block_stride);
    const T* const my_B = B + (column < n ? column : 0);

    unsigned in_row = code >> place_bits;
#pragma unroll
    for (int far = 1; far < LENGTH; far *= 2) {
        const unsigned before = __shfl_up_sync(0xffffffffu, in_row, far, LENGTH);
        if (entry % LENGTH >= far) in_row += before;
    }
    in_row += found >> (COUNT_BITS + PIECES_BITS) >> out_bits;
    const unsigned block = in_row >> in_bits;
    // The shuffle stays outside the condition, so that the load it waits for is asked for above.
    Pointer begin = __shfl_sync(0xffffffffu, my_begin, block % 32);
    if (blocks > 32) begin = __ldg(unit_ptr + size_t(block) * block_stride);
    // A piece without entries has nothing to read; the matrix has a first value.
    const bool some = found & ((1u << COUNT_BITS) - 1);
    const Pointer e = some ? begin + Pointer(code & ((1u << place_bits) - 1)) : Pointer(0);
    in_rows[entry] = in_row;
    __syncwarp();
    const int piece = lane / GROUP;  // of the warp
    const unsigned word = __shfl_sync(0xffffffffu, found, piece * LENGTH);
    const int count = word & ((1u << COUNT_BITS) - 1);
    const T value = load_one(values + e);
    unsigned k[LENGTH];
    Vector<T> x[LENGTH];
#pragma unroll
    for (int i = 0; i < LENGTH; i++) k[i] = in_rows[piece * LENGTH + i];
#pragma unroll
    for (int i = 0; i < LENGTH; i++) {
        const T* const at = my_B + size_t(k[i]) * n;
        if constexpr (ALIGNED) {
            x[i] = load_vector_if(i < count, at);
        } else {
#pragma unroll
            for (int c = 0; c < SIZE; c++) x[i].at[c] = load_one(at + (column + c * STEP < n ? c * STEP : 0));
        }
    }
    in_values[entry] = value;
    __syncwarp();
    Vector<T> sum = {};
    // What is past the end is left out: multiplying it by zero instead would make NaN of Inf.
    T v[LENGTH];
#pragma unroll
    for (int i = 0; i < LENGTH; i++) v[i] = in_values[piece * LENGTH + i];
#pragma unroll
    for (int i = 0; i < LENGTH; i++)
#pragma unroll
        for (int c = 0; c < SIZE; c++) {
            const T more = sum.at[c] + v[i] * x[i].at[c];
            sum.at[c] = i < count ? more : sum.at[c];
        }

    const int slot = warp * PARALLEL + piece, of_row = word >> COUNT_BITS & ((1u << PIECES_BITS) - 1);
    if (of_row == 0) sums[slot][lane % GROUP] = sum;
    __syncthreads();
    if (of_row == 0) return;
    for (int p = 1; p < of_row; p++) {
        const Vector<T> other = sums[slot + p][lane % GROUP];
#pragma unroll
        for (int c = 0; c < SIZE; c++) sum.at[c] += other.at[c];
    }
    const unsigned row = (unsigned(unit) << out_bits) + (word >> (COUNT_BITS + PIECES_BITS) & ((1u << out_bits) - 1));
    T* const out = C + size_t(row) * n + column;
    store_vector<ALIGNED, STEP>(out, sum, column, n);
}
