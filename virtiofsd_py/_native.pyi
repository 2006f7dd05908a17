# SPDX-License-Identifier: BSD-3-Clause
# The extension as `engine` sees it; what is in it says native/device/native.cdef.h.
from typing import Any

ffi: Any
lib: Any
