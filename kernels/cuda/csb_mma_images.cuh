// The images of B that csb_spmm_mma.cu multiplies with: 16-bit tiles in the order of shared memory.

#include "csb_mma_ptx.cuh"

// The images of B. CTA number k_tile * image_tiles + tile writes the image of rows [64 k_tile, + 64) and columns
// [64 tile, + 64) of B: for each image 8192 bytes of high halves, in class 0 another 8192 of low halves after them.
// factors  float[k_tiles][64 image_tiles], classes 0 and 1
// flags    int[k_tiles][image_tiles]: 1 where the image is unusable, and not written
// vector   whether rows of B begin on 16-byte boundaries
// Columns and rows outside B are zeros.

template <typename T>
__device__ __forceinline__ void load_8(T (&x)[8], const T* at, int left, bool vector) {
    if (vector && left >= 8) {
        constexpr int words = sizeof(T) / 2;  // 16-byte words
        uint4 w[words];
#pragma unroll
        for (int i = 0; i < words; i++) w[i] = __ldg(reinterpret_cast<const uint4*>(at) + i);
        const T* const from = reinterpret_cast<const T*>(w);
#pragma unroll
        for (int i = 0; i < 8; i++) x[i] = from[i];
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) x[i] = i < left ? __ldg(at + i) : T(0);
    }
}

template <int CLASS>
__global__ void __launch_bounds__(256)
csb_mma_images(const typename Numbers<CLASS>::Value* __restrict__ B, int inner, int n, int vector, int exponent_a,
               int image_tiles, uint4* __restrict__ images, float* __restrict__ factors, int* __restrict__ flags) {
    using N = Numbers<CLASS>;
    wait_for_kernel_before();  // it may write B or the values of A, or read older images
    let_dependents_start();
    const int tile = blockIdx.x % image_tiles, k_tile = blockIdx.x / image_tiles;
    const int chunk = threadIdx.x % 8, first_row = threadIdx.x / 8;  // 8 columns of rows first_row and + 32
    const int column = 64 * tile + 8 * chunk;

    typename N::Value x[2][8];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int k = 64 * k_tile + first_row + 32 * h;
        load_8(x[h], B + size_t(min(k, inner - 1)) * n + min(column, n - 1), k < inner ? n - column : 0, vector);
    }
    uint4* const image = images + size_t(blockIdx.x) * ((N::split ? 2 : 1) * IMAGE_BYTES / 16);
    if constexpr (N::scaled) {
        __shared__ u32 largest[64], smallest[64];  // bits of magnitudes; smallest nonzero minus 1
        __shared__ float scales[64];
        if (threadIdx.x < 64) largest[threadIdx.x] = 0, smallest[threadIdx.x] = 0xffffffff;
        __syncthreads();  // both are set before anyone adds
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const u32 a = __float_as_uint(x[0][i]) & 0x7fffffff, b = __float_as_uint(x[1][i]) & 0x7fffffff;
            u32 high = max(a, b), low = min(a - 1, b - 1);  // zero becomes the largest number
#pragma unroll
            for (int offset = 8; offset < 32; offset *= 2) {  // lanes with the same columns
                high = max(high, __shfl_xor_sync(0xffffffff, high, offset));
                low = min(low, __shfl_xor_sync(0xffffffff, low, offset));
            }
            if (threadIdx.x % 32 < 8) {
                atomicMax(largest + 8 * chunk + i, high);
                atomicMin(smallest + 8 * chunk + i, low);
            }
        }
        __syncthreads();  // all rows are in
        bool bad = false;
        if (threadIdx.x < 64) {
            const u32 high = largest[threadIdx.x];
            const int e = int(high >> 23) - 127;  // the largest magnitude is in [2^e, 2^(e+1))
            const int up = 14 - e, down = -(up + exponent_a);
            bad = high >= 0x7f800000 || (high && (e < -100 || down < -126 || down > 127));
            const bool usable = high && !bad;
            const float scale = usable ? power_of_two(up) : 0.0f;
            if (usable) bad = __uint_as_float(smallest[threadIdx.x] + 1) * scale < N::least_b;
            scales[threadIdx.x] = scale;
            factors[size_t(k_tile) * 64 * image_tiles + 64 * tile + threadIdx.x] = usable ? power_of_two(down) : 0.0f;
        }
        bad = __syncthreads_or(bad);  // and the scales are written
        if (threadIdx.x == 0) flags[blockIdx.x] = bad;
        if (bad) return;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int row = first_row + 32 * h;
            u32 high[4], low[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float2 scale = *reinterpret_cast<const float2*>(scales + 8 * chunk + 2 * i);
                const float a = x[h][2 * i] * scale.x, b = x[h][2 * i + 1] * scale.y;
                high[i] = to_halves(a, b);
                if constexpr (N::split)
                    low[i] = to_halves((a - from_half(u16(high[i]))) * N::low_scale,
                                       (b - from_half(u16(high[i] >> 16))) * N::low_scale);
            }
            uint4* const out = image + 8 * row + (chunk ^ (row & 7));
            out[0] = make_uint4(high[0], high[1], high[2], high[3]);
            if constexpr (N::split) out[IMAGE_BYTES / 16] = make_uint4(low[0], low[1], low[2], low[3]);
        }
    } else {
        bool bad = false;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int row = first_row + 32 * h;
            u32 pairs[4];
#pragma unroll
            for (int i = 0; i < 8; i++) bad |= (x[h][i] & 0x7fff) >= N::infinity;
#pragma unroll
            for (int i = 0; i < 4; i++) pairs[i] = x[h][2 * i] | u32(x[h][2 * i + 1]) << 16;
            image[8 * row + (chunk ^ (row & 7))] = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
        }
        bad = __syncthreads_or(bad);
        if (threadIdx.x == 0) flags[blockIdx.x] = bad;
    }
}
