// Sparse matrix x vector from Compressed Sparse Blocks: y = A·x and y = Aᵀ·x from one stored copy of A.
//
// One direction or the other. Both products run the same code. "out" is the side of a block that indexes y, "in"
// the side that indexes x; a unit is a block row of the product (a block column of A for Aᵀ). The host's plan
// lists where the entries of each unit lie, so the kernel does not know in which direction they were stored.
//
// Idea. A product with a vector reads every entry once and is over in a few microseconds: what counts is how often
// something waits for memory, one load after another, and how many instructions a warp issues in between.
//     1  A CTA computes `rows` rows of y, or shares the rows of a unit with other CTAs. It asks for what says where
//        its entries lie, and for its part of x.
//     2  A group of lanes reads a run of entries of one block, four neighbouring entries a lane, and stores each
//        product v * x in shared memory where the plan says: `place` sorts the products of a round by output row,
//        whatever the order of the entries, so that a row's products become neighbours.
//     3  Some lanes add up each row.
//     4  CTAs that share rows form a cluster and send their sums to each other (compute capability 9.0), or write
//        partial sums, which csb_add_shares adds.
// Every sum is made in an order that the plan fixes: no atomics, the same bits in every run. Products of entries
// that are not stored are never made, so Inf and NaN in x stay where they belong.
//
// The arrays of entries begin at multiples of 16 bytes and have room for nnz rounded up to a multiple of four.

// float16 and bfloat16 as NVRTC knows them without headers. Products and sums are float32, y is rounded once.
struct Half {
    unsigned short bits;
};
struct Bfloat16 {
    unsigned short bits;
};

__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ double widen(double value) { return value; }
__device__ __forceinline__ float widen(Bfloat16 value) { return __uint_as_float(unsigned(value.bits) << 16); }
__device__ __forceinline__ float widen(Half value) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
    return wide;
}

__device__ __forceinline__ void store(float* to, float sum) { *to = sum; }
__device__ __forceinline__ void store(double* to, double sum) { *to = sum; }
__device__ __forceinline__ void store(Half* to, float sum) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to->bits) : "f"(sum));
}
__device__ __forceinline__ void store(Bfloat16* to, float sum) {
    const unsigned bits = __float_as_uint(sum);
    const bool nan = (bits & 0x7fffffff) > 0x7f800000;
    to->bits = nan ? bits >> 16 | 0x40 : bits + 0x7fff + (bits >> 16 & 1) >> 16;  // to nearest, ties to even
}

template <typename T>
using Sum = decltype(widen(T()));

// Four neighbouring elements.
template <typename T>
struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) Pack {
    T at[4];
};

// A run of at most 4 * lanes entries of one block. `pack` counts packs of four entries from the first entry of the
// matrix; in those packs the run begins at entry `skew` and has `count` entries.
struct Run {
    unsigned pack, what;
    __device__ __forceinline__ int skew() const { return what & 3; }
    __device__ __forceinline__ int count() const { return what >> 2 & 255; }  // 0 where there is nothing to do
    __device__ __forceinline__ int block() const { return what >> 10; }       // along the unit
};

// A load that stays where it is written.
__device__ __forceinline__ int load_now(const unsigned short* at) {
    unsigned short value;
    asm volatile("ld.global.nc.u16 %0, [%1];" : "=h"(value) : "l"(at));
    return value;
}

// Copy x[0, count) to shared memory; it has arrived when `wait_for_x` returns.
template <typename T>
__device__ __forceinline__ void ask_for_x(Sum<T>* to, const T* __restrict__ x, int count) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
#if __CUDA_ARCH__ >= 800
        if constexpr (sizeof(T) >= 4) {
            const unsigned target = unsigned(__cvta_generic_to_shared(to + i));
            asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(target), "l"(x + i), "n"(sizeof(T)));
            continue;
        }
#endif
        to[i] = widen(x[i]);
    }
}

__device__ __forceinline__ void wait_for_x() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
    __syncthreads();  // every thread's part has arrived
}

#if __CUDA_ARCH__ >= 900
// The sums of a cluster travel as asynchronous stores, which count themselves in at the receiver's barrier: cheaper
// than a barrier of the whole cluster, and nobody touches the memory of a CTA that may have ended.

