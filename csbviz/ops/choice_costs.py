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
            1, 1.265, 0.55, 0, 0, 0.3319, 0.07673, 9.821, 0, 0.7247,
            0, 0.8211, 0.4772, 0.571, 0, 0, 0, 0.1384, 0.1836, 0.5662,
        ),
        "direct 32": (
            1, 1.951, 0.2767, 0, 2.014, 0.632, 0.1461, 4.676, 0, 0,
            0, 0, 0.1846, 1.349, 0, 0.09491, 0.1256, 0, 0, 0,
        ),
        "direct 64": (
            1, 1.381, 0.579, 0, 0.6668, 0.4008, 0.09267, 5.931, 0, 0,
            0, 0.7732, 0.1043, 0.8834, 0, 0, 0.1177, 0.02152, 0, 0,
        ),
        "panel 32": (
            1, 1.735, 0.4213, 0.9332, 0.1355, 0, 5.816, 0.1355, 0.1128, 2.604,
            1.833, 0.3077, 0.3001, 0, 0,
        ),
        "panel 64": (
            1, 2.298, 0.04001, 0.4826, 0.3698, 0, 13.13, 0.1066, 0.0986, 3.849,
            0.9113, 0.02342, 0.8056, 0, 0,
        ),
    },
    "csb_wgmma": {
        "tile_m=128 tile_n=128 cluster=1 prepass=1": (
            1, 1.285, 3.516, 1.311, 0.06947, 0.01867, 0, 2.943, 0, 1.266,
            0, 0.1414, 2.026, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=0": (
            1, 2.08, 1.986, 1.381, 0.1172, 0, 0, 0, 0, 2.891,
            0, 0, 0.737, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=1": (
            1, 3.033, 1.371, 1.018, 0.06926, 0.00667, 0, 2.687, 0, 3.444,
            0, 0.05053, 0.5008, 0,
        ),
        "tile_m=64 tile_n=128 cluster=1 prepass=1": (
            1, 2.83, 1.717, 1.042, 0.04566, 0.00605, 0, 2.938, 0, 3.193,
            0, 0.04583, 0.7778, 0,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=0": (
            1, 3.266, 0.6565, 1.041, 0.1033, 0, 0, 0, 0, 8.564,
            0, 0, 0, 0,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=1": (
            1, 3.341, 0.7301, 0.7986, 0.03881, 0, 0, 2.491, 0, 7.703,
            0, 0, 0.01326, 0.1808,
        ),
    },
    "csb_wgmma_tf32": {
        "tile_m=128 tile_n=128 cluster=1 prepass=1": (
            1, 1.602, 3.136, 0.8529, 0.07463, 0, 0, 1.042, 0, 1.398,
            0, 0, 1.796, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=0": (
            1, 2.025, 1.981, 1.059, 0.09979, 0, 0, 0, 0, 2.712,
            0, 0, 0.6958, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=1": (
            1, 3.141, 1.246, 0.6679, 0.0653, 0.0009628, 0, 1.094, 0, 3.431,
            0, 0.007294, 0.4946, 0,
        ),
        "tile_m=64 tile_n=128 cluster=1 prepass=1": (
            1, 2.873, 1.611, 0.6843, 0.02886, 0.0086, 0, 1.091, 0, 3.19,
            0, 0.06516, 0.7993, 0,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=0": (
            1, 3.146, 0.5384, 0.8531, 0.1147, 0, 0, 0, 0, 7.876,
            0, 0, 0, 0.04433,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=1": (
            1, 3.167, 0.8235, 0.5944, 0.02352, 0, 0, 0.8695, 0, 7.388,
            0, 0, 0.1186, 0.2629,
        ),
    },
}
"""Kernel → group of launches → CTAs that a multiprocessor runs at once, then the cost of each term."""

FACTORS: dict[str, dict[str, float]] = {
    "csb_rows": {
        "form=direct tile_n=128 warps=4 split=1":
            1.021,
        "form=direct tile_n=128 warps=4 split=2":
            1.078,
        "form=direct tile_n=128 warps=4 split=4":
            1.044,
        "form=direct tile_n=128 warps=8 split=2":
            0.9592,
        "form=direct tile_n=32 warps=4 split=1":
            0.9947,
        "form=direct tile_n=32 warps=4 split=2":
            1.037,
        "form=direct tile_n=32 warps=4 split=4":
            1.012,
        "form=direct tile_n=64 warps=4 split=1":
            1.071,
        "form=direct tile_n=64 warps=4 split=2":
            1.153,
        "form=direct tile_n=64 warps=4 split=4":
            1.238,
        "form=direct tile_n=64 warps=8 split=1":
            0.9537,
        "form=direct tile_n=64 warps=8 split=2":
            0.9485,
        "form=direct tile_n=64 warps=8 split=4":
            0.9086,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=256 column_tiles=1 buffers=1 resident=True":
            1.026,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=256 column_tiles=1 buffers=2 resident=True":
            1.042,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.057,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=2 resident=True":
            1.033,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=False":
            1.039,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=256 column_tiles=4 buffers=2 resident=True":
            0.9781,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            0.9515,
        "form=panel tile_m=128 tile_n=64 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.012,
        "form=panel tile_m=128 tile_n=64 warps=8 chunk_k=128 column_tiles=1 buffers=2 resident=False":
            0.9967,
        "form=panel tile_m=128 tile_n=64 warps=8 chunk_k=256 column_tiles=1 buffers=2 resident=False":
            0.9919,
        "form=panel tile_m=128 tile_n=64 warps=8 chunk_k=256 column_tiles=4 buffers=2 resident=True":
            0.9969,
        "form=panel tile_m=128 tile_n=64 warps=8 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            0.9889,
        "form=panel tile_m=256 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.017,
        "form=panel tile_m=256 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=2 resident=True":
            1.053,
        "form=panel tile_m=256 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=False":
            1.118,
        "form=panel tile_m=256 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            0.9907,
        "form=panel tile_m=256 tile_n=64 warps=32 chunk_k=256 column_tiles=2 buffers=2 resident=True":
            1.068,
        "form=panel tile_m=256 tile_n=64 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.016,
        "form=panel tile_m=512 tile_n=64 warps=32 chunk_k=256 column_tiles=1 buffers=1 resident=True":
            0.9934,
        "form=panel tile_m=512 tile_n=64 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.092,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=True":
            0.9461,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=False":
            1.07,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=True":
            0.9233,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            0.9615,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=2 resident=True":
            0.9671,
        "form=panel tile_m=64 tile_n=32 warps=4 chunk_k=256 column_tiles=1 buffers=1 resident=True":
            1.009,
        "form=panel tile_m=64 tile_n=32 warps=4 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.054,
        "form=panel tile_m=64 tile_n=32 warps=4 chunk_k=512 column_tiles=1 buffers=2 resident=False":
            1.047,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=True":
            0.9687,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=True":
            0.9379,
        "form=panel tile_m=64 tile_n=64 warps=4 chunk_k=512 column_tiles=1 buffers=1 resident=True":
            1.098,
    },
}
"""Kernel → configuration → factor on its group's prediction."""
# fmt: on
