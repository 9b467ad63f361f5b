"""Faults injected into runs of pytest --gpuperf: signals to each process in each phase; see ``injection``."""
