"""`python -m gfscreen`."""

import os
import sys

from gfscreen.command.progress import flush_standard_streams, open_standard_streams

# Before anything else is imported, which may open files.
open_standard_streams()

import logging  # noqa: E402

from gfscreen.command.cli import command_of, main  # noqa: E402

code = main()
if command_of(sys.argv[1:]) == "predict":
    # All is written and closed. A network that still compiles, because nothing needed it, is not waited for, nor are
    # the libraries taken apart: both may take longer than the rest of a small scan.
    logging.shutdown()
    flush_standard_streams()
    os._exit(code)
sys.exit(code)
