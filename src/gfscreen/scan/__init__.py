"""A scan and its geometry: `volume` reads and writes it, `anatomy` finds body and lungs, `region` chest and abdomen,
`grid` the way to the model grid and back.
"""
