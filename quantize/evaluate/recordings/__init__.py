"""Which recordings are evaluated, which of them meet which, and how they are cut."""
