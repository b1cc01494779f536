"""The base of every error that `quantize` raises on purpose."""


class QuantizeError(Exception):
    """Something in `quantize` failed. The message is one line and says what to do about it."""


class ParityError(QuantizeError):
    """The small model does not do what the float model does; it is not released."""


class OtherBytesError(QuantizeError):
    """A file did not come out with the bytes that a release proved; it was not kept."""
