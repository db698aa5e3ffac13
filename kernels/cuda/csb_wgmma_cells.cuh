// Tiles of A in shared memory as wgmma reads them, and which warps of a CTA do what. Included by csb_spmm_wgmma.cu.

// Warpgroups of a CTA by trade: consumers; producers of tiles of A; helpers, which clear tiles of A and start copies of B.
__host__ __device__ constexpr int consumer_groups(int rows, bool fused) { return rows == 2 || !fused ? 2 : 1; }
__host__ __device__ constexpr int producer_groups(int rows, int cols, bool fused) {
    return fused ? 4 - consumer_groups(rows, fused) : cols == 128 ? 2 : 3;
}
__host__ __device__ constexpr int groups_of(int rows, int cols, bool fused) {
    return consumer_groups(rows, fused) + producer_groups(rows, cols, fused) + (fused ? 0 : 1);
}
// Registers of a thread by its trade. All fit into what the threads of the launch hold, 64 Ki at most, and no trade may
// need more than it has: a tile's shared memory leaves so little L1 cache that spilled registers come from L2.
__host__ __device__ constexpr int consumer_registers(int cols, bool fused) { return fused ? 120 : cols == 128 ? 168 : 104; }
__host__ __device__ constexpr int producer_registers(int rows, int cols, bool fused) {
    return fused ? (rows == 2 ? 112 : 120) : cols == 128 ? 56 : 80;
}
constexpr int HELPER_REGISTERS = 24;

__device__ __forceinline__ void store_float4(u32 address, float4 v) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w) : "memory");
}

// 64 x 64 cells of 16 bits, one tile for each half. Rows of 128 bytes, of which the 16-byte chunk c of row r lies at
// r * 128 + (c ^ (r & 7)) * 16. A row of the tile is a row of the block as it is stored, so that a warp's stores fall into
// different banks: one of "out" for A·B, one of "in", at its position, for Aᵀ·B (SIDEWAYS).
constexpr int HALF_TILE = EDGE * EDGE * 2;

// Four neighbouring entries on their way into such a tile.
template <int KIND>
struct Cells : Quad<KIND> {
    using Value = typename Class<KIND>::Value;
    using Quad<KIND>::out;
    using Quad<KIND>::in;

    __device__ __forceinline__ void load(const Value* values, const u8* out_ind, const u8* in_ind, int e) {
        out = load_global(out_ind + e), in = load_global(in_ind + e);
        if constexpr (KIND < 2) {
            const float4 v = load_global4(values + e);
            this->value[0] = v.x, this->value[1] = v.y, this->value[2] = v.z, this->value[3] = v.w;
        } else {
            const uint2 v = load_global2(values + e);
            this->value[0] = u16(v.x), this->value[1] = u16(v.x >> 16), this->value[2] = u16(v.y), this->value[3] = u16(v.y >> 16);
        }
    }

    // One entry, of the rest of the matrix behind the last four.
    __device__ __forceinline__ void load_one(const Value* values, const u8* out_ind, const u8* in_ind, int e) {
        out = out_ind[e], in = in_ind[e], this->value[0] = values[e];
        this->value[1] = this->value[2] = this->value[3] = 0;
    }

    // Store those that belong to [begin, end) where they belong.
    template <bool SIDEWAYS>
    __device__ __forceinline__ void place(u32 tile, int e, int begin, int end, float scale) const {
        // Four bytes at a time: twice the place in the row and, above it, the row.
        u32 place, row = out;
        if constexpr (SIDEWAYS) {
            row = (in & 0x31313131) | (in & 0x02020202) << 2 | (in & 0x0c0c0c0c) >> 1;
            place = (out << 2) ^ (row & 0x07070707) << 5;
        } else {
            place = ((in & 0x31313131) << 2 | (in & 0x02020202) << 4 | (in & 0x0c0c0c0c) << 1) ^ (out & 0x07070707) << 5;
        }
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
            const u32 first = tile + (pick_bytes(place, row, 0x40CC + 0x1100 * i) >> 17);
            const u32 second = tile + (pick_bytes(place, row, 0x51CC + 0x1100 * i) >> 17);
            const bool first_mine = u32(e + i - begin) < u32(end - begin), second_mine = u32(e + i + 1 - begin) < u32(end - begin);
            if constexpr (KIND < 2) {
                const float x = this->value[i] * scale, y = this->value[i + 1] * scale;
                const u32 hi = pack_half(x, y);
                store16_if(first_mine, first, hi);
                store16_if(second_mine, second, hi >> 16);
                if constexpr (Class<KIND>::HALVES == 2) {
                    const u32 lo = pack_half(x - half_to_float(hi & 0xffff), y - half_to_float(hi >> 16));
                    store16_if(first_mine, first + HALF_TILE, lo);
                    store16_if(second_mine, second + HALF_TILE, lo >> 16);
                }
            } else {
                store16_if(first_mine, first, this->value[i]);
                store16_if(second_mine, second, this->value[i + 1]);
            }
        }
    }
};
