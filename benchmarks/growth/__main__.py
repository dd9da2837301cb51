"""`python -m benchmarks.growth [--of database root]`: what a year of hourly runs adds to a disk, and what is kept."""

import argparse
import os
import platform
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

from benchmarks.growth.database import measured_database
from benchmarks.growth.root import measured_root

OF = {"database": measured_database, "root": measured_root}


def main() -> None:
    """Prints the conditions and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--of", nargs="+", choices=OF, default=list(OF))
    parser.add_argument(
        "--every", type=int, default=1, help="hours from one run to the next; 4 for a quarter of them"
    )
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| what | measured |\n|---|---:|")
    for name in options.of:
        with tempfile.TemporaryDirectory() as folder:
            for what, value in OF[name](Path(folder), timedelta(hours=options.every)):
                print(f"| {what} | {value} |", flush=True)


if __name__ == "__main__":
    main()
