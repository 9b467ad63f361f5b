"""The pytest glue: options, fixtures, the gate, what pytest shows. Loaded only when a test uses it."""
