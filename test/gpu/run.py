"""Checks and times planning on a CUDA GPU within a budget of time.

    ./dmpc exec python test/gpu/run.py --json FILE [--budget SECONDS] [--plot FILE] [--rehearse]

Exit code 0: everything was reached and every aim met; 1: something failed, missed its aim or was not reached; 2: nothing could be
run, for there is no GPU or FILE holds figures of another device. With the same FILE again it goes on where it ended.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from budget import Record, all_well, import_early, run_items, say, summary

# The libraries take seconds to import.
LIBRARIES = ("diffusion_mpc.benchmark.stages", "diffusion_mpc.benchmark.speed", "diffusion_mpc.rollout.warp")


def main() -> int:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="file for all figures, replaced after every result")
    parser.add_argument("--budget", type=float, default=420.0, metavar="SECONDS", help="time for all (default: %(default)g)")
    parser.add_argument("--plot", type=Path, help="draw physics steps/s against samples, GPU and CPU, into a PNG")
    parser.add_argument("--rehearse", action="store_true", help="the same items on Warp's cpu device, tiny; times are not judged")
    options = parser.parse_args()
    if options.rehearse:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import_early(LIBRARIES)
    # Not before: their imports count as well.
    import torch
    from cases import Scale
    from items import ITEMS
    from report import draw, table

    if not options.rehearse and not torch.cuda.is_available():
        sys.stderr.write("error: PyTorch sees no CUDA GPU; there is nothing to check. --rehearse tries this script without one\n")
        return 2
    device = "Warp's cpu device" if options.rehearse else torch.cuda.get_device_name()
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
