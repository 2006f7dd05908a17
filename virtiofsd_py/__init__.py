# SPDX-License-Identifier: BSD-3-Clause
"""A virtio-fs vhost-user daemon: Python control plane over a C core.

The command is ``virtiofsd-py``; `virtiofsd_py.cli.main` is the same thing for Python callers.
"""

__version__ = "0.1.0"
