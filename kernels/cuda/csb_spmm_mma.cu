// Sparse x dense from Compressed Sparse Blocks on tensor cores, by mma.sync: every GPU from Turing on.
// C = A·B and C = Aᵀ·B from one stored copy of A, in four precision classes:
//   0  float32 operands as fp16 pairs, three products: the accuracy of a float32 product
//   1  float32 operands rounded to fp16's 11 significant bits, which are TF32's: the TF32 class
//   2  fp16     3  bf16 (compute capability 8.0 or newer), both with float32 sums and a result of their own type
//
// The tensor cores multiply dense tiles, so a CTA turns the entries of a 64 x 64 tile of A into a dense image in
// shared memory, block by block along the inner dimension, and multiplies it with tiles of B. It pays where a
// block is dense enough, until about 90 % sparsity; empty blocks are never visited.
//
// Two kernels, one after the other:
//   csb_mma_images   writes B as 64 x 64 images of 16-bit numbers, just as shared memory shall hold them, with a
//                    factor for each column, and flags those images that 16 bits cannot represent.
//   csb_mma          the product.
//
// One direction or the other. The image of a tile of A is the same for both: row r of the stored matrix is row r of
// the image, 128 bytes, whose 16-byte chunks change places by the row number so that neither rows nor columns of
// chunks share memory banks:
//     byte of (r, c) = 128 r + 16 (c / 8 xor r % 8) + 2 (c % 8)
// ldmatrix reads fragments of A from it, ldmatrix.trans fragments of Aᵀ. Only this and the walk differ.
//
// Range. In classes 0 and 1 a number x is x·2^s = high + low with fp16 high and low. A has one exponent s, known
// beforehand; entries too small for it ("tiny") are left out of the images and added one by one in float32. For B
// each column of each image has its own s, chosen on the device; its low halves are stored times 2^12, so that
// 30 binades below the column's largest number all numbers keep 22 bits. An image with a larger range, with Inf or
// NaN is flagged; the product then leaves it out and multiplies its block of A entry by entry in float32. So a
// zero that is not stored meets neither Inf nor NaN, and nothing overflows that would not in float32.
//
// Sums. The tensor cores' additions may truncate. Each 64 terms are summed there and then added to float32
// registers, times the column's factor 2^-(s_A + s_B).
//
// Who does what. The inner dimension is cut into tiles of 64; steps[] lists for each tile row of the product those
// that hold entries, step_ptr[] where each tile row's list begins. CTA number
//     job = (n_tile * splits + split) * tiles_m + m_tile
// takes the steps number [L split / splits, L (split + 1) / splits) of the L of its tile row. With splits > 1 each
// CTA writes its sums to `partials`; the one that finishes last adds all of them in the order of the splits. So
// every element has one owner, and all runs give the same bits.

#include "csb_mma_images.cuh"

// ---------------------------------------------------------------------------------------------------------
// The product.

// The stored matrix and where its entries belong.
template <typename T>
struct Matrix {
    const T* values;
    const u16* places;    // byte of each entry in the image of its tile, the same for both directions
    const int* step_ptr;  // int[tiles_m + 1]
    const int* steps;     // int[steps]: tile of the inner dimension
    const int2* pieces;   // int2[steps][warps]: first entry and one past the last that a warp decodes
    const int* tiny_ptr;  // int[64-row units + 1]
    const int4* tiny;     // {row in the unit, inner index, bits of the value, 0}
    int by_rows;          // whether a warp's entries are those of rows of the image that are its own
    float scale;          // 2^s of A, classes 0 and 1
};

// COUNT entries that a thread puts into the image, one of every 32.
template <int CLASS, int COUNT>
struct Entries {
    using N = Numbers<CLASS>;
    typename N::Value value[COUNT];  // zero where there is none
    u32 place[COUNT];

