// Tiles for wgmma: classes of precision, the order inside a tile, splitting B, scattering compressed blocks of A.
// Included by csb_spmm_wgmma.cu, whose head explains KIND, halves, scales and flags.

constexpr int EDGE = 64;                                // of a block of A and of a tile of B
constexpr int B_PIECE = 64 * 64 * 2;                    // bytes of one half of a tile of B
[[maybe_unused]] constexpr int MAX_STAGES = 8;          // of either ring

using u8 = unsigned char;
using u16 = unsigned short;

template <int KIND>
struct Class {
    using Value = u16;  // float16 or bfloat16, by their bits
    static constexpr int HALVES = 1;
    static constexpr bool SCALED = false, BFLOAT = KIND == 3;
};
template <>
struct Class<0> {
    using Value = float;
    static constexpr int HALVES = 2;
    static constexpr bool SCALED = true, BFLOAT = false;
};
template <>
struct Class<1> {
    using Value = float;
    static constexpr int HALVES = 1;
    static constexpr bool SCALED = true, BFLOAT = false;
};

template <int KIND>
__device__ __forceinline__ float to_float(typename Class<KIND>::Value x) {
    if constexpr (KIND < 2)
        return x;
    else if constexpr (KIND == 2)
        return half_to_float(x);
    else
        return __uint_as_float(u32(x) << 16);
}
template <int KIND>
__device__ __forceinline__ u32 pack(float low, float high) {
    return Class<KIND>::BFLOAT ? pack_bfloat(low, high) : pack_half(low, high);
}

// ----------------------------------------------------------------------------------------------------------------
// The order inside a tile. Sums over "in" may be taken in any order, and columns of C may change places if they
// change back at the end. Both are used so that a thread of a warpgroup holds neighbours: position p = 16 * s + 8 * j +
// 2 * q + b of wgmma (j, b range [0, 2), q range [0, 4)) stands for index 16 * s + 4 * q + 2 * j + b. Then the four
// values that a thread needs of a row of A, and the four columns of C that it owns, are one 8- or 16-byte access.
__device__ __forceinline__ int position_of(int index) {
    return (index & ~15) | (index & 2) << 2 | (index & 12) >> 1 | (index & 1);
}

// ----------------------------------------------------------------------------------------------------------------
// A tile of B, 64 x 64, split by threads that have a sixteenth of 4 rows each: thread t row t / 4, columns
// [16 * (t % 4), + 16).
template <int KIND>
struct PartOfB {
    using Value = typename Class<KIND>::Value;
    static constexpr u32 INFINITE = KIND < 2 ? 0x7f800000u : KIND == 2 ? 0x7c00u : 0x7f80u;
    static constexpr u32 MAGNITUDE = KIND < 2 ? 0x7fffffffu : 0x7fffu;

    alignas(16) Value x[16];

    // What lies outside of B is zero.
    __device__ __forceinline__ void load(const Value* B, int row, int column, int in_rows, int n) {
        const Value* const from = B + size_t(row) * n + column;
        if (row < in_rows && column + 16 <= n && (reinterpret_cast<size_t>(from) & 15) == 0) {
#pragma unroll
            for (int i = 0; i < int(sizeof(x) / 16); i++)
                reinterpret_cast<uint4*>(x)[i] = reinterpret_cast<const uint4*>(from)[i];
        } else {
#pragma unroll
            for (int i = 0; i < 16; i++) x[i] = row < in_rows && column + i < n ? from[i] : Value(0);
        }
    }

    // Largest magnitude and, less one, smallest nonzero magnitude of the warp's rows, by their bits, which have the same
    // order; so zeros count as the largest number.
    __device__ __forceinline__ void extremes(u32& largest, u32& smallest) const {
        largest = 0, smallest = ~0u;
#pragma unroll
        for (int i = 0; i < 16; i++) {
            u32 bits;
            if constexpr (KIND < 2)
                bits = __float_as_uint(x[i]) & MAGNITUDE;
            else
                bits = x[i] & MAGNITUDE;
            largest = max(largest, bits);
            smallest = min(smallest, bits - 1);
        }
        largest = __reduce_max_sync(~0u, largest);
        smallest = __reduce_min_sync(~0u, smallest);
    }

    // The tile's scale, and what undoes it and A's; the latter is negative when the tile is flagged.
    static __device__ __forceinline__ float scale_of(u32 largest, u32 smallest, float inverse_a, float& inverse) {
        bool flagged = largest >= INFINITE;
        inverse = 1.0f;
        float scale = 1.0f;
        if constexpr (Class<KIND>::SCALED) {
            // 2^(14 - exponent of the largest), biased; at most 2^126, so that its inverse is a normal number.
            const int biased = largest == 0 ? 127 : min(268 - int(largest >> 23), 253);
            scale = flagged ? 0.0f : __uint_as_float(u32(biased) << 23);
            inverse = __uint_as_float(u32(254 - biased) << 23) * inverse_a;
            flagged |= smallest != ~0u && __uint_as_float(smallest + 1) * scale < 0x1p-14f;
            flagged |= inverse > 0x1.fffffep127f;  // beyond float32: zero times it would be NaN
        }
        if (flagged) inverse = -1.0f;
        return scale;
    }

