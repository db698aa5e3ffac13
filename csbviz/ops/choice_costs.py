"""The costs of `choice_model`, in microseconds. Written by benchmarks/fit_choice.py; do not edit."""

from __future__ import annotations

__all__ = ["COSTS", "FACTORS", "FITTED_ON"]

FITTED_ON = "NVIDIA H100 80GB HBM3, 2026-11-24"
"""Device and date of the measurements."""

# fmt: off
COSTS: dict[str, dict[str, tuple[float, ...]]] = {
    "csb_few": {
        "tile_m=128 depth=1": (
            2, 0.979, 1.031, 1.031, 0, 0.07593, 0.4917, 0.04025, 0, 0.8773, 0.9094, 0.5752, 0.979, 0,
        ),
        "tile_m=128 depth=2": (
            1, 0.09698, 2.391, 1.195, 0.01981, 0.03309, 0.04828, 0.1599, 0.4446, 0, 0.0893, 0.2507,
            1.065, 0.2263,
        ),
        "tile_m=128 depth=4": (
            1, 0.1858, 3.178, 0.7946, 0.04454, 0.05433, 0, 0.4553, 0.3391, 0.1415, 0, 0.4116, 1.485, 0,
        ),
        "tile_m=64 depth=1": (
            2, 0.972, 0.7833, 0.7833, 0, 0, 0.2508, 0, 0, 2.028, 0.4638, 0, 0.972, 0.1911,
        ),
        "tile_m=64 depth=2": (
            1, 2.681, 0.5949, 0.2975, 0, 0.02004, 0.08698, 1.016, 0, 2.182, 0.1609, 0.1518, 0.2519, 0,
        ),
        "tile_m=64 depth=4": (
            1, 0.5857, 2.245, 0.5612, 0.05732, 0.006569, 0.0316, 0.5022, 0, 1.344, 0.05845, 0.04976,
            0.7086, 0,
        ),
    },
    "csb_few_tf32": {
        "tile_m=128 depth=1": (
            2, 0.8682, 1.03, 1.03, 0.00866, 0.05922, 0.4366, 0.008408, 0, 0.6692, 0.8075, 0.4486,
            0.8682, 0,
        ),
        "tile_m=128 depth=2": (
            1, 0.04941, 1.971, 0.9857, 0.05212, 0, 0.006337, 0.4024, 0.6872, 0, 0.01172, 0, 1.121, 0,
        ),
        "tile_m=128 depth=4": (
            1, 0.4926, 2.363, 0.5908, 0.04883, 0.01933, 0.0183, 0.5797, 0, 0.5283, 0.03386, 0.1464,
            0.8948, 0,
        ),
        "tile_m=64 depth=1": (
            2, 0.9244, 0.7753, 0.7753, 0.0005645, 0, 0.287, 0, 0, 1.427, 0.5308, 0, 0.9244, 0.1041,
        ),
        "tile_m=64 depth=2": (
            1, 2.549, 0.3834, 0.1917, 0.004405, 0.02686, 0.06529, 0.8863, 0, 2.526, 0.1208, 0.2035,
            0.3299, 0,
        ),
        "tile_m=64 depth=4": (
            1, 1.342, 1.394, 0.3484, 0.06326, 0.0006476, 0.04303, 0.4637, 0, 1.033, 0.07959, 0.004906,
            0.7048, 0.02529,
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
            1, 1.508, 0.4316, 0, 0.7298, 0.2847, 0.06583, 8.426, 0, 0.8887, 0, 0.7597, 0.02732, 0.2133,
            0, 0.0311, 0, 0.2126, 0, 0.6943,
        ),
        "direct 32": (
            1, 1.704, 0.3424, 0, 0.5715, 0.3777, 0.08732, 2.794, 0, 0.3278, 0, 0.1074, 0.3773, 0.368, 0,
            0.1914, 0.1045, 0, 0.2241, 1.024,
        ),
        "direct 64": (
            1, 1.441, 0.412, 0, 0.8009, 0.3448, 0.07971, 5.101, 0, 0.4475, 0, 0.6439, 0.01592, 0.622, 0,
            0.03862, 0.1089, 0, 0, 0.6993,
        ),
        "panel 32": (
            1, 1.738, 0, 0.8317, 0.1552, 0, 8.173, 0.1552, 0.1346, 5.796, 1.984, 0.2597, 0.1997, 0, 0,
        ),
        "panel 64": (
            1, 1.61, 0, 0.7298, 0.5585, 0, 7.304, 0, 0.1841, 8.221, 1.369, 0.01339, 0.6978, 0, 0,
        ),
        "pieces 128": (
            1, 1.547, 0.2517, 0.6916, 0.00432, 0, 0.204, 0.01824, 0, 0, 0.5602, 0.2126, 0, 0, 0, 0.188,
        ),
        "pieces 32": (
            1, 1.858, 0.212, 0.0516, 0.01225, 0, 0.2097, 0.07458, 0.1768, 0, 0, 0.07073, 0.02313, 0,
            1.007, 0,
        ),
        "pieces 64": (
            1, 1.61, 0.6117, 0.05986, 0.005774, 0, 0.2099, 0.099, 0, 0, 0.09132, 0.2196, 0, 0, 0.1218,
            0.268,
        ),
    },
    "csb_wgmma": {
        "tile_m=128 tile_n=128 cluster=1 prepass=1": (
            1, 2.717, 2.338, 1.158, 0.08861, 0, 0.0656, 2.418, 0, 2.115, 0, 0, 1.338, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=0": (
            1, 0, 3.728, 1.411, 0.09686, 0, 0, 0, 0.8586, 0.7476, 0, 0, 1.845, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=1": (
            1, 3.022, 1.312, 1.071, 0.09949, 0, 0, 2.141, 0, 3.896, 0, 0, 0.6524, 0.01378,
        ),
        "tile_m=64 tile_n=128 cluster=1 prepass=1": (
            1, 3.541, 1.092, 0.8668, 0.0349, 0.02452, 0, 2.319, 0, 4.523, 0, 0.1857, 0.3979, 0,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=0": (
            1, 3.077, 1.038, 0.9596, 0.06343, 0.009679, 0, 0, 0, 4.767, 0, 0.07332, 0.2041, 0,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=1": (
            1, 3.6, 0.6226, 0.702, 0.03743, 0.01556, 0, 1.669, 0, 6.562, 0, 0.1179, 0, 0.2102,
        ),
    },
    "csb_wgmma_tf32": {
        "tile_m=128 tile_n=128 cluster=1 prepass=1": (
            1, 3.091, 1.841, 0.811, 0.05633, 0, 0.052, 1.097, 0.04613, 1.809, 0.002531, 0, 1.457, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=0": (
            1, 0, 3.756, 1.068, 0.08402, 0, 0, 0, 0.7857, 0.4487, 0, 0, 1.571, 0,
        ),
        "tile_m=128 tile_n=64 cluster=1 prepass=1": (
            1, 3.322, 1.032, 0.7189, 0.04346, 0, 0, 0.9865, 0, 3.69, 0.009554, 0, 0.4077, 0,
        ),
        "tile_m=64 tile_n=128 cluster=1 prepass=1": (
            1, 3.333, 1.219, 0.6296, 0.0399, 0, 0, 1.017, 0, 3.742, 0.003867, 0, 0.4138, 0,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=0": (
            1, 2.194, 1.713, 0.7452, 0.08158, 0, 0, 0, 0, 2.313, 0.05886, 0, 0.8499, 0,
        ),
        "tile_m=64 tile_n=64 cluster=1 prepass=1": (
            1, 3.169, 0.808, 0.5944, 0.01842, 0.006742, 0, 0.7742, 0, 5.083, 0, 0.05107, 0.3506, 0.1492,
        ),
    },
}
"""Kernel → group of launches → CTAs that a multiprocessor runs at once, then the cost of each term."""

