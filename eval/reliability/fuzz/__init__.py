"""Damaged files for the reader. Read in this order: `target` (one execution and what counts as a finding), `mutate`,
`seeds`, `findings`, `worker`, `run`.
"""
