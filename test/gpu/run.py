"""Checks and times planning on a CUDA GPU within a budget of time.

    ./dmpc exec python test/gpu/run.py --json FILE [--budget SECONDS] [--plot FILE] [--rehearse]

Exit code 0: everything was reached and every aim met; 1: something failed, missed its aim or was
not reached; 2: nothing could be run, for there is no GPU or FILE holds figures of another device.
With the same FILE again it goes on where it ended.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

# Under PYTHONSAFEPATH, which ./dmpc sets, a script's folder is not searched by itself.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from budget import PROCESSES, Record, all_well, import_early, run_items, say, summary
from items import BUDGET, ITEMS
from report import draw, table
from scale import Scale

# What takes seconds to import.
LIBRARIES = ("torch", "diffusion_mpc.benchmark.stages", "diffusion_mpc.rollout.warp")


def find_device(rehearsal: bool) -> str:
    """Name of what is to be checked, empty where there is no GPU.

    For a process of its own: this one stays clear of CUDA.
    """
    import torch

    if rehearsal:
        return "Warp's cpu device"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def main() -> int:
    began = time.monotonic()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", type=Path, required=True, help="file for all figures, replaced after every result"
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=BUDGET,
        metavar="SECONDS",
        help="time for all (default: %(default)g)",
    )
    parser.add_argument(
        "--plot", type=Path, help="draw physics steps/s against samples, GPU and CPU, into a PNG"
    )
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="the same items on Warp's cpu device, tiny; times are not judged",
    )
    options = parser.parse_args()
    if options.rehearse:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import_early(LIBRARIES)
    with ProcessPoolExecutor(1, PROCESSES) as pool:
        device = pool.submit(find_device, options.rehearse).result()
    if not device:
        sys.stderr.write(
            "error: PyTorch sees no CUDA GPU; there is nothing to check. --rehearse tries this "
            "script without one\n"
        )
        return 2
    try:
        record = Record(options.json, device, ITEMS)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    run_items(ITEMS, record, began + options.budget, Scale(options.rehearse))
    table(record)
    if options.plot:
        draw(record, options.plot)
    say(summary(record))
    return 0 if all_well(record) else 1


if __name__ == "__main__":
    raise SystemExit(main())
