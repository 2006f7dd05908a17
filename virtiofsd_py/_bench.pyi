# SPDX-License-Identifier: BSD-3-Clause
# The extension as `bench.session` sees it; what is in it says bench/front_end/bench.cdef.h.
from typing import Any

ffi: Any
lib: Any
