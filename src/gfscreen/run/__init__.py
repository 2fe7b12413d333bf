"""Many cases: found, read ahead, screened one by one, written, reported; no case stops another.

predict           a run from inputs to report: read first
case_run          one case, from its file to its mask
existing_masks    `stats`: measures masks that exist already
api               the same from Python
options           what a run may be asked for
background_io     reads the next scan and writes the last mask while one is computed on
report            what is said about a run, JSON
inputs_check      what is refused before any work
case_table        which DICOM series each mask was made of, CSV
summary           the last line of the log
output_folder, dicom_seg_output, native_maps, optional_outputs    where masks, SEGs, maps, statistics, preview go
"""
