"""From scans to the head of a Glance that judges cells: `learn` is the file to read first.

inserted         whole scans with lesions put in
examples         which cells are lesion, which are not, which are neither
features         what the trunk makes of them
gathering        both of every scan, kept in the cache
head             logistic regression
sub_volumes      sub-volumes with what reading them pays
reinforcement    the head as a policy that opens sub-volumes
"""
