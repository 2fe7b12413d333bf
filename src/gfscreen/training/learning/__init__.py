"""From draws to weights: `loop` is the file to read first.

initialisation, state, distributed    what a run starts from, what it keeps, and on how many processes
glance_step, reward_pool              one step of the Glance, and the rewards that it learns from
lesion_weights                        how much a voxel counts
validation, run_log                   what is watched
assemble                              runs to a weights folder
"""
