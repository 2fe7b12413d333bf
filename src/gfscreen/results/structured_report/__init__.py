"""What was measured as a DICOM structured report (TID 1500) beside the SEG. Needs highdicom, of the extra `pacs`."""
