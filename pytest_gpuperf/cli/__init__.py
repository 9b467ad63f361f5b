"""The ``gpuperf`` command. It never imports pytest."""
