"""The network that hears where recordings were joined, and the splices it learns from."""
