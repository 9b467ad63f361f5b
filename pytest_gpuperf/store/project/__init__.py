"""The project that is measured: its checkout and commit, and where its store is."""
