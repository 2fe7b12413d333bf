"""Where the items of a cohort come from: a folder tree, a CSV manifest, a DICOMweb archive."""
