"""The parts of the pytest plugin: options, fixtures, the gate, what pytest shows. Loaded only when a test uses them."""