// Called by one thread: make ready for `bytes` bytes from the cluster's CTAs.
__device__ __forceinline__ void expect_sums(unsigned long long* arrived, int bytes) {
    const unsigned barrier = unsigned(__cvta_generic_to_shared(arrived));
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Store a sum at the place `slot` of CTA `rank`; `slot` and `arrived` are this CTA's own places.
template <typename S>
__device__ __forceinline__ void send_sum(S* slot, unsigned long long* arrived, int rank, S sum) {
    unsigned to, barrier;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(unsigned(__cvta_generic_to_shared(slot))), "r"(rank));
    asm("mapa.shared::cluster.u32 %0, %1, %2;"
        : "=r"(barrier)
        : "r"(unsigned(__cvta_generic_to_shared(arrived))), "r"(rank));
    if constexpr (sizeof(S) == 4)
        asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(to),
                     "r"(__float_as_uint(sum)), "r"(barrier)
                     : "memory");
    else
        asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b64 [%0], %1, [%2];" ::"r"(to),
                     "l"(__double_as_longlong(sum)), "r"(barrier)
                     : "memory");
}

__device__ __forceinline__ void wait_for_sums(unsigned long long* arrived) {
    unsigned done;
    do asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(unsigned(__cvta_generic_to_shared(arrived)))
        : "memory");
    while (!done);
}
#endif

// How CTAs share rows.
constexpr int ALONE = 0;    // they do not, or they write partial sums
constexpr int CLUSTER = 1;  // as a cluster; the rows of y are at least as many as the CTAs
constexpr int WIDE = 2;     // as ALONE, for more rows than threads: sums are kept in y or partials between rounds

// Sizes that are powers of two come as their logarithms.
struct Shape {
    int rounds;         // of each CTA
    int log_lanes;      // lanes that read a run
    int log_rows;       // rows of a CTA
    int log_row_lanes;  // lanes that add up a row, at most 5
    int log_shares;     // CTAs that share the rows
    int log_in_block;   // elements of x that a block covers
    int step, lead;     // share number s needs elements of x from s * step - lead on, at most `window`
    int window;
    int capacity;       // products of a round
    int out_rows, in_rows;
};

