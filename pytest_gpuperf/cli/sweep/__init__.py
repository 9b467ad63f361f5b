"""``gpuperf sweep``: perf_client's command line, on the load generator of this package."""
