"""Commands about recordings and streams of several people."""
