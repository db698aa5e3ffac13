// What the kernels on CUDA cores share: 16 bytes of a row, and loads that stay where they are written.

// 16 bytes of a row of B or C.
template <typename T>
struct alignas(16) Vector {
    static constexpr int SIZE = 16 / sizeof(T);
    T at[SIZE];
};

// Loads that stay where they are. The compiler would move an ordinary one to where its value is used, behind a
// condition, and then each waits for the one before.
template <typename T>
__device__ __forceinline__ Vector<T> load_vector(const T* at) {
    uint4 x;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(at));
    Vector<T> v;
    memcpy(&v, &x, sizeof v);
    return v;
}
__device__ __forceinline__ float load_one(const float* at) {
    float x;
    asm volatile("ld.global.f32 %0, [%1];" : "=f"(x) : "l"(at));
    return x;
}
__device__ __forceinline__ double load_one(const double* at) {
    double x;
    asm volatile("ld.global.f64 %0, [%1];" : "=d"(x) : "l"(at));
    return x;
}

template <typename T>
__device__ __forceinline__ void multiply_add(Vector<T>& sum, T value, const Vector<T>& x) {
#pragma unroll
    for (int i = 0; i < Vector<T>::SIZE; i++) sum.at[i] += value * x.at[i];
}

// A lane's sums, from its first column of n on: side by side, or STEP columns apart where rows of C do not begin on
// 16-byte boundaries.
template <bool ALIGNED, int STEP, typename T>
__device__ __forceinline__ void store_vector(T* out, const Vector<T>& sum, int column, int n) {
    if constexpr (ALIGNED) {
        if (column < n) *reinterpret_cast<Vector<T>*>(out) = sum;
    } else {
#pragma unroll
        for (int c = 0; c < Vector<T>::SIZE; c++)
            if (column + c * STEP < n) out[c * STEP] = sum.at[c];
    }
}
