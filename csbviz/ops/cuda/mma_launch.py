"""The shapes of a launch of csb_spmm_mma.cu: tiles, stages, how far the inner dimension is split."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from csbviz.errors import OptionError
from csbviz.ops.cuda.module import DeviceLimits, Function

__all__ = [
    "CLASSES",
    "IMAGE_BYTES",
    "SOURCE",
    "TILES",
    "TUNABLES",
    "Launch",
    "choose_launch",
    "images_function",
    "instantiations",
    "product_function",
    "shared_bytes",
    "worth_trying",
]

SOURCE = "csb_spmm_mma.cu"

CLASSES = {"fp32": 0, "tf32": 1, "fp16": 2, "bf16": 3}
"""Precision classes and the number that the source gives to each."""

TILES = ((64, 64), (64, 128), (128, 64), (128, 128))
"""Rows and columns of a tile of C."""

TUNABLES = {
    "tile": tuple(f"{m}x{n}" for m, n in TILES),
    "stages": (1, 2),
    "splits": (1, 2, 3, 4, 6, 8, 12, 16),
}
"""Parameters of the kernel and the values worth trying."""

IMAGE_BYTES = 8192
"""Bytes of a 64 x 64 image of 16-bit numbers."""


class Launch(NamedTuple):
    """Shape of a launch.

    Attributes
    ----------
    tile_m, tile_n : int
        Rows and columns of C of a CTA.
    stages : int
        Blocks in shared memory: the one that is multiplied and, with 2, the next.
    splits : int
        CTAs that share the inner dimension of a tile.
    """

    tile_m: int
    tile_n: int
    stages: int
    splits: int

    @property
    def threads(self) -> int:
        """Threads of a CTA: a warp for 32 rows and 32 columns of the smallest tile, 64 columns of others."""
        return 128 if (self.tile_m, self.tile_n) != (128, 128) else 256


def images_function(precision: str) -> Function:
    """The kernel that writes the images of B."""
    return Function(SOURCE, "csb_mma_images", (CLASSES[precision],))


def product_function(precision: str, transpose: bool, launch: Launch) -> Function:
    """The kernel that multiplies."""
    arguments = (CLASSES[precision], transpose, launch.tile_m, launch.tile_n, launch.stages)
    return Function(SOURCE, "csb_mma", arguments)


def instantiations() -> tuple[Function, ...]:
    """Every instantiation that the launcher can ask for."""
    shapes = product(CLASSES, (False, True), TILES, TUNABLES["stages"])
    products = [
        product_function(precision, transpose, Launch(*tile, stages, 1))
        for precision, transpose, tile, stages in shapes
    ]
    return (*map(images_function, CLASSES), *products)


def shared_bytes(precision: str, launch: Launch, capability: tuple[int, int]) -> int:
    """Dynamic shared memory of a CTA, by the compute capability that the kernel was compiled for."""
    parts = 2 if precision == "fp32" else 1
    images = (launch.tile_m + launch.tile_n) // 64 * parts * IMAGE_BYTES
    factors = 4 * launch.tile_n if precision in ("fp32", "tf32") and capability >= (8, 0) else 0
    sums = 64 * (launch.tile_n + 8) * 4
    return max(launch.stages * (images + factors), sums)


def choose_launch(rows: int, steps: float, n: int, precision: str, device: DeviceLimits, **wanted) -> Launch:
    """Launch shape for a product.

    Parameters
    ----------
    rows : int
        Rows of C.
    steps : float
        Tiles of the inner dimension that hold entries, for the mean 64 rows.
    n : int
        Columns of B.
    precision : str
        One of `CLASSES`.
    device : DeviceLimits
        The GPU.
    **wanted
        Parameters of `TUNABLES` that the caller sets; None and absent ones are chosen.

    Raises
    ------
    OptionError
        If a parameter has a value that the kernel does not offer.
    """
    for name, value in wanted.items():
        if value is not None and value not in TUNABLES[name]:
            raise OptionError(f"{name} is {value}; it must be one of {', '.join(map(str, TUNABLES[name]))}.")
    tiles = TILES if wanted.get("tile") is None else [TILES[TUNABLES["tile"].index(wanted["tile"])]]
    stages = TUNABLES["stages"] if wanted.get("stages") is None else [wanted["stages"]]
    splits = TUNABLES["splits"] if wanted.get("splits") is None else [wanted["splits"]]
    candidates = [Launch(*tile, stage, split) for tile, stage, split in product(tiles, stages, splits)]
    fitting = [c for c in candidates if shared_bytes(precision, c, device.capability) <= device.shared_bytes]
    if not fitting:
        raise OptionError(
            f"No launch of tile {wanted.get('tile')} with {wanted.get('stages')} stages fits "
            f"the {device.shared_bytes} bytes of shared memory of a CTA of this GPU."
        )
    return min(fitting, key=lambda launch: predict_us(launch, rows, steps, n, precision, device))


def worth_trying(
    rows: int, steps: float, n: int, precision: str, device: DeviceLimits
) -> list[dict[str, str | int]]:
    """Settings of `TUNABLES` for an exhaustive search: no tile of which half would be empty, no grid that is
    split although it fills the device several times, and none that leaves most of it idle without need.

    Parameters
    ----------
    rows, steps, n, precision, device
        See `choose_launch`.
    """
    found = []
    for (tile_m, tile_n), stages, splits in product(TILES, TUNABLES["stages"], TUNABLES["splits"]):
        launch = Launch(tile_m, tile_n, stages, splits)
        ctas = -(-rows // tile_m) * -(-n // tile_n) * splits
        half_empty = (tile_m > 64 and tile_m >= 2 * rows) or (tile_n > 64 and tile_n >= 2 * n)
        too_many = splits > 1 and (splits > steps or ctas > 6 * device.multiprocessors)
        too_few = 4 * ctas < device.multiprocessors and 2 * splits <= min(steps, max(TUNABLES["splits"]))
        if half_empty or too_many or too_few:
            continue
        if shared_bytes(precision, launch, device.capability) <= device.shared_bytes:
            found.append({"tile": f"{tile_m}x{tile_n}", "stages": stages, "splits": splits})
    return found


def predict_us(
    launch: Launch, rows: int, steps: float, n: int, precision: str, device: DeviceLimits
) -> float:
    """Microseconds that a product takes with this launch, roughly: waves of CTAs times steps of a CTA."""
    ctas = -(-rows // launch.tile_m) * -(-n // launch.tile_n) * launch.splits
    reserved = 1024 if device.capability >= (8, 0) else 0  # of each CTA, by the system
    by_shared = device.shared_per_multiprocessor // (
        shared_bytes(precision, launch, device.capability) + reserved
    )
    by_registers = 4 if launch.threads * launch.tile_n == 128 * 64 and launch.tile_m == 64 else 2
    resident = max(1, min(by_shared, by_registers // (launch.threads // 128)))
    waves = -(-ctas // (resident * device.multiprocessors))
    area = launch.tile_m * launch.tile_n / 4096
    busy = min(resident, -(-ctas // device.multiprocessors))
    step = 0.35 * area * max(1, busy * 0.7) + 0.25
    steps_each = -(-steps // launch.splits)
    second = 0.0 if launch.splits == 1 else 1.2 + launch.splits * rows * n * 8 / 2.5e6
    return waves * (steps_each * step + 1.0) + second