    // The thread's share of the tile's image: chunks 2 * (t % 4) and the next of its row, of each half. Chunk
    // 2 * (t % 4) + j takes the columns 4 * q + 2 * j + {0, 1} of this thread's 16.
    __device__ __forceinline__ void split(float scale, uint4 (&hi)[2], uint4 (&lo)[2]) const {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            u32 h[4], l[4];
#pragma unroll
            for (int q = 0; q < 4; q++) {
                if constexpr (KIND >= 2) {
                    h[q] = u32(x[4 * q + 2 * j]) | u32(x[4 * q + 2 * j + 1]) << 16;
                    l[q] = 0;
                } else {
                    const float first = x[4 * q + 2 * j] * scale, second = x[4 * q + 2 * j + 1] * scale;
                    h[q] = pack_half(first, second);
                    l[q] = pack_half(first - half_to_float(h[q] & 0xffff), second - half_to_float(h[q] >> 16));
                }
            }
            hi[j] = make_uint4(h[0], h[1], h[2], h[3]), lo[j] = make_uint4(l[0], l[1], l[2], l[3]);
        }
    }

    __device__ __forceinline__ void write(uint4* image, int row, int t, float scale) const {
        const int position = position_of(row);
        uint4* const to = image + position * 8;
        uint4 hi[2], lo[2];
        split(scale, hi, lo);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int chunk = (t % 4 * 2 + j) ^ (position & 7);
            to[chunk] = hi[j];
            if constexpr (Class<KIND>::HALVES == 2) to[chunk + B_PIECE / 16] = lo[j];
        }
    }

    // The same for global memory: neighbouring lanes trade chunks so that they write whole 32-byte sectors together.
    __device__ __forceinline__ void write_sectors(uint4* image, int row, int t, float scale) const {
        const int position = position_of(row);
        uint4* const to = image + position * 8;
        uint4 hi[2], lo[2];
        split(scale, hi, lo);
        const bool odd = t & 1;
        trade(hi, odd);
        if constexpr (Class<KIND>::HALVES == 2) trade(lo, odd);
#pragma unroll
        for (int j = 0; j < 2; j++) {  // both lanes of a pair now write chunks of lane (t & ~1) + j
            const int chunk = (t % 4 / 2 * 4 + 2 * j + odd) ^ (position & 7);
            to[chunk] = hi[j];
            if constexpr (Class<KIND>::HALVES == 2) to[chunk + B_PIECE / 16] = lo[j];
        }
    }

    // The even lane gives its second chunk for the first one of the odd lane.
    static __device__ __forceinline__ void trade(uint4 (&chunk)[2], bool odd) {
        const uint4 given = odd ? chunk[0] : chunk[1];
        uint4 got;
        got.x = __shfl_xor_sync(~0u, given.x, 1), got.y = __shfl_xor_sync(~0u, given.y, 1);
        got.z = __shfl_xor_sync(~0u, given.z, 1), got.w = __shfl_xor_sync(~0u, given.w, 1);
        if (odd)
            chunk[0] = got;
        else
            chunk[1] = got;
    }
};

// ----------------------------------------------------------------------------------------------------------------
// Tiles of A in shared memory. Two halves: 32 bits a cell, hi below lo, cell (out, in) at word out * 64 +
// (in ^ (out & 31)); so both entries that follow each other in a row and entries that follow each other in a column
// fall into different banks, and so do the 16-byte reads of a warp. One half: 16 bits a cell, byte out * 128 +
// (2 * in ^ 4 * (out & 31)).
template <bool FIRST, typename A, typename B>
struct Select {
    using type = A;
};
template <typename A, typename B>
struct Select<false, A, B> {
    using type = B;
};

template <int HALVES>
struct Tile {
    static constexpr int BYTES = EDGE * EDGE * 2 * HALVES;

    // Which row of the tile a thread's row of wgmma stands for (h = 0; h = 1 is two rows further): bits chosen so
    // that the exclusive-or above separates the lanes that read together.
    static __device__ __forceinline__ int row_of(int thread) {
        const int lane_row = thread % 32 / 4, warp = thread / 32;
        return (lane_row & 1) << 4 | (lane_row & 2) << 2 | (lane_row & 4) | (warp & 1) | (warp & 2) << 4;
    }

    // What the thread needs of two of the four 16-deep steps, as it lies in the tile: at[step][h].
    using Words = typename Select<HALVES == 2, uint4, uint2>::type;
    struct Pair {
        Words at[2][2];

        // `tile` + the thread's offset within it; `first` is 0 or 2. The address of the second step differs in one bit.
        __device__ __forceinline__ void load(u32 base, u32 offset, int first) {
#pragma unroll
            for (int s = 0; s < 2; s++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    if constexpr (HALVES == 2)
                        at[s][h] = load128(base + h * 512 + (offset ^ (first + s) * 64));
                    else
                        at[s][h] = load64(base + h * 256 + (offset ^ ((first + s) * 32 | h << 3)));
                }
        }

