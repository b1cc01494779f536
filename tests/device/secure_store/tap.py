"""A listener on the line between unit and TPM: passes every byte on, both ways, and keeps a copy."""

from __future__ import annotations

import socket
import threading

from device.secure_store.hardware.swtpm import two_free_ports


class Tap:
    """Stands in front of an swtpm on `port` (commands) and `port + 1` (control)."""

    def __init__(self, target_port: int) -> None:
        self.heard = bytearray()
        self.port = two_free_ports()
        self._lock = threading.Lock()
        self._listeners = []
        for offset in (0, 1):
            listener = socket.create_server(("127.0.0.1", self.port + offset))
            self._listeners.append(listener)
            threading.Thread(target=self._serve, args=(listener, target_port + offset), daemon=True).start()

    @property
    def tcti(self) -> str:
        return f"swtpm:host=127.0.0.1,port={self.port}"

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()

    def _serve(self, listener: socket.socket, target_port: int) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", target_port))
            threads = [
                threading.Thread(target=self._pump, args=ends, daemon=True)
                for ends in ((client, server), (server, client))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:  # one client at a time, like swtpm
                thread.join()
            client.close()
            server.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                with self._lock:
                    self.heard += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return