    __device__ __forceinline__ void fetch(const Matrix<typename N::Value>& A, int first, int end) {
        const typename N::Value* values = A.values + first;
        const u16* places = A.places + first;
        asm("" : "+l"(values), "+l"(places));  // else both are computed anew under each condition
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            value[i] = 0;
            if (first + 32 * i < end) value[i] = __ldg(values + 32 * i), place[i] = __ldg(places + 32 * i);
        }
    }

    __device__ __forceinline__ void put(u32 image, float scale) const {
#pragma unroll
        for (int i = 0; i < COUNT; i += 2) {
            const u32 at[2] = {image + place[i], image + place[i + 1]};
            if constexpr (N::scaled) {
                const float x = value[i] * scale, y = value[i + 1] * scale;
                const u32 high = to_halves(x, y);
                const bool has_x = fabsf(x) >= N::least_a, has_y = fabsf(y) >= N::least_a;
                if (has_x) store_shared(at[0], u16(high));
                if (has_y) store_shared(at[1], u16(high >> 16));
                if constexpr (N::split) {
                    const u32 low = to_halves(x - from_half(u16(high)), y - from_half(u16(high >> 16)));
                    if (has_x) store_shared(at[0] + IMAGE_BYTES, u16(low));
                    if (has_y) store_shared(at[1] + IMAGE_BYTES, u16(low >> 16));
                }
            } else {
                if (value[i]) store_shared(at[0], value[i]);
                if (value[i + 1]) store_shared(at[1], value[i + 1]);
            }
        }
    }
};

// Shapes that follow from the template parameters. A warp owns 32 rows of a tile and WARP_N columns.
template <int CLASS, int TILE_M, int TILE_N, int WARP_N>
struct Shape {
    static constexpr int WARPS_N = TILE_N / WARP_N, THREADS = TILE_M / 32 * WARPS_N * 32;
    static constexpr int UNITS = TILE_M / 64, COLUMNS = TILE_N / 64;  // images of A and of B, side by side
    static constexpr int WARPS = THREADS / 32, UNIT_WARPS = WARPS / UNITS;  // UNIT_WARPS decode one image
    static constexpr int PARTS = Numbers<CLASS>::split ? 2 : 1;       // high, and low behind it
    static constexpr int A_BYTES = UNITS * PARTS * IMAGE_BYTES, B_BYTES = COLUMNS * PARTS * IMAGE_BYTES;
    // The factors of B's columns lie behind the images, except on Turing: there two CTAs just fit without them.
    static constexpr int FACTOR_BYTES = Numbers<CLASS>::scaled && FACTORS_IN_SHARED ? 4 * TILE_N : 0;
    static constexpr int STAGE_BYTES = A_BYTES + B_BYTES + FACTOR_BYTES;
    static constexpr int PREFETCH = 1024 * UNITS / THREADS;  // entries a thread: a block of 25 % in all
    static constexpr int PITCH = TILE_N + 8;  // floats of a row of sums in shared memory; fewer bank conflicts
};

template <int CLASS, bool TRANSPOSED, int TILE_M, int TILE_N, int WARP_N>
struct Product : Shape<CLASS, TILE_M, TILE_N, WARP_N> {
    using S = Shape<CLASS, TILE_M, TILE_N, WARP_N>;
    using N = Numbers<CLASS>;
    static constexpr int FRAGMENTS = WARP_N / 8;

    // sums[mi][ni][i]: row 16 mi + 8 (i / 2) + lane / 4, column 8 ni + 2 (lane % 4) + i % 2 of the warp's tile.
    float sums[2][FRAGMENTS][4];
    float fresh[2][FRAGMENTS][4];  // of scaled numbers: the sums over one step, before their factors
    u32 a_lane, b_lane;  // this lane's first address for ldmatrix, from the beginning of a stage
    u32 a_turn, b_turn;  // the 16-byte chunk there, times 16, turned by the row

    __device__ __forceinline__ int warp_row() const { return int(threadIdx.x) / 32 / S::WARPS_N * 32; }
    __device__ __forceinline__ int warp_column() const { return int(threadIdx.x) / 32 % S::WARPS_N * WARP_N; }

    __device__ __forceinline__ Product() {
        clear(sums);
        const u32 q = threadIdx.x % 32 / 8, r = threadIdx.x % 8;
        const u32 m = warp_row() % 64;
        a_lane = warp_row() / 64 * S::PARTS * IMAGE_BYTES;
        if constexpr (TRANSPOSED) {  // matrix q: inner rows 8 (q / 2), columns m + 8 (q % 2)
            a_lane += (q / 2 * 8 + r) * 128;
            a_turn = ((m / 8 + q % 2) ^ r) << 4;
        } else {  // matrix q: rows m + 8 (q % 2), inner columns 8 (q / 2)
            a_lane += (m + q % 2 * 8 + r) * 128;
            a_turn = (q / 2 ^ r) << 4;
        }
        const u32 column = warp_column();  // matrix q: inner rows 8 (q % 2), columns 8 (q / 2)
        b_lane = S::A_BYTES + column / 64 * S::PARTS * IMAGE_BYTES + (q % 2 * 8 + r) * 128;
        b_turn = ((column % 64 / 8 + q / 2) ^ r) << 4;
    }

