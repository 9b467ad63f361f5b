"""pytest-gpuperf: GPU inference performance-regression tests that can be trusted.

Importing this package imports nothing heavy: it happens in every pytest session of the environment.
"""

__version__ = "0.1.0"
