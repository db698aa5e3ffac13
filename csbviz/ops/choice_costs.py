"""The costs of `choice_model`, in microseconds. Written by benchmarks/fit_choice.py; do not edit."""

from __future__ import annotations

__all__ = ["COSTS", "FACTORS", "FITTED_ON"]

FITTED_ON = "NVIDIA H100 80GB HBM3, 2026-11-24"
"""Device and date of the measurements."""

# fmt: off
COSTS: dict[str, dict[str, tuple[float, ...]]] = {
    "csb_few": {
        "tile_m=128 depth=1": (
            2, 0.9255, 1.109, 1.109, 0, 0.08203, 0.4815, 0.1583, 0, 0.7611, 0.8906, 0.6215, 0.9255, 0,
        ),
        "tile_m=128 depth=2": (
            1, 0.4441, 2.277, 1.139, 0.05089, 0.01545, 0.1377, 0.2677, 0, 0.00707, 0.2547, 0.117,
            0.8568, 0.1931,
        ),
        "tile_m=128 depth=4": (
            1, 0.1844, 3.211, 0.8027, 0.04624, 0.05427, 0, 0.3938, 0.4445, 0.09492, 0, 0.4111, 1.441, 0,
        ),
        "tile_m=64 depth=1": (
            2, 0.9553, 0.8357, 0.8357, 0, 0, 0.1843, 0, 0, 2.202, 0.3409, 0, 0.9553, 0.02933,
        ),
        "tile_m=64 depth=2": (
            1, 2.797, 0.5522, 0.2761, 0, 0.02758, 0.0877, 1.228, 0, 2.448, 0.1622, 0.209, 0.1608, 0,
        ),
        "tile_m=64 depth=4": (
            1, 0.451, 2.248, 0.5619, 0.06396, 0.002134, 0.02974, 0.4948, 0, 1.419, 0.05501, 0.01616,
            0.8534, 0,
        ),
    },
    "csb_few_tf32": {
        "tile_m=128 depth=1": (
            2, 0.8333, 1.09, 1.09, 0, 0.07171, 0.4129, 0.1735, 0, 0.5897, 0.7637, 0.5433, 0.8333, 0,
        ),
        "tile_m=128 depth=2": (
            1, 0.3207, 1.901, 0.9505, 0.06418, 0.02836, 0.1289, 0.2133, 0.01692, 0, 0.2385, 0.2148,
            0.9098, 0,
        ),
        "tile_m=128 depth=4": (
            1, 0.2949, 2.413, 0.6032, 0.05004, 0.01942, 0.02387, 0.5491, 0, 0.3549, 0.04416, 0.1471,
            1.04, 0,
        ),
        "tile_m=64 depth=1": (
            2, 0.9134, 0.8171, 0.8171, 0, 0, 0.2609, 0, 0, 1.431, 0.4826, 0, 0.9134, 0,
        ),
        "tile_m=64 depth=2": (
            1, 2.613, 0.3691, 0.1845, 0, 0.02727, 0.05622, 1.056, 0, 2.765, 0.104, 0.2066, 0.2606, 0,
        ),
        "tile_m=64 depth=4": (
            1, 0.53, 1.809, 0.4521, 0.04997, 0.02291, 0.002806, 0.5364, 0, 1.762, 0.00519, 0.1736,
            0.7128, 0,
        ),
    },
    "csb_mma": {
        "tile=128x128 stages=1": (
            1, 3.65, 1.391, 2.435, 0.1466, 0, 0, 0, 0, 1.2, 0.6615, 0, 4.561, 2.599,
        ),
        "tile=128x128 stages=2": (
            1, 5.396, 3.028, 2.134, 0, 0.05714, 0, 2.884, 0, 0.9392, 0.2268, 0.4329, 1.194, 4.229,
        ),
        "tile=128x128/32 stages=1": (
            1, 3.148, 0.3352, 2.85, 0.1396, 0.0397, 0, 1.561, 0.8427, 1.578, 0.2167, 0.3007, 5.466,
            1.119,
        ),
        "tile=128x128/32 stages=2": (
            1, 2.07, 3.443, 1.503, 0.1299, 0, 0, 2.365, 0, 0.6364, 1.094, 0, 4.775, 2.031,
        ),
        "tile=128x64 stages=1": (
            2, 4.76, 1.463, 1.327, 0.5613, 0, 0.3891, 4.648, 0, 1.258, 0, 0, 1.243, 2.524,
        ),
        "tile=128x64 stages=2": (
            2, 4.564, 1.11, 1.105, 0.204, 0.0113, 0, 4.35, 0.4783, 1.552, 1.192, 0.0856, 1.876, 3.097,
        ),
        "tile=128x64/32 stages=1": (
            2, 5.678, 0.3007, 2.207, 0.1756, 0.01244, 0, 4.5, 0.8172, 1.678, 0.4896, 0.09426, 0.7862,
            0.8895,
        ),
        "tile=128x64/32 stages=2": (
            2, 5.462, 0, 2.831, 0.04157, 0.05273, 0, 2.371, 0.7043, 2.076, 0, 0.3995, 0.1431, 2.896,
        ),
        "tile=64x128 stages=1": (
            2, 6.862, 0, 1.863, 0.3185, 0, 0, 3.2, 0.3012, 2.146, 0.1446, 0, 0, 2.196,
        ),
        "tile=64x128 stages=2": (
            2, 6.971, 0, 1.738, 0, 0.07782, 0, 4.006, 0.06123, 1.176, 0.2787, 0.5895, 0, 4.158,
        ),
        "tile=64x128/32 stages=1": (
            2, 4.636, 0, 2.242, 0, 0.07692, 0, 2.125, 1.682, 2.21, 0.129, 0.5827, 1.767, 0,
        ),
        "tile=64x128/32 stages=2": (
            2, 6.159, 0, 1.948, 0.1728, 0, 0, 3.279, 0.1479, 2.03, 0.3609, 0, 0, 1.509,
        ),
        "tile=64x64 stages=1": (
            8, 1.951, 1.951, 0.9729, 0.2326, 0.08072, 0.403, 8.195, 1.42, 0.972, 0, 0.6115, 1.912, 2.88,
        ),
        "tile=64x64 stages=2": (
            3, 1.369, 0, 1.677, 0, 0.1848, 0, 4.04, 0, 3.317, 0.3506, 1.4, 3.439, 0.5332,
        ),
    },
    "csb_mma_tf32": {
        "tile=128x128 stages=1": (
            1, 3.008, 2.309, 1.236, 0.1126, 0, 0, 0, 0, 1.362, 0.4288, 0, 4.319, 2.167,
        ),
        "tile=128x128 stages=2": (
            1, 4.219, 3.424, 0.8351, 0, 0.04272, 0, 2.468, 0, 0.7781, 0.3067, 0.3236, 2.274, 3.26,
        ),
        "tile=128x128/32 stages=1": (
            3, 0, 9.231, 0.4739, 0.2622, 0.02302, 1.348, 0, 0, 1.841, 0.03618, 0.1744, 0, 3.171,
        ),
        "tile=128x128/32 stages=2": (
            1, 2.862, 3.529, 0.5499, 0.1242, 0, 0, 1.914, 0, 1.031, 0.8057, 0, 3.618, 1.146,
        ),
        "tile=128x64 stages=1": (
            2, 4.104, 1.274, 0.9564, 0.4534, 0, 0.1808, 3.477, 0, 1.349, 0, 0, 1.871, 2.195,
        ),
        "tile=128x64 stages=2": (
            3, 4.258, 1.243, 0.5025, 0.192, 0.01251, 0, 3.69, 0, 2.258, 0.8306, 0.09475, 1.817, 1.318,
        ),
        "tile=128x64/32 stages=1": (
            2, 3.439, 1.43, 1.104, 0.1744, 0, 0, 2.999, 0.8143, 1.733, 0.1454, 0, 2.173, 0.5016,
        ),
        "tile=128x64/32 stages=2": (
            2, 4.39, 0, 1.555, 0.01106, 0.04076, 0, 1.77, 0.7335, 2.27, 0, 0.3088, 1.659, 1.718,
        ),
        "tile=64x128 stages=1": (
            2, 6.963, 0, 1.022, 0.2841, 0, 0, 2.55, 0.5247, 2.246, 0, 0, 0, 2.129,
        ),
        "tile=64x128 stages=2": (
            2, 6.834, 0.1871, 0.906, 0, 0.06531, 0, 3.245, 0.2022, 1.608, 0.07213, 0.4948, 0, 3.818,
        ),
        "tile=64x128/32 stages=1": (
            2, 4.342, 0.245, 1.205, 0.01593, 0.0862, 0, 2.465, 0.4314, 2.232, 0.05783, 0.653, 1.9, 0,
        ),
        "tile=64x128/32 stages=2": (
            2, 6.253, 0, 1.075, 0.1989, 0, 0, 2.595, 0.1495, 2.399, 0.163, 0, 0, 0.9324,
        ),
        "tile=64x64 stages=1": (
            8, 1.866, 1.866, 0.771, 0.06167, 0.06368, 0.118, 4.454, 1.819, 1.78, 0, 0.4825, 1.908,
            2.221,
        ),
        "tile=64x64 stages=2": (
            8, 0.2116, 0.2116, 1.057, 0.0258, 0.07472, 0, 4.22, 2.449, 2.509, 0.2095, 0.5661, 3.92,
            1.753,
        ),
    },
    "csb_rows": {
        "direct 128": (
            1, 1.532, 0.4393, 0, 0.7396, 0.2844, 0.06574, 8.415, 0, 0.8834, 0, 0.7408, 0.02299, 0.1425,
            0, 0.03098, 0, 0.2204, 0, 0.6902,
        ),
        "direct 32": (
            1, 1.68, 0.3557, 0, 0.7482, 0.3717, 0.08593, 2.75, 0, 0.3131, 0, 0.09904, 0.3044, 0.4196, 0,
            0.2015, 0, 0, 0.1911, 0.9784,
        ),
        "direct 64": (
            1, 1.425, 0.4274, 0.02503, 0.8236, 0.3488, 0.08065, 5.162, 0, 0.4285, 0, 0.6006, 0.01417,
            0.5428, 0, 0.01458, 0.1447, 0, 0, 0.6695,
        ),
        "panel 32": (
            1, 1.76, 0, 0.8511, 0.1767, 0, 7.07, 0.1767, 0.1141, 5.567, 2.202, 0.246, 0.1897, 0, 0,
        ),
        "panel 64": (
            1, 1.615, 0, 0.6841, 0.5697, 0, 8.05, 0, 0.1771, 8.892, 1.369, 0.006293, 0.6791, 0, 0,
        ),
        "pieces 128": (
            1, 1.529, 0.2383, 0.5679, 0.003443, 0, 0.2665, 0, 0, 0, 1.472, 0.238, 0, 0, 0, 0.04736,
        ),
        "pieces 32": (
            1, 1.996, 0.06345, 0.04153, 0.01745, 0, 0.3533, 0, 0, 0, 0.8234, 0.06179, 0, 0, 0.5624, 0,
        ),
        "pieces 64": (
            1, 1.706, 0.5154, 0.1633, 0, 0, 0.2671, 0.0669, 0, 0, 0.956, 0.1269, 0, 0, 0.07391, 0,
        ),
    },
    "csb_wgmma": {
        "tile_m=128 tile_n=128 cluster=1 prepass=1": (
            1, 2.248, 2.699, 1.188, 0.09342, 0, 0.0586, 2.252, 0, 1.934, 0, 0, 1.496, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=0": (
            1, 0, 3.768, 1.405, 0.1005, 0, 0, 0, 0.8191, 0.7339, 0, 0, 1.797, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=1": (
            1, 3.081, 1.257, 1.084, 0.0938, 0, 0, 2.049, 0, 3.939, 0, 0, 0.6376, 0.06538,
        ),
        "tile_m=64 tile_n=128 cluster=1 prepass=1": (
            1, 3.497, 1.128, 0.8699, 0.03705, 0.01908, 0, 2.272, 0, 4.426, 0, 0.1445, 0.4721, 0,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=0": (
            1, 3.089, 1.045, 0.9518, 0.06894, 0.006653, 0, 0, 0, 4.655, 0, 0.0504, 0.2553, 0.003521,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=1": (
            1, 3.507, 0.7234, 0.7068, 0.0391, 0.01371, 0, 1.5, 0, 6.669, 0, 0.1038, 0, 0.228,
        ),
    },
    "csb_wgmma_tf32": {
        "tile_m=128 tile_n=128 cluster=1 prepass=1": (
            1, 2.784, 2.203, 0.8072, 0.05689, 0, 0.01173, 1.096, 0.0007708, 1.573, 0.04893, 0, 1.562, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=0": (
            1, 0, 3.773, 1.062, 0.08628, 0, 0, 0, 0.787, 0.4179, 0, 0, 1.564, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=1": (
            1, 3.154, 1.224, 0.7108, 0.04289, 0, 0, 1.046, 0, 3.42, 0, 0, 0.5151, 0.04317,
        ),
        "tile_m=64 tile_n=128 cluster=1 prepass=1": (
            1, 3.141, 1.448, 0.6205, 0.04165, 0, 0, 1.071, 0, 3.442, 0, 0, 0.5417, 0,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=0": (
            1, 2.191, 1.716, 0.7527, 0.08094, 0, 0, 0, 0, 2.423, 0.04092, 0, 0.8418, 0,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=1": (
            1, 2.994, 0.957, 0.5929, 0.0185, 0.006094, 0, 0.7759, 0, 4.708, 0, 0.04616, 0.4794, 0.1695,
        ),
    },
}
"""Kernel → group of launches → CTAs that a multiprocessor runs at once, then the cost of each term."""

