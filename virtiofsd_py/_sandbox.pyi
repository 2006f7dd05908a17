# SPDX-License-Identifier: BSD-3-Clause
# The extension as `sandbox` sees it; what is in it says native/sandbox/sandbox.cdef.h.
from typing import Any

ffi: Any
lib: Any
