"""What the product survives: `torture` (odd inputs), `fuzz` (damaged files), `faults` (of the machine), `soak` (memory)."""
