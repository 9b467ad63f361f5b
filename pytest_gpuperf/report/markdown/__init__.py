"""Markdown: the pull request comment, and the comparison of one test on several devices."""
