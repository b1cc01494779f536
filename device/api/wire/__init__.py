"""What goes over the wire: connections, how many and how long they may be silent, HTTP, schemas."""
