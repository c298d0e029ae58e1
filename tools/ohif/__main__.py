"""`python -m tools.ohif [FOLDER]`."""

import sys

from tools.ohif import main

main(sys.argv[1:])
