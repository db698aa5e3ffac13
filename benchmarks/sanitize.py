"""Run every CSB kernel under NVIDIA's compute-sanitizer, on ragged shapes.

    python -m benchmarks.sanitize                                    all tools, all kernels, some minutes
    python -m benchmarks.sanitize --tools racecheck --kernels csb_wgmma,csb_few --seconds 60

Every product is checked against float64 too. racecheck follows barriers in shared memory, but not the order
that __syncwarp gives to the other lanes of a warp before one of them arrives for all: it reports even a
textbook pipeline written so. Of kernels that are, racecheck sees the same source with every lane arriving.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.sanitize_cases import OTHERS, every_product
from csbviz.ops.cuda import module
from csbviz.ops.registry import kernels

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
ONE_LANE = "if (lane == 0) barrier_arrive("


def every_lane_arrives(text: str) -> str:
    """The source of a kernel whose warps arrive by one lane, changed so that all 32 do; others as they are.

    Arrivals that a count of 32 times as many waits for are those of `barrier_arrive` and `barrier_arrive_at`;
    the one that announces bytes of a copy stays alone.
    """
    if ONE_LANE not in text:
        return text
    text = text.replace(ONE_LANE, "barrier_arrive(")
    text = re.sub(r"if \(lane == 0\) \{(\s*if \(z\.share == 1\)\s*barrier_arrive)", r"{\1", text)

    def count(found: re.Match) -> str:
        barrier, arrivals = found.groups()
        if barrier == "received" or arrivals.strip() == "1":
            return found[0]
        choice = re.fullmatch(r"(\w+) \? (\w+) : 1", arrivals.strip())
        many = f"{choice[1]} ? 32 * {choice[2]} : 1" if choice else f"32 * ({arrivals.strip()})"
        return f"barrier_init({found[0].split('(', 1)[1].rsplit(',', 1)[0]}, {many});"

    return re.sub(r"barrier_init\((\w+)[^,;]*,([^;]*)\);", count, text)


def run_kernel(name: str, seconds: float, all_lanes: bool) -> None:
    """The process that the tool watches: print what was done, and WRONG for a wrong result."""
    import cupy

    cupy.cuda.set_allocator(
        None
    )  # a pool's blocks are longer than what lies in them, and were written before
    if all_lanes:
        read = module.read_source
        module.read_source = lambda source: every_lane_arrives(read(source))
    stop, done = time.monotonic() + seconds, 0
    for shape, (what, error, bound) in every_product(name):
        done += 1
        if not error <= bound:
            print(f"WRONG {name} {shape} {what}: {error:.2e}", flush=True)
        if time.monotonic() > stop:
            break
    cupy.cuda.Device().synchronize()
    print(f"products: {done}", flush=True)


def watch(tool: str, name: str, seconds: float) -> bool:
    """Run a kernel under a tool and print products and what the tool said; whether all is well."""
    command = ["compute-sanitizer", "--tool", tool, "--print-limit", "5", sys.executable, "-m", __spec__.name]
    command += ["--run", name, "--seconds", str(seconds)] + ["--all-lanes"] * (tool == "racecheck")
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    except subprocess.TimeoutExpired:
        print(f"{tool:10s} {name:16s} did not end", flush=True)
        return False
    text = found.stdout + found.stderr
    done = re.search(r"products: (\d+)", text)
    summary = re.search(r"SUMMARY: (.*)", text)
    wrong = text.count("WRONG")
    said = (summary[1] if summary else text.strip()[-200:]) + (f"; {wrong} wrong results" if wrong else "")
    clean = bool(done and summary and not wrong and re.match(r"0 (errors|hazards)", summary[1]))
    print(f"{tool:10s} {name:16s} {done[1] if done else '0':>4s} products: {said}", flush=True)
    if not clean:
        reports = [line for line in text.splitlines() if line.startswith(("=========", "WRONG"))]
        print("\n".join(reports[:40]), flush=True)
    return clean


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", default=",".join(TOOLS), help="default: %(default)s")
    parser.add_argument("--kernels", help=f"default: every CSB kernel, {', '.join(OTHERS)}")
    parser.add_argument("--seconds", type=float, default=60, help="for each kernel and tool (default: 60)")
    parser.add_argument("--jobs", type=int, default=4, help="processes at a time (default: 4)")
    parser.add_argument("--run", metavar="KERNEL", help=argparse.SUPPRESS)
    parser.add_argument("--all-lanes", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Run the tools, or in a process of theirs one kernel."""
    args = parse_arguments()
    if args.run:
        run_kernel(args.run, args.seconds, args.all_lanes)
        return 0
    if shutil.which("compute-sanitizer") is None:
        sys.exit("compute-sanitizer is not on the PATH; it comes with the CUDA toolkit.")
    names = (
        args.kernels.split(",")
        if args.kernels
        else [kernel.name for kernel in kernels(device="cuda") if kernel.format == "csb"] + list(OTHERS)
    )
    jobs = [(tool, name) for tool in args.tools.split(",") for name in names]
    with ThreadPoolExecutor(args.jobs) as pool:
        clean = list(pool.map(lambda job: watch(*job, args.seconds), jobs))
    return 0 if all(clean) else 1


if __name__ == "__main__":
    sys.exit(main())
