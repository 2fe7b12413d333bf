"""What training reads: lists of scans, the cache on the model grid, and sub-volumes drawn from both.

lists              data lists and their checks
cache              scans on the model grid
sampling           sub-volumes drawn from them; prefetch draws ahead
prepare            public data sets to a list (public_data_sets, downloads, dicom_seg); shared_data
pack               a list made small, to carry
inserted_cases     whole scans with inserted lesions, to evaluate on
"""