        // The same in wgmma's order: hi[h + 2 * j], lo likewise. The lowest bit of the row swaps the words of a pair,
        // the next one, which is h, swaps the pairs.
        __device__ __forceinline__ void unpack(int s, bool odd, u32 (&hi)[4], u32 (&lo)[4]) const {
            const u32 low = odd ? 0x1054 : 0x5410, high = odd ? 0x3276 : 0x7632;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const Words v = at[s][h];
                if constexpr (HALVES == 2) {
                    const u32 a = h ? v.z : v.x, b = h ? v.w : v.y, c = h ? v.x : v.z, d = h ? v.y : v.w;
                    hi[h] = pick_bytes(a, b, low), lo[h] = pick_bytes(a, b, high);
                    hi[h + 2] = pick_bytes(c, d, low), lo[h + 2] = pick_bytes(c, d, high);
                } else {
                    hi[h] = odd ? v.y : v.x, hi[h + 2] = odd ? v.x : v.y;
                }
            }
        }
    };

    static __device__ __forceinline__ u32 base_of(int thread) { return row_of(thread) * (128 * HALVES); }
    static __device__ __forceinline__ u32 offset_of(int thread) {
        return (thread % 4 * (8 * HALVES)) ^ (row_of(thread) & 28) << 2;
    }
};

// Four neighbouring entries on their way into a tile: values, and four bytes of indices each.
template <int KIND>
struct Quad {
    typename Class<KIND>::Value value[4];
    u32 out, in;

    // Entries [e, e + 4) of the matrix; e is a multiple of 4, and all of them exist.
    __device__ __forceinline__ void load(const typename Class<KIND>::Value* __restrict__ values, const u8* __restrict__ out_ind,
                                         const u8* __restrict__ in_ind, int e) {
        out = __ldg(reinterpret_cast<const u32*>(out_ind + e)), in = __ldg(reinterpret_cast<const u32*>(in_ind + e));
        if constexpr (KIND < 2) {
            const float4 v = __ldg(reinterpret_cast<const float4*>(values + e));
            value[0] = v.x, value[1] = v.y, value[2] = v.z, value[3] = v.w;
        } else {
            const uint2 v = __ldg(reinterpret_cast<const uint2*>(values + e));
            value[0] = u16(v.x), value[1] = u16(v.x >> 16), value[2] = u16(v.y), value[3] = u16(v.y >> 16);
        }
    }

    // The last entries of the matrix, fewer than four.
    __device__ __forceinline__ void load_rest(const typename Class<KIND>::Value* __restrict__ values,
                                              const u8* __restrict__ out_ind, const u8* __restrict__ in_ind, int e,
                                              int entries) {
        out = in = 0;
#pragma unroll
        for (int i = 0; i < 3; i++)
            if (e + i < entries) {
                value[i] = values[e + i];
                out |= u32(out_ind[e + i]) << 8 * i, in |= u32(in_ind[e + i]) << 8 * i;
            }
    }

    // Whether one of those in [begin, end) does not fit A's scale.
    __device__ __forceinline__ bool is_out_of_range(int e, int begin, int end, float scale) const {
        bool out_of_range = false;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (u32(e + i - begin) >= u32(end - begin)) continue;
            const float x = fabsf(to_float<KIND>(value[i]));
            const float least = Class<KIND>::SCALED ? 0x1p-14f : 0.0f, most = Class<KIND>::SCALED ? 0x1p15f : 0x1.fffffep127f;
            out_of_range |= !(x * scale <= most) || (x != 0.0f && x * scale < least);
        }
        return out_of_range;
    }

    // Store those that belong to [begin, end) where they belong.
    __device__ __forceinline__ void scatter(u32 tile, int e, int begin, int end, float scale) const {
        constexpr bool TWO = Class<KIND>::HALVES == 2;
        // Four bytes at a time: the low byte of each offset, of which the high byte is `out`.
        const u32 low = TWO ? (in ^ (out & 0x1f1f1f1f)) << 2 : (in << 2) ^ (out & 0x1f1f1f1f) << 3;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            // Selectors 8 and above repeat a byte's sign, 0 because indices are below 64.
            u32 offset = pick_bytes(low, out, 0xCC40 + 0x1111 * i);
            if constexpr (!TWO) offset >>= 1;
            const bool mine = u32(e + i - begin) < u32(end - begin);
            if constexpr (TWO) {
                const float x = value[i] * scale;
                const float hi = half_to_float(pack_half(x, 0.0f));
                store32_if(mine, tile + offset, pack_half(hi, x - hi));
            } else if constexpr (KIND == 1) {
                store16_if(mine, tile + offset, pack_half(value[i] * scale, 0.0f));
            } else {
                store16_if(mine, tile + offset, value[i]);
            }
        }
    }
};

