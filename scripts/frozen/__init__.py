"""What `compare_checkouts.py` runs in the processes of a checkout, and how it compares what they found."""
