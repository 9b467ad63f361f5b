"""Reports, as pure functions from records to text.

``terminal``, ``markdown`` and ``page`` are for people, ``exchange`` is for other programs. They share the modules here.
"""
