"""The wire: connections and their limits, HTTP and WebSockets, schemas."""
