"""One scan through both stages: `screening` is the file to read first.

windows           sub-volumes, what a network sees of them, and how overlapping answers become one map
screening_state   which sub-volumes were glanced at, kept, read
schedule, budget  in which order, and until when
second_look       reads what was found once more
findings          which findings stand
network_outputs   the probabilities of both networks that a mask rests on
"""
