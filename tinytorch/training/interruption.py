"""Interruption: Ctrl-C as a question asked between steps, so that no step is half done.

Knows one signal, never what is interrupted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading

STANDARD_ERROR = 2  # the descriptor
SAID = b"\nstopping after this step; Ctrl-C again stops at once\n"


class Interruption:
    """Within the block the first Ctrl-C sets `requested`; a second one raises KeyboardInterrupt.

    The first one is answered at once, on standard error: a step that is being compiled can take
    seconds.

    Outside the main thread, where Python has no signals, it does nothing.

    Example:
        >>> with Interruption() as stop:
        ...     stop.requested
        False
    """

    def __init__(self):
        self.requested = False
        self._before = None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *error) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number, frame) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        # Written past Python's buffers: a handler may run while they are in use.
        with contextlib.suppress(OSError):
            os.write(STANDARD_ERROR, SAID)
