# SPDX-License-Identifier: BSD-3-Clause
"""The fidelity suite: what a watcher on the share sees, against what one sees on a local one.

``scenarios.txt`` is the data, ``rules.py`` what may differ and why; ``make fidelity`` runs it all.
"""