    // d += left · right for the warp's 32 rows and the 32 columns of `group`; eight sums that do not wait for each
    // other. FRESH: d is only written.
    template <bool FRESH>
    static __device__ __forceinline__ void multiply_group(float (&d)[2][FRAGMENTS][4], int group, const u32 (&left)[2][4],
                                                          const u32 (&right)[2][4]) {
#pragma unroll
        for (int mi = 0; mi < 2; mi++)
#pragma unroll
            for (int ni = 0; ni < 4; ni++)
                multiply_add<CLASS, FRESH>(d[mi][4 * group + ni], left[mi], right[ni / 2][ni % 2 * 2],
                                           right[ni / 2][ni % 2 * 2 + 1]);
    }

    // Multiply inner indices [16 FIRST, 16 LAST) of the tiles at `stage`.
    template <int FIRST, int LAST>
    __device__ __forceinline__ void multiply(u32 stage) {
        float(&d)[2][FRAGMENTS][4] = N::scaled ? fresh : sums;
        multiply_inner<FIRST, N::scaled && FIRST == 0>(d, stage);
#pragma unroll
        for (int k = FIRST + 1; k < LAST; k++) multiply_inner<-1, false>(d, stage, k);
    }

    // Inner indices [16 k, 16 k + 16).
    template <int K, bool FRESH>
    __device__ __forceinline__ void multiply_inner(float (&d)[2][FRAGMENTS][4], u32 stage, int k = K) const {
        u32 high[2][4], low[2][4], less[2][4];
#pragma unroll
        for (int mi = 0; mi < 2; mi++) {
            const u32 at = stage + a_lane
                + (TRANSPOSED ? k * 2048 + (a_turn ^ (mi << 5)) : mi * 2048 + (a_turn ^ (k << 5)));
            load_matrices<TRANSPOSED>(high[mi], at);
            if constexpr (N::split) {
                load_matrices<TRANSPOSED>(low[mi], at + IMAGE_BYTES);
#pragma unroll
                for (int i = 0; i < 4; i++) less[mi][i] = times_2_to_minus_12(high[mi][i]);
            }
        }
#pragma unroll
        for (int group = 0; group < FRAGMENTS / 4; group++) {
            u32 b[2][4], b_low[2][4];
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int pair = 2 * group + half;
                const u32 at = stage + b_lane + k * 2048 + (b_turn ^ (pair << 5));
                load_matrices<true>(b[half], at);
                if constexpr (N::split) load_matrices<true>(b_low[half], at + IMAGE_BYTES);
            }
            if constexpr (N::split) {
                multiply_group<FRESH>(d, group, low, b);
                multiply_group<false>(d, group, less, b_low);
            }
            multiply_group<FRESH && !N::split>(d, group, high, b);
        }
    }

    static __device__ __forceinline__ void clear(float (&d)[2][FRAGMENTS][4]) {
#pragma unroll
        for (int mi = 0; mi < 2; mi++)
#pragma unroll
            for (int ni = 0; ni < FRAGMENTS; ni++)
#pragma unroll
                for (int i = 0; i < 4; i++) d[mi][ni][i] = 0.0f;
    }

    // Add the sums over one step, times the columns' factors.
    __device__ __forceinline__ void promote(const float* factors) {
        const float* const own = factors + warp_column() + threadIdx.x % 4 * 2;
#pragma unroll
        for (int ni = 0; ni < FRAGMENTS; ni++) {
            const float2 factor = *reinterpret_cast<const float2*>(own + 8 * ni);
#pragma unroll
            for (int mi = 0; mi < 2; mi++)
#pragma unroll
                for (int i = 0; i < 4; i++) sums[mi][ni][i] += fresh[mi][ni][i] * (i % 2 ? factor.y : factor.x);
        }
    }

    // Call f(row, column, sum, sum of the next column) with this thread's places in the tile.
    template <typename F>
    __device__ __forceinline__ void each_pair(F f) {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int mi = 0; mi < 2; mi++)
#pragma unroll
            for (int h = 0; h < 2; h++)
#pragma unroll
                for (int ni = 0; ni < FRAGMENTS; ni++)
                    f(warp_row() + 16 * mi + 8 * h + lane / 4, warp_column() + 8 * ni + lane % 4 * 2,
                      sums[mi][ni][2 * h], sums[mi][ni][2 * h + 1]);
    }
};