FACTORS: dict[str, dict[str, float]] = {
    "csb_mma": {
        "tile=64x64 stages=1": 0.9914,
    },
    "csb_mma_tf32": {
        "tile=64x64 stages=1": 0.9512,
    },
    "csb_rows": {
        "form=direct tile_n=128 warps=4 split=1": 1.047,
        "form=direct tile_n=128 warps=4 split=2": 1.074,
        "form=direct tile_n=128 warps=4 split=4": 1.065,
        "form=direct tile_n=128 warps=8 split=1": 1.006,
        "form=direct tile_n=128 warps=8 split=2": 1.026,
        "form=direct tile_n=128 warps=8 split=4": 1.006,
        "form=direct tile_n=32 warps=4 split=1": 1.05,
        "form=direct tile_n=32 warps=4 split=2": 1.049,
        "form=direct tile_n=32 warps=4 split=4": 1.02,
        "form=direct tile_n=32 warps=8 split=1": 0.9939,
        "form=direct tile_n=32 warps=8 split=2": 0.9763,
        "form=direct tile_n=64 warps=4 split=1": 1.046,
        "form=direct tile_n=64 warps=4 split=2": 1.079,
        "form=direct tile_n=64 warps=4 split=4": 1.098,
        "form=direct tile_n=64 warps=8 split=1": 1,
        "form=direct tile_n=64 warps=8 split=2": 1.008,
        "form=direct tile_n=64 warps=8 split=4": 0.9816,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=256 column_tiles=1 buffers=1 resident=True": 1.09,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=256 column_tiles=1 buffers=2 resident=True": 1.066,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True": 1.086,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=2 resident=True": 1.05,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=False": 1.064,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=False": 1.078,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=False": 1.008,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True": 1.007,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=512 column_tiles=4 buffers=1 resident=True": 0.998,
        "form=panel tile_m=128 tile_n=64 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True": 1.063,
        "form=panel tile_m=256 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True": 1.056,
        "form=panel tile_m=256 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=2 resident=True": 1.019,
        "form=panel tile_m=256 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=False": 1.06,
        "form=panel tile_m=256 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=False": 1.061,
        "form=panel tile_m=256 tile_n=64 warps=16 chunk_k=512 column_tiles=2 buffers=1 resident=True": 1.003,
        "form=panel tile_m=256 tile_n=64 warps=32 chunk_k=256 column_tiles=2 buffers=1 resident=True": 1.012,
        "form=panel tile_m=256 tile_n=64 warps=32 chunk_k=256 column_tiles=2 buffers=2 resident=True": 0.9971,
        "form=panel tile_m=256 tile_n=64 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True": 1.052,
        "form=panel tile_m=512 tile_n=64 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True": 1.086,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=False": 1.063,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=True": 0.9584,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=False": 1.081,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=True": 0.9626,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=False": 1.032,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True": 0.9801,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=2 resident=False": 1.059,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=2 resident=True": 0.9804,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=True": 0.9825,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=True": 0.9646,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=False": 1.002,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True": 0.9957,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=512 column_tiles=2 buffers=1 resident=True": 0.9712,
        "form=pieces tile_n=128 warps=16 length=16": 1.062,
        "form=pieces tile_n=128 warps=16 length=8": 1.024,
        "form=pieces tile_n=128 warps=4 length=16": 0.9696,
        "form=pieces tile_n=128 warps=8 length=16": 0.9798,
        "form=pieces tile_n=128 warps=8 length=8": 0.9892,
        "form=pieces tile_n=32 warps=16 length=4": 1.006,
        "form=pieces tile_n=32 warps=16 length=8": 1.053,
        "form=pieces tile_n=32 warps=4 length=4": 0.998,
        "form=pieces tile_n=32 warps=4 length=8": 0.9967,
        "form=pieces tile_n=32 warps=8 length=4": 0.998,
        "form=pieces tile_n=32 warps=8 length=8": 1,
        "form=pieces tile_n=64 warps=16 length=16": 1.1,
        "form=pieces tile_n=64 warps=16 length=8": 1.018,
        "form=pieces tile_n=64 warps=4 length=16": 0.9809,
        "form=pieces tile_n=64 warps=4 length=8": 0.9658,
        "form=pieces tile_n=64 warps=8 length=16": 1.029,
        "form=pieces tile_n=64 warps=8 length=8": 0.9741,
    },
}
"""Kernel → configuration → factor on its group's prediction."""
# fmt: on
