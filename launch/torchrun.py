"""torchrun, but the last word is the run's own: no fifty lines after its error, and its exit code."""

import logging
import signal
import sys

from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.run import main

if __name__ == "__main__":
    logging.disable(logging.CRITICAL)  # every failure of a run once more
    try:
        main()
    except ChildFailedError as failed:
        _, first = failed.get_first_failure()
        if first.exitcode < 0:
            sys.exit(f"error: a process here was killed by {signal.Signals(-first.exitcode).name}")
        sys.exit(first.exitcode)
    except SignalException:
        sys.exit(130)
    except (DistError, RendezvousError) as error:
        said = (str(error) or "not all came in time").splitlines()[0]
        sys.exit(f"error: the hosts did not find one another: {said}")
