"""What every service and command line shares: its journal, its metrics, what it tells systemd."""
