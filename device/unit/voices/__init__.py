"""Which enrolled voices are refused too often, so that people should enrol again."""