// Grid: jobs CTAs; job number strip * shares + share computes rows [strip * rows, strip * rows + rows) of y.
// in_ind, place   one element an entry, as stored. place[e]: rank of entry e among those of its round by row.
// runs            [job][round][slot][group of lanes]
// row_ptr         [job][round][rows + 1]: where the products of a row begin.
// partials        null, or [job][rows] where csb_add_shares adds the shares.
// Shared memory: products[capacity], inbox[rows] for CLUSTER, then x[window] when STAGE; all of type Sum<T>.
template <typename T, typename Index, int SLOTS, bool STAGE, int MODE>
__global__ void __launch_bounds__(512)
csb_spmv(const T* __restrict__ values, const Index* __restrict__ in_ind, const unsigned short* __restrict__ place,
         const Run* __restrict__ runs, const unsigned short* __restrict__ row_ptr, const Shape s,
         const T* __restrict__ x, T* __restrict__ y, Sum<T>* __restrict__ partials) {
    extern __shared__ __align__(16) unsigned char shared[];
    using S = Sum<T>;
    S* const products = reinterpret_cast<S*>(shared);
    S* const inbox = products + s.capacity;
    S* const staged = inbox + (MODE == CLUSTER ? 1 << s.log_rows : 0);
    const int tid = threadIdx.x, job = blockIdx.x;
    const int lane = tid & ((1 << s.log_lanes) - 1), groups = blockDim.x >> s.log_lanes;
    const int row = tid >> s.log_row_lanes, rows = 1 << s.log_rows;
    const int share = job & ((1 << s.log_shares) - 1);
    const Run* next = runs + size_t(job) * (s.rounds * SLOTS * groups) + (tid >> s.log_lanes);
    const unsigned short* at = row_ptr + size_t(job) * (s.rounds * (rows + 1)) + (MODE == WIDE ? 0 : row);
    const int x_begin = STAGE ? max(0, share * s.step - s.lead) : 0;
    const int first_row = job >> s.log_shares << s.log_rows;

#if __CUDA_ARCH__ >= 900
    __shared__ unsigned long long arrived;
    if constexpr (MODE == CLUSTER) {
        if (tid == 0) expect_sums(&arrived, int(sizeof(S)) << s.log_rows);
        __syncwarp();  // the barrier wants whole warps
        asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
    }
#endif
    S sum = 0;
    for (int round = 0; round < s.rounds; round++) {
        Run run[SLOTS];
        Pack<T> value[SLOTS];
        Pack<Index> in[SLOTS];
        Pack<unsigned short> to[SLOTS];
#pragma unroll
        for (int u = 0; u < SLOTS; u++) {
            const uint2 loaded = __ldg(reinterpret_cast<const uint2*>(next + u * groups));
            run[u] = Run{loaded.x, loaded.y};
        }
        // The row's limits are asked for now although they are needed last: the compiler would wait.
        int first = 0, last = 0;
        if (MODE != WIDE && row < rows) first = load_now(at), last = load_now(at + 1);
        if (STAGE && round == 0) ask_for_x<T>(staged, x + x_begin, min(s.window, s.in_rows - x_begin));
#pragma unroll
        for (int u = 0; u < SLOTS; u++) {
            // A lane without an entry reads the first pack of the run: no load waits for a condition.
            const bool has = 4 * lane < run[u].skew() + run[u].count();
            const size_t pack = size_t(run[u].pack) + (has ? lane : 0);
            value[u] = reinterpret_cast<const Pack<T>*>(values)[pack];
            in[u] = reinterpret_cast<const Pack<Index>*>(in_ind)[pack];
            to[u] = reinterpret_cast<const Pack<unsigned short>*>(place)[pack];
        }
        if (STAGE && round == 0) wait_for_x();
        // All of x is read before a product is stored: the compiler cannot know that they do not overlap.
        S factor[SLOTS][4];
#pragma unroll
        for (int u = 0; u < SLOTS; u++) {
            const int base = (run[u].block() << s.log_in_block) - x_begin;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                // An entry of another block in the same pack may point past the end of x; its product is dropped.
                const int from = base + in[u].at[i];
                if constexpr (STAGE) factor[u][i] = staged[from];
                else factor[u][i] = widen(x[min(from, s.in_rows - 1)]);
            }
        }
#pragma unroll
        for (int u = 0; u < SLOTS; u++) {
            const int before = 4 * lane - run[u].skew();  // entries of the run before this pack
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (unsigned(before + i) < unsigned(run[u].count()))
                    products[to[u].at[i]] = widen(value[u].at[i]) * factor[u][i];
        }
        __syncthreads();  // the products of the round are complete
        if constexpr (MODE == WIDE) {
            for (int r = tid; r < rows; r += blockDim.x) {
                S total = 0;
                for (int i = at[r]; i < at[r + 1]; i++) total += products[i];
                // Only this thread reads and writes the row, except for y of 16 bits, which takes partials.
                S* const kept = partials + (size_t(job) << s.log_rows) + r;
                *kept = round ? *kept + total : total;
            }
        } else {
            const int step = 1 << s.log_row_lanes;
            for (int i = first + (tid & (step - 1)); i < last; i += 4 * step) {
                S part[4];
#pragma unroll
                for (int u = 0; u < 4; u++) part[u] = i + u * step < last ? products[i + u * step] : S(0);
                sum += (part[0] + part[1]) + (part[2] + part[3]);
            }
        }
        if (round + 1 < s.rounds) {
            __syncthreads();  // they have been added before they are overwritten
            next += SLOTS * groups;
            at += rows + 1;
        }
    }
    if constexpr (MODE != WIDE) {
        for (int apart = 1 << s.log_row_lanes >> 1; apart; apart >>= 1) sum += __shfl_xor_sync(~0u, sum, apart);
        const bool holds = row < rows && (tid & ((1 << s.log_row_lanes) - 1)) == 0;
#if __CUDA_ARCH__ >= 900
        if constexpr (MODE == CLUSTER) {
            const int log_own = s.log_rows - s.log_shares;  // rows that a CTA of the cluster adds up
            asm volatile("barrier.cluster.wait.aligned;" ::: "memory");  // every CTA runs and expects sums
            const int slot = (share << log_own) + (row & ((1 << log_own) - 1));
            if (holds) send_sum(inbox + slot, &arrived, row >> log_own, sum);
            if (tid < 1 << log_own) {
                wait_for_sums(&arrived);
                constexpr int MOST_SHARES = 16;
                S part[MOST_SHARES], total = 0;
#pragma unroll
                for (int from = 0; from < MOST_SHARES; from++)
                    part[from] = from < 1 << s.log_shares ? inbox[(from << log_own) + tid] : S(0);
#pragma unroll
                for (int from = 0; from < MOST_SHARES; from++) total += part[from];
                const int out = first_row + (share << log_own) + tid;
                if (out < s.out_rows) store(y + out, total);
            }
        }
#endif
        if (MODE == ALONE && holds) {
            if (partials) partials[(size_t(job) << s.log_rows) + row] = sum;
            else if (first_row + row < s.out_rows) store(y + first_row + row, sum);
        }
    }
}

// y = the sums of the shares, added in the order of the shares. A thread a row.
template <typename T>
__global__ void __launch_bounds__(256)
csb_add_shares(const Sum<T>* __restrict__ partials, int log_rows, int shares, int out_rows, T* __restrict__ y) {
    const int out = blockIdx.x * blockDim.x + threadIdx.x;
    if (out >= out_rows) return;
    const int strip = out >> log_rows, row = out & ((1 << log_rows) - 1);
    Sum<T> total = 0;
    for (int share = 0; share < shares; share++)
        total += partials[((size_t(strip) * shares + share) << log_rows) + row];
    store(y + out, total);
}
