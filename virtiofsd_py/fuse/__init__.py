# SPDX-License-Identifier: BSD-3-Clause
"""The extension point: FUSE opcodes that a Python function serves.

What the C core serves never comes here and pays nothing for it. An opcode that is registered goes
up, be it new or one that C serves otherwise; so an operation can be tried out before it is written
in C, and compared with what C does. `example` tries one:

    handlers = Handlers()

    @handlers.serves(4000)
    def hello(request: Request) -> bytes:
        return b"hello " + request.reader().name_untrusted()

    sys.exit(virtiofsd_py.cli.main(extensions=handlers))

is the whole command then. `Handlers.opcodes` goes into ``EngineConfig.upcalls``, and
``Engine.serve_upcalls`` calls `Handlers.serve`; `daemon` joins them. Inside the sandbox nothing can
be imported any more: do that before. A function that would have to wait returns None, keeps the
`Request`, and answers later, from any thread.

Spec: Linux include/uapi/linux/fuse.h for everything on the wire.
"""

from virtiofsd_py.fuse.handlers import Handler, Handlers, Nodes, Request
from virtiofsd_py.fuse.wire import MAX_BODY_BYTES, MAX_PAYLOAD_BYTES, Opcode, Reader

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_PAYLOAD_BYTES",
    "Handler",
    "Handlers",
    "Nodes",
    "Opcode",
    "Reader",
    "Request",
]
