# SPDX-License-Identifier: BSD-3-Clause
"""``virtiofsd-py bench``: a front-end that measures virtio-fs daemons beside each other.

It drives any vhost-user-fs daemon over shared memory as Linux's driver does, without a guest. The
loop is C (bench/front_end); here are the conversation with the daemon, the loads and the tables.

    command   the command line
    compare   which load on which daemon when, what came of it, and ratios
    loads     the loads, and the files they need
    daemons   starting daemons; their processor time and memory
    session   a device that is up: one connection, one driver
    frontend  the vhost-user conversation, from the front-end's side
    report    tables

What this project makes of the figures, its goals and pages, is in bench/ and not installed.
"""
