# SPDX-License-Identifier: BSD-3-Clause
"""``python -m virtiofsd_py`` is the command ``virtiofsd-py``."""

import sys

from virtiofsd_py.cli import main

if __name__ == "__main__":
    sys.exit(main())