FACTORS: dict[str, dict[str, float]] = {
    "csb_few": {
        "tile_m=128 depth=1": 1.016,
        "tile_m=128 depth=2": 0.9843,
        "tile_m=128 depth=4": 1.005,
        "tile_m=64 depth=1": 0.9967,
        "tile_m=64 depth=2": 1.015,
        "tile_m=64 depth=4": 0.9982,
    },
    "csb_few_tf32": {
        "tile_m=128 depth=1": 1.014,
        "tile_m=128 depth=2": 0.9446,
        "tile_m=128 depth=4": 1.007,
        "tile_m=64 depth=1": 1.002,
        "tile_m=64 depth=2": 1.02,
        "tile_m=64 depth=4": 0.938,
    },
    "csb_mma": {
        "tile=64x64 stages=1": 0.9914,
    },
    "csb_mma_tf32": {
        "tile=64x64 stages=1": 0.9512,
    },
    "csb_rows": {
        "form=direct tile_n=128 warps=4 split=1": 1.108,
        "form=direct tile_n=128 warps=4 split=2": 1.124,
        "form=direct tile_n=128 warps=4 split=4": 1.088,
        "form=direct tile_n=128 warps=8 split=1": 0.9974,
        "form=direct tile_n=128 warps=8 split=2": 1.023,
        "form=direct tile_n=128 warps=8 split=4": 1.018,
        "form=direct tile_n=32 warps=4 split=1": 1.006,
        "form=direct tile_n=32 warps=4 split=2": 1.091,
        "form=direct tile_n=32 warps=4 split=4": 1.023,
        "form=direct tile_n=32 warps=8 split=1": 0.9877,
        "form=direct tile_n=32 warps=8 split=2": 0.9791,
        "form=direct tile_n=64 warps=4 split=1": 1.03,
        "form=direct tile_n=64 warps=4 split=2": 1.059,
        "form=direct tile_n=64 warps=4 split=4": 1.038,
        "form=direct tile_n=64 warps=8 split=1": 0.9586,
        "form=direct tile_n=64 warps=8 split=2": 1.011,
        "form=direct tile_n=64 warps=8 split=4": 0.9899,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=256 column_tiles=1 buffers=1 resident=True": 1.091,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=256 column_tiles=1 buffers=2 resident=True": 1.084,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True": 1.106,
        "form=panel tile_m=128 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=2 resident=True": 1.058,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=False": 1.056,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=False": 1.078,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=False": 1.023,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True": 0.9822,
        "form=panel tile_m=128 tile_n=64 warps=16 chunk_k=512 column_tiles=4 buffers=1 resident=True": 1.025,
        "form=panel tile_m=128 tile_n=64 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True": 1.04,
        "form=panel tile_m=256 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True": 1.04,
        "form=panel tile_m=256 tile_n=32 warps=32 chunk_k=512 column_tiles=1 buffers=2 resident=True": 1.016,
        "form=panel tile_m=256 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=False": 1.048,
        "form=panel tile_m=256 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=False": 1.055,
        "form=panel tile_m=256 tile_n=64 warps=16 chunk_k=512 column_tiles=2 buffers=1 resident=True": 1.039,
        "form=panel tile_m=256 tile_n=64 warps=32 chunk_k=256 column_tiles=2 buffers=1 resident=True": 1.039,
        "form=panel tile_m=256 tile_n=64 warps=32 chunk_k=256 column_tiles=2 buffers=2 resident=True": 1.032,
        "form=panel tile_m=256 tile_n=64 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True": 1.035,
        "form=panel tile_m=512 tile_n=64 warps=32 chunk_k=512 column_tiles=1 buffers=1 resident=True": 1.105,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=False": 1.098,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=True": 0.9695,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=False": 1.127,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=True": 0.9697,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=False": 1.041,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True": 0.9793,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=2 resident=False": 1.031,
        "form=panel tile_m=64 tile_n=32 warps=16 chunk_k=512 column_tiles=1 buffers=2 resident=True": 0.96,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=1 resident=True": 0.9821,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=256 column_tiles=1 buffers=2 resident=True": 0.9968,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=False": 1.03,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=512 column_tiles=1 buffers=1 resident=True": 1.013,
        "form=panel tile_m=64 tile_n=64 warps=16 chunk_k=512 column_tiles=2 buffers=1 resident=True": 0.9522,
        "form=pieces tile_n=128 warps=16 length=16": 1.199,
        "form=pieces tile_n=128 warps=16 length=8": 1.02,
        "form=pieces tile_n=128 warps=4 length=16": 1.024,
        "form=pieces tile_n=128 warps=8 length=16": 1.059,
        "form=pieces tile_n=128 warps=8 length=8": 0.9877,
        "form=pieces tile_n=32 warps=16 length=4": 1.005,
        "form=pieces tile_n=32 warps=16 length=8": 1.048,
        "form=pieces tile_n=32 warps=4 length=4": 1.002,
        "form=pieces tile_n=32 warps=4 length=8": 0.985,
        "form=pieces tile_n=32 warps=8 length=4": 1,
        "form=pieces tile_n=32 warps=8 length=8": 1,
        "form=pieces tile_n=64 warps=16 length=16": 1.098,
        "form=pieces tile_n=64 warps=16 length=8": 1.104,
        "form=pieces tile_n=64 warps=4 length=16": 0.9528,
        "form=pieces tile_n=64 warps=4 length=8": 1.053,
        "form=pieces tile_n=64 warps=8 length=16": 1.008,
        "form=pieces tile_n=64 warps=8 length=8": 1.05,
    },
    "csb_wgmma": {
        "tile_m=128 tile_n=128 cluster=1 prepass=1": 1.006,
        "tile_m=128 tile_n=64 cluster=1 prepass=0": 1.005,
        "tile_m=128 tile_n=64 cluster=1 prepass=1": 0.9979,
        "tile_m=64 tile_n=128 cluster=1 prepass=1": 1.008,
        "tile_m=64 tile_n=64 cluster=1 prepass=0": 1.009,
        "tile_m=64 tile_n=64 cluster=1 prepass=1": 1.007,
    },
    "csb_wgmma_tf32": {
        "tile_m=128 tile_n=128 cluster=1 prepass=1": 1.015,
        "tile_m=128 tile_n=64 cluster=1 prepass=0": 1.015,
        "tile_m=128 tile_n=64 cluster=1 prepass=1": 1.017,
        "tile_m=64 tile_n=128 cluster=1 prepass=1": 1.008,
        "tile_m=64 tile_n=64 cluster=1 prepass=0": 1.001,
        "tile_m=64 tile_n=64 cluster=1 prepass=1": 1.014,
    },
}
"""Kernel → configuration → factor on its group's prediction."""
# fmt: on
