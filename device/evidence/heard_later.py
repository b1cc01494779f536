"""What nobody at the door waits for: an embedding that is made while the decision goes on."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import numpy.typing as npt


class HeardByNewer:
    """The same voice as the speaker model that is to follow hears it, still being made."""

    def __init__(self, made: Future[npt.NDArray[np.float32]]) -> None:
        self._made = made

    def take(self, within_s: float) -> npt.NDArray[np.float32] | None:
        """A copy, to be overwritten by who takes it; None where it could not be made in time."""
        try:
            return self._made.result(within_s).copy()
        except Exception:  # noqa: BLE001 - a network that fails keeps nobody out, and nothing grows
            return None
        finally:
            self.drop()

    def drop(self) -> None:
        """Overwrite it, now or when it is made."""
        self._made.add_done_callback(_overwritten)

    def __del__(self) -> None:
        self.drop()  # of a judgement that was thrown away, because speech went on


def _overwritten(made: Future[npt.NDArray[np.float32]]) -> None:
    if not made.cancelled() and made.exception() is None:
        made.result()[:] = 0.0
