# SPDX-License-Identifier: BSD-3-Clause
# The extension as `fsnotify.ring` sees it; what is in it says native/watch/shm_reader.h.
from typing import Any

ffi: Any
lib: Any
