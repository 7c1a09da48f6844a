"""Entry point. One thread per device: sums, SVD and Cholesky differ between one thread and two."""

import os
import sys

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before NumPy is imported, or it is too late
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would not survive a fork


def main() -> None:
    """Run the command line."""
    from emulator.cli import app

    app(prog_name="emulator", args=sys.argv[1:])


if __name__ == "__main__":
    main()
