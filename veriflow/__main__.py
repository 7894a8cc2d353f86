"""The command line: ``python -m veriflow``, and the script that is installed."""

import sys
from typing import NoReturn

from .errors import VeriflowError
from .runtime.siblings import refuse_hidden_packages


def main() -> NoReturn:
    """Run the command line with the arguments of the process, unless files of the user hide what it is made of."""
    try:
        refuse_hidden_packages("exporters", "verify")
    except VeriflowError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    from verify.cli import main as run  # noqa: PLC0415 - once it is known to be ours

    run()


if __name__ == "__main__":
    main()
