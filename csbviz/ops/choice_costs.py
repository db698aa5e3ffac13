"""The costs of `choice_model`, in microseconds. Written by benchmarks/fit_choice.py; do not edit."""

from __future__ import annotations

__all__ = ["COSTS", "FACTORS", "FITTED_ON"]

FITTED_ON = "NVIDIA H100 80GB HBM3, 2026-11-24"
"""Device and date of the measurements."""

# fmt: off
COSTS: dict[str, dict[str, tuple[float, ...]]] = {
    "csb_mma": {
        "tile=128x128 stages=1": (
            1, 3.65, 1.391, 2.435, 0.1466, 0, 0, 0, 0, 1.2,
            0.6615, 0, 4.561, 2.599,
        ),
        "tile=128x128 stages=2": (
            1, 5.396, 3.028, 2.134, 0, 0.05714, 0, 2.884, 0, 0.9392,
            0.2268, 0.4329, 1.194, 4.229,
        ),
        "tile=128x128/32 stages=1": (
            1, 3.148, 0.3352, 2.85, 0.1396, 0.0397, 0, 1.561, 0.8427, 1.578,
            0.2167, 0.3007, 5.466, 1.119,
        ),
        "tile=128x128/32 stages=2": (
            1, 2.07, 3.443, 1.503, 0.1299, 0, 0, 2.365, 0, 0.6364,
            1.094, 0, 4.775, 2.031,
        ),
        "tile=128x64 stages=1": (
            2, 4.76, 1.463, 1.327, 0.5613, 0, 0.3891, 4.648, 0, 1.258,
            0, 0, 1.243, 2.524,
        ),
        "tile=128x64 stages=2": (
            2, 4.564, 1.11, 1.105, 0.204, 0.0113, 0, 4.35, 0.4783, 1.552,
            1.192, 0.0856, 1.876, 3.097,
        ),
        "tile=128x64/32 stages=1": (
            2, 5.678, 0.3007, 2.207, 0.1756, 0.01244, 0, 4.5, 0.8172, 1.678,
            0.4896, 0.09426, 0.7862, 0.8895,
        ),
        "tile=128x64/32 stages=2": (
            2, 5.462, 0, 2.831, 0.04157, 0.05273, 0, 2.371, 0.7043, 2.076,
            0, 0.3995, 0.1431, 2.896,
        ),
        "tile=64x128 stages=1": (
            2, 6.862, 0, 1.863, 0.3185, 0, 0, 3.2, 0.3012, 2.146,
            0.1446, 0, 0, 2.196,
        ),
        "tile=64x128 stages=2": (
            2, 6.971, 0, 1.738, 0, 0.07782, 0, 4.006, 0.06123, 1.176,
            0.2787, 0.5895, 0, 4.158,
        ),
        "tile=64x128/32 stages=1": (
            2, 4.636, 0, 2.242, 0, 0.07692, 0, 2.125, 1.682, 2.21,
            0.129, 0.5827, 1.767, 0,
        ),
        "tile=64x128/32 stages=2": (
            2, 6.159, 0, 1.948, 0.1728, 0, 0, 3.279, 0.1479, 2.03,
            0.3609, 0, 0, 1.509,
        ),
        "tile=64x64 stages=1": (
            8, 1.951, 1.951, 0.9729, 0.2326, 0.08072, 0.403, 8.195, 1.42, 0.972,
            0, 0.6115, 1.912, 2.88,
        ),
        "tile=64x64 stages=2": (
            3, 1.369, 0, 1.677, 0, 0.1848, 0, 4.04, 0, 3.317,
            0.3506, 1.4, 3.439, 0.5332,
        ),
    },
    "csb_mma_tf32": {
        "tile=128x128 stages=1": (
            1, 3.008, 2.309, 1.236, 0.1126, 0, 0, 0, 0, 1.362,
            0.4288, 0, 4.319, 2.167,
        ),
        "tile=128x128 stages=2": (
            1, 4.219, 3.424, 0.8351, 0, 0.04272, 0, 2.468, 0, 0.7781,
            0.3067, 0.3236, 2.274, 3.26,
        ),
        "tile=128x128/32 stages=1": (
            3, 0, 9.231, 0.4739, 0.2622, 0.02302, 1.348, 0, 0, 1.841,
            0.03618, 0.1744, 0, 3.171,
        ),
        "tile=128x128/32 stages=2": (
            1, 2.862, 3.529, 0.5499, 0.1242, 0, 0, 1.914, 0, 1.031,
            0.8057, 0, 3.618, 1.146,
        ),
        "tile=128x64 stages=1": (
            2, 4.104, 1.274, 0.9564, 0.4534, 0, 0.1808, 3.477, 0, 1.349,
            0, 0, 1.871, 2.195,
        ),
        "tile=128x64 stages=2": (
            3, 4.258, 1.243, 0.5025, 0.192, 0.01251, 0, 3.69, 0, 2.258,
            0.8306, 0.09475, 1.817, 1.318,
        ),
        "tile=128x64/32 stages=1": (
            2, 3.439, 1.43, 1.104, 0.1744, 0, 0, 2.999, 0.8143, 1.733,
            0.1454, 0, 2.173, 0.5016,
        ),
        "tile=128x64/32 stages=2": (
            2, 4.39, 0, 1.555, 0.01106, 0.04076, 0, 1.77, 0.7335, 2.27,
            0, 0.3088, 1.659, 1.718,
        ),
        "tile=64x128 stages=1": (
            2, 6.963, 0, 1.022, 0.2841, 0, 0, 2.55, 0.5247, 2.246,
            0, 0, 0, 2.129,
        ),
        "tile=64x128 stages=2": (
            2, 6.834, 0.1871, 0.906, 0, 0.06531, 0, 3.245, 0.2022, 1.608,
            0.07213, 0.4948, 0, 3.818,
        ),
        "tile=64x128/32 stages=1": (
            2, 4.342, 0.245, 1.205, 0.01593, 0.0862, 0, 2.465, 0.4314, 2.232,
            0.05783, 0.653, 1.9, 0,
        ),
        "tile=64x128/32 stages=2": (
            2, 6.253, 0, 1.075, 0.1989, 0, 0, 2.595, 0.1495, 2.399,
            0.163, 0, 0, 0.9324,
        ),
        "tile=64x64 stages=1": (
            8, 1.866, 1.866, 0.771, 0.06167, 0.06368, 0.118, 4.454, 1.819, 1.78,
            0, 0.4825, 1.908, 2.221,
        ),
        "tile=64x64 stages=2": (
            8, 0.2116, 0.2116, 1.057, 0.0258, 0.07472, 0, 4.22, 2.449, 2.509,
            0.2095, 0.5661, 3.92, 1.753,
        ),
    },
    "csb_rows": {
        "direct 128": (
            1, 1.176, 0.4839, 0.04745, 0, 0.3274, 0.0757, 9.689, 0, 0.9115,
            0, 0.8285, 0.5117, 0.8896, 0, 0, 0, 0.1171, 0.1692, 0.7121,
        ),
        "direct 32": (
            1, 1.846, 0.3558, 0, 2.101, 0.628, 0.1452, 4.646, 0, 0,
            0, 0, 0.1799, 1.223, 0, 0, 0.1942, 0, 0, 0,
        ),
        "direct 64": (
            1, 1.316, 0.4649, 0.03475, 0.673, 0.3986, 0.09216, 5.898, 0, 0.2737,
            0, 0.7932, 0.1014, 1.003, 0, 0, 0.0565, 0.05561, 0, 0.4276,
        ),
        "panel 32": (
            1, 1.987, 0.1437, 0.8804, 0.1074, 0, 6.415, 0.1074, 0.102, 3.291,
            1.915, 0.4082, 0.2352, 0, 0,
        ),
        "panel 64": (
            1, 2.366, 0, 0.5635, 0.3245, 0, 11.3, 0.2011, 0.0866, 5.306,
            0.8038, 0, 0.7218, 0, 0,
        ),
    },
    "csb_wgmma": {
        "tile_m=128 tile_n=128 cluster=1 prepass=1": (
            1, 1.029, 3.674, 1.31, 0.06763, 0.01429, 0, 3.252, 0, 1.236,
            0, 0.1082, 2.087, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=0": (
            1, 1.593, 2.519, 1.38, 0.1103, 0, 0, 0.2061, 0, 2.359,
            0, 0, 0.7236, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=1": (
            1, 2.668, 1.757, 1.001, 0.06997, 0, 0, 3.126, 0, 3,
            0.02119, 0, 0.5203, 0,
        ),
        "tile_m=64 tile_n=128 cluster=1 prepass=1": (
            1, 2.402, 2.148, 1.033, 0.04482, 0, 0, 3.324, 0, 2.68,
            0, 0, 0.816, 0,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=0": (
            1, 3.12, 0.8112, 1.043, 0.1009, 0, 0, 0, 0, 8.266,
            0, 0, 0, 0.02329,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=1": (
            1, 3.135, 0.8972, 0.7923, 0.04108, 0, 0, 2.716, 0, 7.133,
            0, 0, 0.1157, 0.1067,
        ),
    },
    "csb_wgmma_tf32": {
        "tile_m=128 tile_n=128 cluster=1 prepass=1": (
            1, 1.447, 3.284, 0.8554, 0.06783, 0, 0, 1.115, 0, 1.362,
            0, 0, 1.795, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=0": (
            1, 1.652, 2.408, 1.058, 0.08784, 0, 0, 0.2445, 0, 2.265,
            0.0004367, 0, 0.6704, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=1": (
            1, 2.837, 1.603, 0.6612, 0.05718, 0, 0, 1.298, 0, 3.021,
            0, 0, 0.5069, 0,
        ),
        "tile_m=64 tile_n=128 cluster=1 prepass=1": (
            1, 2.533, 1.995, 0.6729, 0.03213, 0, 0, 1.35, 0, 2.747,
            0, 0, 0.7976, 0,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=0": (
            1, 2.967, 0.6851, 0.8598, 0.1066, 0, 0, 0, 0, 7.522,
            0, 0, 0.07619, 0.02715,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=1": (
            1, 2.971, 0.9898, 0.5876, 0.02713, 0, 0, 1.037, 0, 6.89,
            0, 0, 0.2498, 0.1341,
        ),
    },
}
"""Kernel → group of launches → CTAs that a multiprocessor runs at once, then the cost of each term."""

