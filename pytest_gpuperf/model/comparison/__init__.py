"""What comparisons say: verdicts, devices side by side, and what tests show each other."""
