"""Asks the runner to fail a node over in the middle of a job, and tells when that is done."""

import sys
import threading


class FailingOver:
    """A failover of the node that holds `key`, under way from now on."""

    def __init__(self, key):
        self._ended = threading.Event()
        print(f"fail over the node of {key}", flush=True)
        threading.Thread(target=self._await_answer, daemon=True).start()

    def _await_answer(self):
        if sys.stdin.readline().strip() == "failed over":
            self._ended.set()

    def is_over(self):
        return self._ended.is_set()


def require(is_so, what):
    if not is_so:
        sys.exit(f"FAILED: {what}")


def same(got, wanted, what):
    require(got == wanted, f"{what}: got {got!r}, wanted {wanted!r}")
