"""Entry point. One thread per device: sums, SVD and Cholesky differ between one thread and two."""

import os
import sys
import warnings
from pathlib import Path
from typing import TextIO

from emulator.core.errors import ScenarioError
from emulator.runtime.surroundings import (
    check_working_folder,
    open_standard_streams,
    report_output_errors,
)

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # before NumPy is imported, or it is too late
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would not survive a fork


def main() -> None:
    """Run the command line."""
    open_standard_streams()
    with report_output_errors():
        try:
            check_working_folder()
            _call()
        except ScenarioError as error:
            sys.stderr.write(f"error: {error}\n")
            sys.exit(2)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted: nothing was written\n")
            sys.exit(130)


def _call() -> None:
    from emulator.cli.app import app

    of_others = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Print a warning of the emulator itself in one line, without a line of code."""
        if Path(filename).is_relative_to(Path(__file__).parent):
            sys.stderr.write(f"warning: {message}\n")
        else:
            of_others(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    app(prog_name="emulator", args=sys.argv[1:])


if __name__ == "__main__":
    main()
