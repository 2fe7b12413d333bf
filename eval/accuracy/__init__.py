"""How good masks are: DSC, NSD, detection, comparison of runs, checks of masks."""
