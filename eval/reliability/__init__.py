"""What the product survives: `torture` (odd inputs), `fuzz` (damaged files), `faults` (the machine), `soak` (hours)."""
