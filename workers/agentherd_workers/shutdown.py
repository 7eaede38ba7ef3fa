"""What the worker does on SIGTERM, SIGINT and SIGQUIT, in place of Celery's own handlers.

Celery's warm shutdown waits for tasks without a limit and answers no ping meanwhile; its soft
shutdown sleeps in the signal handler; its cold one cancels tasks there. Here the worker goes on
as ever while it drains, but takes no more jobs, and Celery is told to end when none is left.
"""

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentherd_workers.supervisor import Supervisor

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def drain_on_signals(supervisor: "Supervisor") -> None:
    """Drain on the first signal; on a second one, or SIGQUIT, without any grace."""
    if threading.current_thread() is not threading.main_thread():
        return  # a worker inside of another program, which has the signals

    def handle(number: int, _frame: FrameType | None) -> None:
        supervisor.begin_drain(at_once=number == signal.SIGQUIT)

    for number in SIGNALS:
        signal.signal(number, handle)
