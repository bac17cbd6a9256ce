"""What a running logger says of itself: status, health page, metrics.

Reads counts of all other rooms; only ``service`` may import it.
"""
