# SPDX-License-Identifier: BSD-3-Clause
"""The real daemon over real rings and a real filesystem; only the guest is played by a double."""
