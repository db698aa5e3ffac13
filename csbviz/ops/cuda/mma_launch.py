"""The shapes of a launch of csb_spmm_mma.cu: tiles, stages, how far the inner dimension is split."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from csbviz.errors import OptionError
from csbviz.ops.cuda.module import DeviceLimits, Function
from csbviz.ops.cuda.settings import given

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

TILES = {
    "64x64": (64, 64, 32),
    "64x128": (64, 128, 64),
    "128x128": (128, 128, 64),
    "64x128/32": (64, 128, 32),
    "128x64/32": (128, 64, 32),
    "128x128/32": (128, 128, 32),
}
"""Rows and columns of a CTA's tile of C, and columns of a warp's; a warp has 32 rows."""

TUNABLES = {
    "tile": tuple(TILES),
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
    tile : str
        A key of `TILES`.
    stages : int
        Blocks in shared memory: the one that is multiplied and, with 2, the next.
    splits : int
        CTAs that share the inner dimension of a tile.
    """

    tile: str
    stages: int
    splits: int

    @property
    def tile_m(self) -> int:
        """Rows of C of a CTA."""
        return TILES[self.tile][0]

    @property
    def tile_n(self) -> int:
        """Columns of C of a CTA."""
        return TILES[self.tile][1]

    @property
    def threads(self) -> int:
        """Threads of a CTA."""
        return self.tile_m // 32 * (self.tile_n // TILES[self.tile][2]) * 32


def images_function(precision: str) -> Function:
    """The kernel that writes the images of B."""
    return Function(SOURCE, "csb_mma_images", (CLASSES[precision],))


def product_function(precision: str, transpose: bool, launch: Launch) -> Function:
    """The kernel that multiplies."""
    arguments = (CLASSES[precision], transpose, *TILES[launch.tile], launch.stages)
    return Function(SOURCE, "csb_mma", arguments)


def instantiations() -> tuple[Function, ...]:
    """Every instantiation that the launcher can ask for."""
    shapes = product(CLASSES, (False, True), TILES, TUNABLES["stages"])
    products = [
        product_function(precision, transpose, Launch(tile, stages, 1))
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
    wanted = given(wanted, TUNABLES)
    tiles = TILES if wanted.get("tile") is None else [wanted["tile"]]
    stages = TUNABLES["stages"] if wanted.get("stages") is None else [wanted["stages"]]
    splits = TUNABLES["splits"] if wanted.get("splits") is None else [wanted["splits"]]
    candidates = [Launch(*choice) for choice in product(tiles, stages, splits)]
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
    for choice in product(*TUNABLES.values()):
        launch = Launch(*choice)
        tile_m, tile_n, splits = launch.tile_m, launch.tile_n, launch.splits
        ctas = -(-rows // tile_m) * -(-n // tile_n) * splits
        half_empty = (tile_m > 64 and tile_m >= 2 * rows) or (tile_n > 64 and tile_n >= 2 * n)
        too_many = splits > 1 and (splits > steps or ctas > 6 * device.multiprocessors)
        too_few = 4 * ctas < device.multiprocessors and 2 * splits <= min(steps, max(TUNABLES["splits"]))
        if half_empty or too_many or too_few:
            continue
        if shared_bytes(precision, launch, device.capability) <= device.shared_bytes:
            found.append(launch._asdict())
    return found


class Costs(NamedTuple):
    """Microseconds that the parts of a launch take; an area is a tile of 64 x 64.

    Fitted on an H100 to 2658 products with 16 matrices of the DLMC and three N each: off by 14 % (root mean
    square of the log), and the launch that is preferred takes 1.07 times as long as the best one, in the
    geometric mean. Which launch suits another GPU follows from its multiprocessors and their memory.
    """

    area: float = 0.38  # three products of an area on a multiprocessor; a single one hides behind the rest
    step: float = 1.26  # of a CTA: from barrier to barrier
    unhidden: float = 0.08  # of a step whose decoding no multiplication hides
    output: float = 0.71  # of an area on a multiprocessor
    split: float = 2.7  # a second phase
    partials: float = 0.91  # a million elements of partial sums


_COSTS = Costs()


def predict_us(
    launch: Launch, rows: int, steps: float, n: int, precision: str, device: DeviceLimits
) -> float:
    """Microseconds that depend on the launch: waves of CTAs times the steps of a CTA, and a second phase."""
    cost = _COSTS
    ctas = -(-rows // launch.tile_m) * -(-n // launch.tile_n) * launch.splits
    reserved = 1024 if device.capability >= (8, 0) else 0  # of each CTA, by the system
    by_shared = device.shared_per_multiprocessor // (
        shared_bytes(precision, launch, device.capability) + reserved
    )
    by_registers = (512 if TILES[launch.tile][2] == 32 else 256) // launch.threads
    resident = max(1, min(by_shared, by_registers))
    waves = -(-ctas // (resident * device.multiprocessors))
    areas = launch.tile_m * launch.tile_n / 4096 * min(resident, -(-ctas // device.multiprocessors))
    step = cost.step + (cost.area * areas if precision == "fp32" else 0.0)
    step += cost.unhidden if launch.stages == 1 else 0.0
    total = waves * (-(-steps // launch.splits) * step + cost.output * areas)
    if launch.splits > 1:
        total += cost.split + cost.partials * launch.splits * rows * n / 1e6
    return total