FACTORS: dict[str, dict[str, float]] = {
    "csb_mma": {
        "tile=64x64 stages=1":
            0.9914,
    },
    "csb_mma_tf32": {
        "tile=64x64 stages=1":
            0.9512,
    },
    "csb_rows": {
        "form=direct tile_n=128 warps=4 split=1":
            0.9637,
        "form=direct tile_n=128 warps=4 split=2":
            1.079,
        "form=direct tile_n=128 warps=4 split=4":
            1.034,
        "form=direct tile_n=128 warps=8 split=1":
            0.8973,
        "form=direct tile_n=128 warps=8 split=2":
            0.9958,
        "form=direct tile_n=128 warps=8 split=4":
            0.929,
        "form=direct tile_n=32 warps=4 split=1":
            0.9952,
        "form=direct tile_n=32 warps=4 split=2":
            1.036,
        "form=direct tile_n=32 warps=4 split=4":
            1.008,
        "form=direct tile_n=32 warps=8 split=1":
            0.999,
        "form=direct tile_n=64 warps=4 split=1":
            1.072,
        "form=direct tile_n=64 warps=4 split=2":
            1.156,
        "form=direct tile_n=64 warps=4 split=4":
            1.238,
        "form=direct tile_n=64 warps=8 split=1":
            0.9184,
        "form=direct tile_n=64 warps=8 split=2":
            0.9813,
        "form=direct tile_n=64 warps=8 split=4":
            0.8898,
        "form=panel tile_m=128 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.024,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=256 column_tiles=1 buffers=1 resident=True":
            1.035,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=256 column_tiles=1 buffers=2 resident=True":
            1.048,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.056,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=2 resident=True":
            1.041,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=False":
            0.9892,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=False":
            1.119,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=256 column_tiles=4 buffers=2 resident=True":
            0.9798,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=False":
            0.9709,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            0.9084,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=512 column_tiles=4 buffers=1 resident=True":
            0.9808,
        "form=panel tile_m=128 tile_n=64 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.01,
        "form=panel tile_m=128 tile_n=64 warps=8 chunk_k=128 column_tiles=1 buffers=2 resident=False":
            0.9964,
        "form=panel tile_m=128 tile_n=64 warps=8 chunk_k=256 column_tiles=1 buffers=2 resident=False":
            1.02,
        "form=panel tile_m=128 tile_n=64 warps=8 chunk_k=256 column_tiles=4 buffers=2 resident=True":
            0.9934,
        "form=panel tile_m=128 tile_n=64 warps=8 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            0.9828,
        "form=panel tile_m=256 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            0.9868,
        "form=panel tile_m=256 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.017,
        "form=panel tile_m=256 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=2 resident=True":
            1.054,
        "form=panel tile_m=256 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=False":
            1.113,
        "form=panel tile_m=256 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            0.9922,
        "form=panel tile_m=256 tile_n=64 warps=16 chunk_k=512 column_tiles=2 buffers=1 resident=True":
            1.001,
        "form=panel tile_m=256 tile_n=64 warps=32 chunk_k=256 column_tiles=2 buffers=2 resident=True":
            1.051,
        "form=panel tile_m=256 tile_n=64 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            0.9874,
        "form=panel tile_m=512 tile_n=64 warps=32 chunk_k=256 column_tiles=1 buffers=1 resident=True":
            0.9956,
        "form=panel tile_m=512 tile_n=64 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.053,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=True":
            0.9691,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=False":
            1.078,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=True":
            0.9241,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=False":
            0.9961,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            0.9413,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=2 resident=True":
            0.9441,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=4 buffers=1 resident=True":
            0.972,
        "form=panel tile_m=64 tile_n=32 warps=4 chunk_k=128 column_tiles=1 buffers=1 resident=True":
            0.9806,
        "form=panel tile_m=64 tile_n=32 warps=4 chunk_k=256 column_tiles=1 buffers=1 resident=True":
            1.004,
        "form=panel tile_m=64 tile_n=32 warps=4 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.069,
        "form=panel tile_m=64 tile_n=32 warps=4 chunk_k=512 column_tiles=1 buffers=2 resident=False":
            1.045,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=True":
            0.941,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=True":
            0.9285,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=False":
            0.9782,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.015,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=512 column_tiles=2 buffers=1 resident=True":
            0.9876,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=512 column_tiles=8 buffers=1 resident=True":
            1.01,
        "form=panel tile_m=64 tile_n=64 warps=4 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.151,
    },
    "csb_wgmma": {
        "tile_m=128 tile_n=128 cluster=1 prepass=1":
            0.9204,
        "tile_m=128 tile_n=64 cluster=1 prepass=0":
            0.9934,
        "tile_m=128 tile_n=64 cluster=1 prepass=1":
            1.031,
        "tile_m=64 tile_n=128 cluster=1 prepass=1":
            0.9069,
        "tile_m=64 tile_n=64 cluster=1 prepass=0":
            0.9429,
        "tile_m=64 tile_n=64 cluster=1 prepass=1":
            0.9134,
    },
    "csb_wgmma_tf32": {
        "tile_m=128 tile_n=128 cluster=1 prepass=1":
            0.9625,
        "tile_m=128 tile_n=64 cluster=1 prepass=0":
            0.9648,
        "tile_m=64 tile_n=128 cluster=1 prepass=1":
            0.958,
        "tile_m=64 tile_n=64 cluster=1 prepass=0":
            0.9632,
        "tile_m=64 tile_n=64 cluster=1 prepass=1":
            0.936,
    },
}
"""Kernel → configuration → factor on its group's prediction."""
# fmt: on
