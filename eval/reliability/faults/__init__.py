"""What the machine does to a run. Read in this order: `place` (how a run is started and looked at), `kills`,
`surroundings`.
"""
