// Transposition of a dense matrix, with a number added to each row: out[c][r] = in[r][c] + bias[r].
// A layer whose activations have a row for each token turns them so that its sparse product can read whole rows, and
// turns the result back; the bias goes along.
//
// A CTA takes a tile of 32 x 32 through shared memory: a thread reads four neighbours of a row of `in`, and writes four
// neighbours of a row of `out`, so that both sides move whole 128-byte lines. Each tile has one owner.
// in is rows x columns, out is columns x rows, row-major, contiguous.

constexpr int TILE = 32;
constexpr int QUADS = TILE / 4;  // threads along a row of a tile

template <typename T>
struct alignas(16) Four {
    T at[4];
};

// VECTOR = 4: rows and columns are multiples of 4 and the arrays begin at 16-byte boundaries. VECTOR = 1: any size.
// bias has one number a row of `in`, or is null. CTA number blockIdx.x is tile (b / tiles, b % tiles) of `in`, with
// `tiles` tiles in a row; blockDim.x = TILE * QUADS = 256.
template <typename T, int VECTOR>
__global__ void __launch_bounds__(256)
csb_transpose(const T* __restrict__ in, const T* __restrict__ bias, T* __restrict__ out, int rows, int columns,
              int tiles) {
    static_assert(VECTOR == 1 || VECTOR == 4, "a thread moves one number or four at a time");
    __shared__ T tile[TILE][TILE + 1];  // one more a row: the four rows that a thread reads lie in different banks
    const int first_row = blockIdx.x / tiles * TILE, first_column = blockIdx.x % tiles * TILE;
    const int line = threadIdx.x / QUADS, quad = threadIdx.x % QUADS * 4;

    const int row = first_row + line, column = first_column + quad;
    if (row < rows && column < columns) {
        const T* const from = in + size_t(row) * columns + column;
        const T added = bias ? bias[row] : T(0);
        if constexpr (VECTOR == 4) {
            const Four<T> x = *reinterpret_cast<const Four<T>*>(from);
#pragma unroll
            for (int i = 0; i < 4; i++) tile[line][quad + i] = bias ? x.at[i] + added : x.at[i];
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (column + i < columns) tile[line][quad + i] = bias ? from[i] + added : from[i];
        }
    }
    __syncthreads();  // the tile is complete

    const int out_row = first_column + line, out_column = first_row + quad;
    if (out_row < columns && out_column < rows) {
        T* const to = out + size_t(out_row) * rows + out_column;
        if constexpr (VECTOR == 4) {
            Four<T> x;
#pragma unroll
            for (int i = 0; i < 4; i++) x.at[i] = tile[quad + i][line];
            *reinterpret_cast<Four<T>*>(to) = x;
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (out_column + i < rows) to[i] = tile[quad + i][line];
        }
    }
}
