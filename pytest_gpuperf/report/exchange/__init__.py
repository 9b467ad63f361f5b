"""Files of other tools and for other programs: perf_client, perf_analyzer, pytest-benchmark, CSV and JSON."""
