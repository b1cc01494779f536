"""The registry's memory: its tables, their migrations, and what may be read and written in them."""