// blockDim.x = Shape::THREADS. Shared memory: STAGES times the images of A, the images of B and B's factors; reused
// at the end for 64 rows of sums where something is added in float32.
// images, factors, flags  what csb_mma_images wrote
// pairs       whether two neighbours in a row of C may be stored at once
// partials    float4[tiles][splits][sums of a tile / 4], tickets int[tiles], all zero between launches
template <int CLASS, bool TRANSPOSED, int TILE_M, int TILE_N, int WARP_N, int STAGES>
__global__ void __launch_bounds__(Shape<CLASS, TILE_M, TILE_N, WARP_N>::THREADS,
                                  (WARP_N == 32 ? 512 : 256) / Shape<CLASS, TILE_M, TILE_N, WARP_N>::THREADS)
csb_mma(const typename Numbers<CLASS>::Value* values, const u16* places, const int* step_ptr, const int* steps,
        const int2* pieces, const int* tiny_ptr, const int4* tiny_entries, int by_rows, float scale_a,
        const uint4* __restrict__ images, const float* __restrict__ factors,
        const int* __restrict__ flags, int tiles_m, int image_tiles, int splits, int out_rows, int n, int pairs,
        const typename Numbers<CLASS>::Value* __restrict__ B, typename Numbers<CLASS>::Value* __restrict__ C,
        float4* __restrict__ partials, int* __restrict__ tickets) {
    using P = Product<CLASS, TRANSPOSED, TILE_M, TILE_N, WARP_N>;
    using N = Numbers<CLASS>;
    static_assert(STAGES == 1 || STAGES == 2, "one block at a time, or the next one while this one is multiplied");
    extern __shared__ __align__(128) unsigned char shared[];
    const Matrix<typename N::Value> A{values,   places,       step_ptr, steps,  pieces,
                                      tiny_ptr, tiny_entries, by_rows,  scale_a};
    const int thread = threadIdx.x;
    const int m_tile = blockIdx.x % tiles_m, split = blockIdx.x / tiles_m % splits;
    const int n_tile = blockIdx.x / tiles_m / splits, column_0 = n_tile * TILE_N;

    const int warp = thread / 32;
    const u32 stage_0 = shared_address(shared);
    const u32 own_image = warp / P::UNIT_WARPS * P::PARTS * IMAGE_BYTES;  // where the warp puts entries

    const int list = A.step_ptr[m_tile], length = A.step_ptr[m_tile + 1] - list;
    const int first = list + int((long long)length * split / splits);
    const int last = list + int((long long)length * (split + 1) / splits);

    const auto piece_of = [&](int step) {
        return step < last ? __ldg(A.pieces + size_t(step) * P::WARPS + warp) : make_int2(0, 0);
    };
    // Where a warp has rows of its own it need not wait for the others between zeroing and putting.
    const auto zero_image = [&](u32 stage) {
        constexpr int ROWS = IMAGE_BYTES / P::UNIT_WARPS;  // bytes of a warp's rows
        if (A.by_rows) {
            const u32 at = stage + own_image + warp % P::UNIT_WARPS * ROWS + thread % 32 * 16;
#pragma unroll
            for (int i = 0; i < P::PARTS * ROWS; i += 512)
                store_shared(at + i / ROWS * IMAGE_BYTES + i % ROWS, make_uint4(0, 0, 0, 0));
        } else {
#pragma unroll
            for (int i = 0; i < P::A_BYTES / 16; i += P::THREADS)
                store_shared(stage + 16 * (i + thread), make_uint4(0, 0, 0, 0));
        }
    };
    const auto sync_zeros = [&] {  // the image is zero where this thread puts entries
        if (A.by_rows) __syncwarp();
        else __syncthreads();
    };
    const auto copy_images = [&](u32 stage, int k_tile) {
        const uint4* const from =
            images + (size_t(k_tile) * image_tiles + n_tile * P::COLUMNS) * (P::PARTS * IMAGE_BYTES / 16);
        copy<P::B_BYTES / 16 / P::THREADS, P::THREADS>(stage + P::A_BYTES + 16 * thread, from + thread);
        if (P::FACTOR_BYTES && thread < TILE_N / 4) {
            const float* const own = factors + size_t(k_tile) * 64 * image_tiles + column_0 + 4 * thread;
            copy<1, 1>(stage + P::A_BYTES + P::B_BYTES + 16 * thread, reinterpret_cast<const uint4*>(own));
        }
    };
    // Whether a step's images of B cannot be multiplied: the same for all threads.
    const auto flagged = [&](int k_tile) {
        int flag = 0;
#pragma unroll
        for (int c = 0; c < P::COLUMNS; c++)
            flag |= __ldcg(flags + size_t(k_tile) * image_tiles + n_tile * P::COLUMNS + c);
        return flag;
    };

    P product;
    Entries<CLASS, P::PREFETCH> entries;  // of the next step, fetched while this one is multiplied
    int rest = 0, end = 0;                // where the thread's other entries of that step begin, and the piece's end
    const auto fetch = [&](int2 piece) {
        rest = piece.x + thread % 32, end = piece.y;
        entries.fetch(A, rest, end);
        rest += P::PREFETCH * 32;
    };
    const auto put = [&](u32 stage) {
        entries.put(stage + own_image, A.scale);
        for (; rest < end; rest += 4 * 32) {
            Entries<CLASS, 4> more;
            more.fetch(A, rest, end);
            more.put(stage + own_image, A.scale);
        }
    };
    const auto promote = [&](u32 stage, int k_tile) {
        if constexpr (P::FACTOR_BYTES > 0)
            product.promote(reinterpret_cast<const float*>(shared + (stage - stage_0) + P::A_BYTES + P::B_BYTES));
        else if constexpr (N::scaled)
            product.promote(factors + size_t(k_tile) * 64 * image_tiles + column_0);
    };

    int k_tile = first < last ? __ldg(A.steps + first) : 0;
    fetch(piece_of(first));
    int2 piece = piece_of(first + 1);
    int any_flag = 0;
    if constexpr (STAGES == 1) {
        wait_for_kernel_before();
        for (int step = first; step < last; step++) {
            if (step > first) __syncthreads();  // the step before is multiplied
            zero_image(stage_0);
            copy_images(stage_0, k_tile);
            const int flag = flagged(k_tile);
            const int next = step + 1 < last ? __ldg(A.steps + step + 1) : 0;
            sync_zeros();
            put(stage_0);
            fetch(piece);
            piece = piece_of(step + 2);
            wait_copies();
            __syncthreads();  // both images are complete
            any_flag |= flag;
            if (!flag) {
                product.template multiply<0, 4>(stage_0);
                promote(stage_0, k_tile);
            }
            k_tile = next;
        }
    } else if (first < last) {
        zero_image(stage_0);
        sync_zeros();
        put(stage_0);
        fetch(piece);
        piece = piece_of(first + 2);
        wait_for_kernel_before();
        copy_images(stage_0, k_tile);
        int flag = flagged(k_tile);
        int next = first + 1 < last ? __ldg(A.steps + first + 1) : 0;
        for (int step = first; step < last; step++) {
            const u32 now = stage_0 + (step - first) % 2 * P::STAGE_BYTES;
            const u32 then = stage_0 + (step - first + 1) % 2 * P::STAGE_BYTES;
            const bool more = step + 1 < last;
            int flag_then = 0, after = 0;
            wait_copies();
            __syncthreads();  // this stage is complete, and the other one, of the step before, is multiplied
            if (more) {
                copy_images(then, next);
                zero_image(then);
                flag_then = flagged(next);
                after = step + 2 < last ? __ldg(A.steps + step + 2) : 0;
            }
            any_flag |= flag;
            if (!flag) product.template multiply<0, 2>(now);
            if (more) {
                sync_zeros();
                put(then);
                fetch(piece);
                piece = piece_of(step + 3);
            }
            if (!flag) {
                product.template multiply<2, 4>(now);
                promote(now, k_tile);
            }
            flag = flag_then, k_tile = next, next = after;
        }
    }

    // Exceptions, in float32 on sums in shared memory, 64 rows at a time: flagged steps, and in the first split the
    // tiny entries. A thread owns a column and every so manieth row.
    wait_for_kernel_before();  // a CTA without steps has not waited yet
    const int units = (out_rows + 63) / 64;
    for (int unit = 0; unit < P::UNITS; unit++) {
        const int global_unit = m_tile * P::UNITS + unit;
        int tiny = 0, tiny_end = 0;
        if (N::scaled && split == 0 && global_unit < units)
            tiny = __ldg(A.tiny_ptr + global_unit), tiny_end = __ldg(A.tiny_ptr + global_unit + 1);
        if (!any_flag && tiny == tiny_end) continue;
        float* const sums = reinterpret_cast<float*>(shared);
        const bool mine = product.warp_row() / 64 == unit;
        __syncthreads();  // nobody reads the images, or the unit before, any more
        if (mine)
            product.each_pair([&](int row, int column, float& x, float& y) {
                sums[row % 64 * P::PITCH + column] = x, sums[row % 64 * P::PITCH + column + 1] = y;
            });
        __syncthreads();  // all sums of the unit are there
        const int column = thread % TILE_N, lane = thread / TILE_N, lanes = P::THREADS / TILE_N;
        const bool exists = column_0 + column < n;
        const auto add = [&](int row, int inner, float value) {
            if (exists && row % lanes == lane)
                sums[row * P::PITCH + column] += value * as_float<CLASS>(B[size_t(inner) * n + column_0 + column]);
        };
        for (int step = first; any_flag && step < last; step++) {
            const int k = __ldg(A.steps + step);
            if (!flagged(k)) continue;
            for (int w = 0; w < P::UNIT_WARPS; w++) {
                const int2 at = __ldg(A.pieces + size_t(step) * P::WARPS + unit * P::UNIT_WARPS + w);
#pragma unroll 4  // loads of several entries at once
                for (int e = at.x; e < at.y; e++) {
                    const int place = __ldg(A.places + e), row = place / 128;
                    const int col = (place / 16 % 8 ^ row % 8) * 8 + place / 2 % 8;
                    add(TRANSPOSED ? col : row, 64 * k + (TRANSPOSED ? row : col), as_float<CLASS>(__ldg(A.values + e)));
                }
            }
        }
        for (; tiny < tiny_end; tiny++) {
            const int4 t = __ldg(A.tiny + tiny);
            if (!flagged(t.y / 64)) add(t.x, t.y, __int_as_float(t.z));
        }
        __syncthreads();  // all columns are done
        if (mine)
            product.each_pair([&](int row, int column, float& x, float& y) {
                x = sums[row % 64 * P::PITCH + column], y = sums[row % 64 * P::PITCH + column + 1];
            });
    }

    if (splits > 1) {
        constexpr int QUADS = 2 * P::FRAGMENTS;  // float4 of a thread
        float4* const tile = partials + (size_t(n_tile) * tiles_m + m_tile) * splits * (QUADS * P::THREADS) + thread;
        int* const finished = reinterpret_cast<int*>(shared);  // CTAs of the tile; static memory would cost room
#pragma unroll
        for (int q = 0; q < QUADS; q++) {
            const float(&s)[4] = product.sums[q / P::FRAGMENTS][q % P::FRAGMENTS];
            __stcg(tile + (split * QUADS + q) * P::THREADS, make_float4(s[0], s[1], s[2], s[3]));
        }
        __threadfence();  // the sums are visible before the ticket is
        __syncthreads();  // and nobody reads the images any more
        if (thread == 0) {
            int* const ticket = tickets + n_tile * tiles_m + m_tile;
            *finished = atomicAdd(ticket, 1) + 1;
            if (*finished == splits) *ticket = 0;  // ready for the next launch
        }
        __syncthreads();  // `finished` is written
        if (*finished < splits) return;
        __threadfence();  // the others' sums are read after their tickets
#pragma unroll
        for (int q = 0; q < QUADS; q++) {
            float(&s)[4] = product.sums[q / P::FRAGMENTS][q % P::FRAGMENTS];
            s[0] = s[1] = s[2] = s[3] = 0.0f;
        }
        for (int z = 0; z < splits; z++)
#pragma unroll
            for (int q = 0; q < QUADS; q++) {
                float(&s)[4] = product.sums[q / P::FRAGMENTS][q % P::FRAGMENTS];
                const float4 v = __ldcg(tile + (z * QUADS + q) * P::THREADS);
                s[0] += v.x, s[1] += v.y, s[2] += v.z, s[3] += v.w;
            }
    }

    product.each_pair([&](int row, int column, float& x, float& y) {
        const int out_row = m_tile * TILE_M + row, out_column = column_0 + column;
        if (out_row >= out_rows || out_column >= n) return;
        typename N::Value* const at = C + size_t(out_row) * n + out_column;
        const typename N::Value a = as_result<CLASS>(x), b = as_result<CLASS>(y);
        if (pairs) {  // n is even then, so the second column exists
            if constexpr (N::scaled) *reinterpret_cast<float2*>(at) = make_float2(a, b);
            else *reinterpret_cast<u32*>(at) = a | u32(b) << 16;
        } else {
            at[0] = a;
            if (out_column + 1 < n) at[1] = b;
        }
    });
}
