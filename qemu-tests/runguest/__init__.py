# SPDX-License-Identifier: BSD-3-Clause
"""Starts a daemon and a guest, runs one command in the guest, takes everything down again.

One direction of imports: ``errors``, ``paths``, ``frames``, ``console`` know nobody;
``processes`` owns every child and every temporary file; ``daemon``, ``uml`` and ``qemu`` say what
to start; ``session`` talks to the guest; ``cli`` ties them together. ``agent`` is for the cases and
the demo: it sees a guest only through the ``run-guest`` command.
"""
